//! The C library called in any order with any handles and any numbers: nothing panics or crashes, a handle that was
//! freed or is of another kind is refused, outputs of refused calls stay as they were, and every hash that comes
//! back is the oracle's.
#![no_main]
// Calling as C does is what this is about. Buffers are always as long as they are said to be: more cannot be refused.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::ptr;

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use otedama::*;
use otedama_core::primitive::sha256::double_digest;

#[derive(Arbitrary, Debug)]
enum Call {
    NewStop,
    NewHasher(u32, Setup, Option<Vec<u8>>),
    NewScanner(u32, Setup),
    NewVerifier(u32, Setup),
    NewStore(StoreInput),
    Raise(Which),
    Hash(Which, Vec<u8>),
    HashMany { hasher: Which, bytes: Vec<u8>, len: u8, count: u8, out_len: u16 },
    HashSealed { hasher: Which, hash: [u8; 32], height: u64, nonces: Vec<u64> },
    Overlap { hasher: Which, at: u8, out: u8 },
    Load { scanner: Which, job: JobInput, epoch: Which },
    Scan { scanner: Which, space: SpaceInput, stop: Which, capacity: u8 },
    Check { verifier: Which, job: JobInput, nonce: u64, version: Option<u32>, pow: Option<[u8; 32]> },
    Get { store: Which, algorithm: u32, key: Vec<u8>, number: u32, depth: u32, stop: Which },
    Number(Vec<u8>),
    Target(u32, u32, f64, [u8; 32]),
    Kernel(usize, Setup),
    Devices(u16),
    Free(u8, Which),
}

#[derive(Arbitrary, Debug)]
struct StoreInput {
    size_off: i8,
    threads: u32,
    budget: u64,
    placement: u32,
    node: u32,
}

#[derive(Arbitrary, Debug)]
struct SpaceInput {
    size_off: i8,
    versions: (u32, u32),
    start: u64,
    count: u16,
}

/// One of the handles seen so far, alive or freed, perhaps off by some bytes; or NULL.
#[derive(Arbitrary, Debug)]
struct Which {
    index: u8,
    off: Option<u8>,
    null: bool,
}

#[derive(Arbitrary, Debug)]
struct Setup {
    null: bool,
    size_off: i8,
    without_isa: u8,
    pages: u8,
    no_compiling: u8,
}

#[derive(Arbitrary, Debug)]
struct JobInput {
    size_off: i8,
    algorithm: u32,
    header: Option<[u8; 80]>,
    bytes: Vec<u8>,
    mask: u32,
    target: [u8; 32],
    reserved: bool,
}

/// Handles seen, with the kind they were made as and whether they are alive.
#[derive(Default)]
struct Handles(Vec<(usize, u8, bool)>);

impl Handles {
    fn pick<T>(&self, which: &Which) -> *mut T {
        if which.null || self.0.is_empty() {
            return ptr::null_mut();
        }
        let (address, ..) = self.0[usize::from(which.index) % self.0.len()];
        // Never followed: handles are looked up.
        ptr::without_provenance_mut(address.wrapping_add(usize::from(which.off.unwrap_or(0))))
    }

    fn made<T>(&mut self, status: otedama_status, handle: *mut T, kind: u8) {
        assert_eq!(status == OTEDAMA_OK, !handle.is_null(), "{}", last_error());
        if status == OTEDAMA_OK {
            assert!(!self.0.iter().any(|(address, _, alive)| *alive && *address == handle.addr()));
            self.0.push((handle.addr(), kind, true));
        }
    }

    /// Whether a handle is alive and of this kind.
    fn good<T>(&self, handle: *mut T, kind: u8) -> bool {
        self.0.contains(&(handle.addr(), kind, true))
    }
}

const KINDS: u8 = 5;
const STOP: u8 = 0;
const HASHER: u8 = 1;
const SCANNER: u8 = 2;
const VERIFIER: u8 = 3;
const STORE: u8 = 4;

fn last_error() -> String {
    unsafe { CStr::from_ptr(otedama_last_error()) }.to_str().expect("messages are UTF-8").to_owned()
}

/// What every answer must be: no bug, and if refused, for a reason that is told.
fn sane(status: otedama_status) -> bool {
    assert!(status != OTEDAMA_PANIC && status != OTEDAMA_OTHER, "{}", last_error());
    let message = unsafe { CStr::from_ptr(otedama_status_message(status)) };
    assert_ne!(message, c"unknown status", "{status}");
    assert!(status == OTEDAMA_OK || !last_error().is_empty());
    status == OTEDAMA_OK
}

fn size<T>(off: i8) -> u32 {
    // Only ever too small: a struct that is shorter than it says cannot be told.
    (size_of::<T>() as u32).wrapping_add_signed(-i32::from(off.unsigned_abs() / 100))
}

fn setup(numbers: &Setup) -> otedama_setup {
    otedama_setup {
        struct_size: size::<otedama_setup>(numbers.size_off),
        without_isa: numbers.without_isa.into(),
        pages: numbers.pages.into(),
        no_compiling: numbers.no_compiling.into(),
        tuning_file: ptr::null(),
    }
}

fn setup_at(numbers: &Setup, setup: &otedama_setup) -> *const otedama_setup {
    if numbers.null { ptr::null() } else { setup }
}

fn job(input: &JobInput) -> otedama_job {
    let bytes = input.header.as_ref().map_or(input.bytes.as_slice(), |header| header);
    otedama_job {
        struct_size: size::<otedama_job>(input.size_off),
        algorithm: input.algorithm % 9,
        id: 1,
        input: bytes.as_ptr(),
        input_len: bytes.len(),
        height: 0,
        version_mask: input.mask,
        reserved: input.reserved.into(),
        target_le: input.target,
    }
}

fuzz_target!(|calls: Vec<Call>| {
    let before = otedama_live_handles();
    let mut handles = Handles::default();
    for call in calls.iter().take(64) {
        make(call, &mut handles);
    }
    for index in 0..handles.0.len() {
        let (address, kind, alive) = handles.0[index];
        assert_eq!(free(kind, ptr::without_provenance_mut(address)) == OTEDAMA_OK, alive);
    }
    assert_eq!(otedama_live_handles(), before);
});

fn free(kind: u8, handle: *mut u8) -> otedama_status {
    match kind {
        STOP => otedama_stop_free(handle.cast()),
        HASHER => otedama_hasher_free(handle.cast()),
        SCANNER => otedama_scanner_free(handle.cast()),
        VERIFIER => otedama_verifier_free(handle.cast()),
        _ => otedama_store_free(handle.cast()),
    }
}

fn make(call: &Call, handles: &mut Handles) {
    const CANARY: [u8; 32] = [0xc5; 32];
    match call {
        Call::NewStop => {
            let mut stop = ptr::null_mut();
            let status = unsafe { otedama_stop_new(&mut stop) };
            sane(status);
            handles.made(status, stop, STOP);
        }
        Call::NewHasher(algorithm, numbers, kernel) => {
            let (numbers_there, mut hasher) = (setup(numbers), ptr::null_mut());
            let name = kernel.as_ref().map(|name| {
                CString::new(name.iter().copied().filter(|&byte| byte != 0).collect::<Vec<u8>>())
                    .expect("no NUL")
            });
            let name = name.as_ref().map_or(ptr::null(), |name| name.as_ptr());
            let setup = setup_at(numbers, &numbers_there);
            let status = unsafe { otedama_hasher_new(algorithm % 9, name, ptr::null(), setup, &mut hasher) };
            sane(status);
            handles.made(status, hasher, HASHER);
        }
        Call::NewScanner(algorithm, numbers) => {
            let (numbers_there, mut scanner) = (setup(numbers), ptr::null_mut());
            let setup = setup_at(numbers, &numbers_there);
            // RandomX would take megabytes for each.
            let algorithm = algorithm % 6;
            let status =
                unsafe { otedama_scanner_new(algorithm, ptr::null(), ptr::null(), setup, &mut scanner) };
            sane(status);
            handles.made(status, scanner, SCANNER);
        }
        Call::NewVerifier(algorithm, numbers) => {
            let (numbers_there, mut verifier) = (setup(numbers), ptr::null_mut());
            let setup = setup_at(numbers, &numbers_there);
            let status = unsafe { otedama_verifier_new(algorithm % 6, ptr::null(), setup, &mut verifier) };
            sane(status);
            handles.made(status, verifier, VERIFIER);
        }
        Call::NewStore(numbers) => {
            let config = otedama_store_config {
                struct_size: size::<otedama_store_config>(numbers.size_off),
                threads: numbers.threads,
                // Nothing that takes long is ever built.
                byte_budget: 1 + numbers.budget % (1 << 20),
                placement: numbers.placement % 4,
                node: numbers.node,
                setup: ptr::null(),
            };
            let mut store = ptr::null_mut();
            let status = unsafe { otedama_store_new(&config, &mut store) };
            sane(status);
            handles.made(status, store, STORE);
        }
        Call::Raise(which) => {
            let stop = handles.pick(which);
            assert_eq!(sane(otedama_stop_raise(stop)), handles.good(stop, STOP));
        }
        Call::Hash(which, input) => {
            let (hasher, mut hash) = (handles.pick(which), CANARY);
            let status =
                unsafe { otedama_hasher_hash(hasher, input.as_ptr(), input.len(), hash.as_mut_ptr()) };
            if sane(status) {
                assert!(handles.good(hasher, HASHER));
                // scrypt takes 80 bytes; which of the two it was is not kept here.
                assert!(hash == double_digest(input) || input.len() == 80);
            } else {
                assert_eq!(hash, CANARY);
            }
        }
        Call::HashMany { hasher, bytes, len, count, out_len } => {
            let hasher = handles.pick(hasher);
            let (len, count) = (usize::from(*len), usize::from(*count));
            let mut inputs = bytes.clone();
            inputs.resize(len * count, 0x11);
            let mut out = vec![0xc5; usize::from(*out_len)];
            let status = unsafe {
                otedama_hasher_hash_many(hasher, inputs.as_ptr(), len, count, out.as_mut_ptr(), out.len())
            };
            if sane(status) {
                assert!(handles.good(hasher, HASHER) && out.len() >= 32 * count);
                for index in 0..count {
                    let oracle = double_digest(&inputs[len * index..][..len]);
                    assert!(out[32 * index..][..32] == oracle || len == 80);
                }
                assert!(out[32 * count..].iter().all(|&byte| byte == 0xc5));
            } else {
                assert!(out.iter().all(|&byte| byte == 0xc5));
            }
        }
        Call::HashSealed { hasher, hash, height, nonces } => {
            let hasher = handles.pick(hasher);
            let (mut pow, mut mix) = (vec![0; 32 * nonces.len()], vec![0; 32 * nonces.len()]);
            let status = unsafe {
                otedama_hasher_hash_sealed(
                    hasher,
                    hash.as_ptr(),
                    *height,
                    nonces.as_ptr(),
                    nonces.len(),
                    pow.as_mut_ptr(),
                    pow.len(),
                    mix.as_mut_ptr(),
                    mix.len(),
                )
            };
            // No algorithm of sealed headers can be made without an epoch.
            assert!(!sane(status) || nonces.is_empty());
        }
        Call::Overlap { hasher, at, out } => {
            let hasher = handles.pick(hasher);
            let mut buffer = [0x5a; 512];
            let base = buffer.as_mut_ptr();
            let (at, out) = (usize::from(*at), usize::from(*out));
            let status = unsafe { otedama_hasher_hash(hasher, base.add(at), 80, base.add(out)) };
            let apart = out + 32 <= at || at + 80 <= out;
            if sane(status) {
                assert!(apart && handles.good(hasher, HASHER));
            } else {
                assert_eq!(buffer, [0x5a; 512]);
                assert_eq!(status == OTEDAMA_OVERLAP, !apart);
            }
        }
        Call::Load { scanner, job: input, epoch } => {
            let (scanner, epoch, job) = (handles.pick(scanner), handles.pick(epoch), job(input));
            let status = unsafe { otedama_scanner_load(scanner, &job, epoch) };
            assert!(!sane(status) || handles.good(scanner, SCANNER));
        }
        Call::Scan { scanner, space, stop, capacity } => {
            let (scanner, stop) = (handles.pick(scanner), handles.pick(stop));
            let space = otedama_space {
                struct_size: size::<otedama_space>(space.size_off),
                version_start: space.versions.0,
                version_count: space.versions.1 % 5,
                reserved: 0,
                nonce_start: space.start,
                nonce_count: 1 + u64::from(space.count) % 64,
            };
            let empty = otedama_candidate { nonce: 0, version: 0, has_version: 0 };
            let mut found = vec![empty; usize::from(*capacity)];
            let (mut count, mut tried, mut end) = (usize::MAX, u64::MAX, u32::MAX);
            let status = unsafe {
                otedama_scanner_scan(
                    scanner,
                    &space,
                    stop,
                    found.as_mut_ptr(),
                    found.len(),
                    &mut count,
                    &mut tried,
                    &mut end,
                )
            };
            if sane(status) {
                assert!(handles.good(scanner, SCANNER) && (stop.is_null() || handles.good(stop, STOP)));
                let versions = u64::from(space.version_count.max(1));
                assert!(count <= found.len() && tried <= space.nonce_count * versions && end <= 2);
                assert!(found[..count].is_sorted_by_key(|candidate| candidate.nonce));
                let nonces = space.nonce_start..=space.nonce_start + space.nonce_count - 1;
                assert!(found[..count].iter().all(|candidate| nonces.contains(&candidate.nonce)));
            } else {
                assert_eq!((count, tried, end), (usize::MAX, u64::MAX, u32::MAX));
            }
        }
        Call::Check { verifier, job: input, nonce, version, pow } => {
            let (verifier, job) = (handles.pick(verifier), job(input));
            let candidate = otedama_candidate {
                nonce: *nonce,
                version: version.unwrap_or(0),
                has_version: version.is_some().into(),
            };
            let pow = pow.as_ref().map_or(ptr::null(), |pow| pow.as_ptr());
            let mut share = std::mem::MaybeUninit::uninit();
            let status = unsafe {
                otedama_verifier_check(
                    verifier,
                    &job,
                    ptr::null(),
                    &candidate,
                    pow,
                    ptr::null(),
                    share.as_mut_ptr(),
                )
            };
            if sane(status) {
                let share = unsafe { share.assume_init() };
                assert!(handles.good(verifier, VERIFIER) && share.nonce == *nonce && share.job_id == 1);
            }
        }
        Call::Get { store, algorithm, key, number, depth, stop } => {
            let (store, stop) = (handles.pick(store), handles.pick(stop));
            let key = otedama_epoch_key {
                struct_size: size_of::<otedama_epoch_key>() as u32,
                algorithm: algorithm % 9,
                key: key.as_ptr(),
                key_len: key.len() as u32,
                number: *number,
            };
            let mut epoch = ptr::null_mut();
            let status =
                unsafe { otedama_store_get(store, &key, depth % 3, None, ptr::null_mut(), stop, &mut epoch) };
            // No budget here has room for one.
            assert!(!sane(status) && epoch.is_null());
        }
        Call::Number(name) => {
            let name = CString::new(name.iter().copied().filter(|&byte| byte != 0).collect::<Vec<u8>>())
                .expect("no NUL");
            let mut number = u32::MAX;
            if sane(unsafe { otedama_algorithm_number(name.as_ptr(), &mut number) }) {
                assert_eq!(unsafe { CStr::from_ptr(otedama_algorithm_name(number)) }, name.as_c_str());
            } else {
                assert_eq!(number, u32::MAX);
            }
        }
        Call::Target(algorithm, bits, difficulty, target) => {
            let (mut out, mut back) = (CANARY, 0.0);
            sane(unsafe { otedama_target_from_bits(*bits, out.as_mut_ptr()) });
            sane(unsafe { otedama_target_from_difficulty(algorithm % 9, *difficulty, out.as_mut_ptr()) });
            if sane(unsafe { otedama_target_to_difficulty(algorithm % 9, target.as_ptr(), &mut back) }) {
                assert!(back > 0.0);
            }
        }
        Call::Kernel(index, numbers) => {
            let (numbers_there, mut kernel) = (setup(numbers), std::mem::MaybeUninit::uninit());
            let index = index % (otedama_kernel_count() + 2);
            sane(unsafe { otedama_kernel_at(index, setup_at(numbers, &numbers_there), kernel.as_mut_ptr()) });
        }
        Call::Devices(size) => {
            let (mut text, mut len) = (vec![0xc5; usize::from(*size)], 0);
            let status =
                unsafe { otedama_devices_json(ptr::null(), text.as_mut_ptr(), text.len(), &mut len) };
            assert_eq!(sane(status), len < text.len());
        }
        Call::Free(kind, which) => {
            let (kind, handle) = (kind % KINDS, handles.pick::<u8>(which));
            let good = handles.good(handle, kind);
            assert_eq!(sane(free(kind, handle)), good || handle.is_null());
            for known in &mut handles.0 {
                if good && known.0 == handle.addr() {
                    known.2 = false;
                }
            }
        }
    }
}
