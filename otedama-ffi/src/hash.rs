//! Hashing: one input, many inputs of one length, or a header's hash with many nonces.

use std::cell::RefCell;
use std::ffi::c_char;
use std::sync::{Arc, Mutex, PoisonError};

use otedama_core::algorithm::EpochKind;
use otedama_core::epoch::Epoch;
use otedama_core::scan::{self, Attempt, HashError, Hasher, Kernel, Setup};
use otedama_core::{Algorithm, Digest, Hash256};

use crate::boundary::{Answer, Out, bytes, check_apart, check_room, guard, out, record, text, value};
use crate::devices::{self, Allowed};
use crate::status::otedama_status;
use crate::{handle, otedama_epoch, otedama_hasher, otedama_setup};

/// How many inputs are handed to the core at a time: more than any kernel has lanes, few enough for the stack.
const BATCH: usize = 128;

/// A hasher and the epoch it hashes with.
pub(crate) struct BoundHasher {
    hasher: Box<dyn Hasher>,
    epoch: Option<Arc<Epoch>>,
}

impl BoundHasher {
    /// Hashes `attempt(0)`, `attempt(1)` and so on to `count`. A batch fails for reasons that the first one meets
    /// too, so that nothing is written unless all is.
    fn hash<'a>(
        &mut self,
        count: usize,
        attempt: impl Fn(usize) -> Attempt<'a>,
        mut write: impl FnMut(usize, &Digest),
    ) -> Answer<()> {
        let mut digests = [Digest::plain([0; 32]); BATCH];
        for first in (0..count).step_by(BATCH) {
            let len = BATCH.min(count - first);
            let attempts: [Attempt<'a>; BATCH] = std::array::from_fn(|i| attempt(first + i.min(len - 1)));
            self.hasher.hash_many(&attempts[..len], self.epoch.as_ref(), &mut digests[..len])?;
            (first..).zip(&digests[..len]).for_each(|(index, digest)| write(index, digest));
        }
        Ok(())
    }

    fn hash_one(&mut self, input: &[u8]) -> Answer<[u8; 32]> {
        let mut digest = [Digest::plain([0; 32])];
        self.hasher.hash_many(&[Attempt::Bytes(input)], self.epoch.as_ref(), &mut digest)?;
        Ok(*digest[0].pow.as_raw())
    }
}

/// Makes a hasher: a kernel of `algorithm` that has passed its self-test, with the scratchpad it needs. `out_hasher`
/// receives it; free it with otedama_hasher_free().
///
/// `kernel`: a name such as "sha256d-avx2" or just "avx2"; NULL for the one that is fastest here at hashing many
/// inputs. `epoch`: the memory that RandomX, Ethash and KawPow hash with, kept alive by the hasher; NULL for the
/// others. `setup` may be NULL. Any thread.
///
/// Errors: OTEDAMA_UNKNOWN_ALGORITHM, OTEDAMA_UNKNOWN_KERNEL, OTEDAMA_UNSUPPORTED, OTEDAMA_SELF_TEST_FAILED,
/// OTEDAMA_OUT_OF_MEMORY, OTEDAMA_NO_EPOCH, OTEDAMA_WRONG_EPOCH, and those of its arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_hasher_new(
    algorithm: u32,
    kernel: *const c_char,
    epoch: *const otedama_epoch,
    setup: *const otedama_setup,
    out_hasher: *mut *mut otedama_hasher,
) -> otedama_status {
    guard(|| {
        let algorithm = devices::algorithm(algorithm)?;
        let (kernel, epoch) = (text!(kernel), handle::shared_or_none(epoch, "epoch")?);
        let setup = Allowed::new(&record!(setup or default))?;
        let mut out = out!(out_hasher);
        check_epoch(algorithm, epoch.as_deref())?;
        let kernel = setup.kernel(algorithm, kernel, epoch.as_ref(), 1)?;
        out.put(handle::own(BoundHasher { hasher: kernel.hasher(&setup.setup)?, epoch })?);
        Ok(())
    })
}

/// Frees a hasher. NULL is fine. Errors: OTEDAMA_BAD_HANDLE, OTEDAMA_BUSY while another call uses it; then nothing
/// is freed.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_hasher_free(hasher: *mut otedama_hasher) -> otedama_status {
    guard(|| handle::disown(hasher, "hasher"))
}

/// Hashes one input: `out_pow` receives the 32 bytes in the order the function outputs them (for SHA256d and scrypt
/// the reverse of how hashes are displayed). `input_len` is in bytes. One thread at a time per hasher.
///
/// Errors: OTEDAMA_BAD_INPUT for an input the algorithm does not take, OTEDAMA_OVERLAP, OTEDAMA_NULL_ARGUMENT,
/// OTEDAMA_BAD_HANDLE, OTEDAMA_BUSY.
///
/// cbindgen:ptrs-as-arrays=[[out_pow; 32]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_hasher_hash(
    hasher: *mut otedama_hasher,
    input: *const u8,
    input_len: usize,
    out_pow: *mut u8,
) -> otedama_status {
    guard(|| {
        let input = bytes!(input, input_len);
        let out_pow = out_pow.cast();
        let mut out: Out<[u8; 32]> = out!(out_pow);
        check_apart(&out.span(), &[input.span()])?;
        let pow = handle::with(hasher, "hasher", |hasher| hasher.hash_one(input.bytes))?;
        out.put(pow);
        Ok(())
    })
}

/// Hashes `count` inputs of `input_len` bytes each that lie one after the other in `inputs`: `out_pow`, of `pow_size`
/// bytes, receives their hashes of 32 bytes in the same order. One thread at a time per hasher.
///
/// Errors: OTEDAMA_BUFFER_TOO_SMALL if `pow_size` is less than 32 times `count`, and as otedama_hasher_hash().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_hasher_hash_many(
    hasher: *mut otedama_hasher,
    inputs: *const u8,
    input_len: usize,
    count: usize,
    out_pow: *mut u8,
    pow_size: usize,
) -> otedama_status {
    guard(|| {
        check_room("inputs", usize::MAX >> 1, count, input_len)?;
        let inputs = bytes!(inputs, input_len * count);
        check_room("out_pow", pow_size, count, 32)?;
        let out_pow = out_pow.cast();
        let mut out: Out<[u8; 32]> = out!(out_pow, count);
        check_apart(&out.span(), &[inputs.span()])?;
        handle::with(hasher, "hasher", |hasher| {
            let attempt = |index: usize| Attempt::Bytes(&inputs.bytes[index * input_len..][..input_len]);
            hasher.hash(count, attempt, |index, digest| {
                out.put_at(index, *digest.pow.as_raw());
            })
        })
    })
}

/// Hashes the hash of a sealed header with each of `count` nonces (Ethash, KawPow): `out_pow` and `out_mix`, of
/// `pow_size` and `mix_size` bytes, receive 32 bytes for each nonce in the same order. `header_hash` is in the order it
/// is fed to the function, `height` the block's. `out_mix` may be NULL. One thread at a time per hasher.
///
/// Errors: OTEDAMA_BAD_INPUT for an algorithm that hashes bytes, OTEDAMA_BUFFER_TOO_SMALL, and as
/// otedama_hasher_hash().
///
/// cbindgen:ptrs-as-arrays=[[header_hash; 32]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_hasher_hash_sealed(
    hasher: *mut otedama_hasher,
    header_hash: *const u8,
    height: u64,
    nonces: *const u64,
    count: usize,
    out_pow: *mut u8,
    pow_size: usize,
    out_mix: *mut u8,
    mix_size: usize,
) -> otedama_status {
    guard(|| {
        let header_hash = header_hash.cast::<[u8; 32]>();
        let header_hash = Hash256::from_raw(value!(header_hash));
        check_room("nonces", usize::MAX >> 1, count, 8)?;
        let nonces = nonces.cast();
        let nonces = bytes!(nonces, 8 * count);
        check_room("out_pow", pow_size, count, 32)?;
        if !out_mix.is_null() {
            check_room("out_mix", mix_size, count, 32)?;
        }
        let (out_pow, out_mix) = (out_pow.cast(), out_mix.cast::<[u8; 32]>());
        let mut pow: Out<[u8; 32]> = out!(out_pow, count);
        let mut mix: Option<Out<[u8; 32]>> = out!(out_mix, count or none);
        check_apart(&pow.span(), &[nonces.span()])?;
        if let Some(mix) = &mix {
            check_apart(&mix.span(), &[nonces.span(), pow.span()])?;
        }
        let (nonces, _) = nonces.bytes.as_chunks::<8>();
        let attempt = |index: usize| {
            let nonce = u64::from_ne_bytes(nonces[index]);
            Attempt::Sealed { header_hash: &header_hash, nonce, height }
        };
        handle::with(hasher, "hasher", |hasher| {
            hasher.hash(count, attempt, |index, digest| {
                pow.put_at(index, *digest.pow.as_raw());
                if let (Some(mix), Some(found)) = (&mut mix, digest.mix) {
                    mix.put_at(index, *found.as_raw());
                }
            })
        })
    })
}

/// Hashes one input without a hasher of yours: each thread keeps one for each algorithm it used, with a kernel that
/// is quick at a single input. The first call of a thread makes it, which may take milliseconds. Arguments as in
/// otedama_hasher_new() and otedama_hasher_hash(); `epoch` may be NULL where the algorithm needs none. Any thread.
///
/// cbindgen:ptrs-as-arrays=[[out_pow; 32]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_hash(
    algorithm: u32,
    epoch: *const otedama_epoch,
    input: *const u8,
    input_len: usize,
    out_pow: *mut u8,
) -> otedama_status {
    guard(|| {
        let algorithm = devices::algorithm(algorithm)?;
        let epoch = handle::shared_or_none(epoch, "epoch")?;
        let input = bytes!(input, input_len);
        let out_pow = out_pow.cast();
        let mut out: Out<[u8; 32]> = out!(out_pow);
        check_apart(&out.span(), &[input.span()])?;
        out.put(hash_here(algorithm, epoch.as_ref(), input.bytes)?);
        Ok(())
    })
}

/// Checks that there is an epoch of the algorithm where it needs one: before a kernel is made, which takes longer.
fn check_epoch(algorithm: Algorithm, epoch: Option<&Epoch>) -> Result<(), HashError> {
    match (epoch, algorithm.spec().epoch) {
        (Some(epoch), _) if epoch.key().algorithm != algorithm => {
            Err(HashError::WrongEpoch { algorithm, found: Box::new(*epoch.key()) })
        }
        (None, EpochKind::Key | EpochKind::Blocks(_)) => Err(HashError::NoEpoch(algorithm)),
        _ => Ok(()),
    }
}

fn hash_here(algorithm: Algorithm, epoch: Option<&Arc<Epoch>>, input: &[u8]) -> Answer<[u8; 32]> {
    check_epoch(algorithm, epoch.map(|epoch| &**epoch))?;
    thread_local! {
        static HASHERS: RefCell<Vec<(Algorithm, Box<dyn Hasher>)>> = const { RefCell::new(Vec::new()) };
    }
    HASHERS.with_borrow_mut(|hashers| {
        let place = match hashers.iter().position(|(known, _)| *known == algorithm) {
            Some(place) => place,
            None => {
                hashers.push((algorithm, quick_at_one(algorithm)?.hasher(&Setup::detect())?));
                hashers.len() - 1
            }
        };
        let mut digest = [Digest::plain([0; 32])];
        hashers[place].1.hash_many(&[Attempt::Bytes(input)], epoch, &mut digest)?;
        Ok(*digest[0].pow.as_raw())
    })
}

/// A kernel that wastes little on a single input: the first of few lanes that runs here, or what the core proves
/// single claims with.
fn quick_at_one(algorithm: Algorithm) -> Answer<&'static Kernel> {
    /// Lanes that are idle cost less than the portable form does.
    const FEW: usize = 4;
    static CHOSEN: Mutex<Vec<(Algorithm, &'static Kernel)>> = Mutex::new(Vec::new());
    let mut chosen = CHOSEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, kernel)) = chosen.iter().find(|(known, _)| *known == algorithm) {
        return Ok(kernel);
    }
    let setup = Setup::detect();
    let few = |kernel: &&'static Kernel| {
        kernel.obstacle(&setup).is_none() && kernel.hasher(&setup).is_ok_and(|hasher| hasher.lanes() <= FEW)
    };
    let kernel = match algorithm.spec().epoch {
        EpochKind::None => scan::kernels(algorithm).find(few),
        _ => None,
    };
    let kernel = kernel.map_or_else(|| scan::prover(algorithm, &setup), Ok)?;
    chosen.push((algorithm, kernel));
    Ok(kernel)
}
