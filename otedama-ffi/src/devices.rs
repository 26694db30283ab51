//! What this machine offers and how much of it may be used: setups, kernels, the machine as JSON.

use std::collections::HashMap;
use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use otedama_core::Algorithm;
use otedama_core::builders::ItemsBy;
use otedama_core::cpu::{Cpu, Isa};
use otedama_core::epoch::{Depth, Epoch};
use otedama_core::mem::{PageKind, PageSet, Request};
use otedama_core::report;
use otedama_core::scan::{self, Kernel, Setup};
use otedama_core::topology::Topology;
use otedama_core::tune::{self, TuningCache};

use crate::boundary::{Answer, Failure, Out, guard, out, record, text, zeroed};
use crate::status::{OTEDAMA_BAD_VALUE, OTEDAMA_BUFFER_TOO_SMALL, OTEDAMA_UNKNOWN_ALGORITHM, otedama_status};

/// SHA-256 of SHA-256 of a header of 80 bytes: Bitcoin.
pub const OTEDAMA_SHA256D: u32 = 1;
/// scrypt with N = 1024, r = 1, p = 1, of a header of 80 bytes: Litecoin, Dogecoin.
pub const OTEDAMA_SCRYPT: u32 = 2;
/// Ethash with epochs of 30,000 blocks: EthereumPoW.
pub const OTEDAMA_ETHASH: u32 = 3;
/// Ethash with epochs of 60,000 blocks: Ethereum Classic.
pub const OTEDAMA_ETCHASH: u32 = 4;
/// ProgPoW with Ravencoin's constants.
pub const OTEDAMA_KAWPOW: u32 = 5;
/// RandomX, first revision: Monero since 2019.
pub const OTEDAMA_RANDOMX_V1: u32 = 6;
/// RandomX, second revision of 2026.
pub const OTEDAMA_RANDOMX_V2: u32 = 7;

/// x86 SHA extensions.
pub const OTEDAMA_ISA_SHA_NI: u32 = 1;
/// x86 AES rounds.
pub const OTEDAMA_ISA_AES_NI: u32 = 2;
/// x86 AVX2.
pub const OTEDAMA_ISA_AVX2: u32 = 4;
/// x86 AVX-512 F, BW, DQ and VL.
pub const OTEDAMA_ISA_AVX512: u32 = 8;

/// Memory on the largest pages to be had: 1 GiB, 2 MiB, transparent, plain.
pub const OTEDAMA_PAGES_LARGEST: u32 = 0;
/// Memory on transparent huge pages, or plain ones.
pub const OTEDAMA_PAGES_TRANSPARENT: u32 = 1;
/// Memory on plain pages.
pub const OTEDAMA_PAGES_PLAIN: u32 = 2;

/// What of this machine may be used. NULL in its place, or zeros, means all of it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct otedama_setup {
    /// sizeof(otedama_setup).
    pub struct_size: u32,
    /// OTEDAMA_ISA_ bits of the extensions that may not be used, though the CPU has them.
    pub without_isa: u32,
    /// An OTEDAMA_PAGES_ number: the memory to ask for. What cannot be had is replaced by the next best.
    pub pages: u32,
    /// 1: nothing may be compiled to machine code at run time; RandomX is then interpreted, many times slower. valgrind
    /// needs this or --smc-check=all.
    pub no_compiling: u32,
    /// A file in which the fastest kernel of this machine is remembered between runs, or NULL: then it is
    /// measured once in each process (some tens of milliseconds). A string that ends in NUL, UTF-8.
    pub tuning_file: *const c_char,
}

/// One way to compute an algorithm.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct otedama_kernel {
    /// Its full name, such as "sha256d-avx512": a static string.
    pub name: *const c_char,
    /// The OTEDAMA_ number of its algorithm.
    pub algorithm: u32,
    /// The OTEDAMA_ISA_ bit it cannot do without, or 0.
    pub needs_isa: u32,
    /// 1 if it can be used under the setup given, else 0.
    pub usable: u32,
    /// 1 if it is the readable form that the others are judged by, else 0.
    pub oracle: u32,
}

/// The number of an algorithm of this name, such as "sha256d": `out_algorithm` receives it. Names: sha256d, scrypt,
/// ethash, etchash, kawpow, randomx, randomx-v2. Any thread.
///
/// Errors: OTEDAMA_UNKNOWN_ALGORITHM, OTEDAMA_BAD_TEXT, OTEDAMA_NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_algorithm_number(
    name: *const c_char,
    out_algorithm: *mut u32,
) -> otedama_status {
    guard(|| {
        let name = text!(name).ok_or_else(|| Failure::null("name"))?;
        let mut out = out!(out_algorithm);
        out.put(number(name.parse()?)?);
        Ok(())
    })
}

/// The name of an algorithm: a static string, or NULL for a number that is none. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_algorithm_name(algorithm: u32) -> *const c_char {
    static NAMES: OnceLock<Vec<CString>> = OnceLock::new();
    let names =
        NAMES.get_or_init(|| ALGORITHMS.iter().map(|(_, algorithm)| c_string(algorithm.name())).collect());
    let row = ALGORITHMS.iter().position(|(number, _)| *number == algorithm);
    row.map_or(ptr::null(), |row| names[row].as_ptr())
}

/// How many kernels this version has, whether this CPU can run them or not. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_kernel_count() -> usize {
    rows().len()
}

/// The kernel of an index from 0: `out_kernel` receives it. Those of an algorithm come together, its oracle last.
/// `setup` may be NULL. Any thread.
///
/// Errors: OTEDAMA_BAD_VALUE from otedama_kernel_count() on, OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_STRUCT_SIZE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_kernel_at(
    index: usize,
    setup: *const otedama_setup,
    out_kernel: *mut otedama_kernel,
) -> otedama_status {
    guard(|| {
        let setup = Allowed::new(&record!(setup or default))?;
        let mut out = out!(out_kernel);
        let row = rows().get(index).ok_or_else(|| {
            Failure::new(OTEDAMA_BAD_VALUE, format!("index is {index}: expected less than {}", rows().len()))
        })?;
        out.put(otedama_kernel {
            name: row.name.as_ptr(),
            algorithm: number(row.kernel.algorithm())?,
            needs_isa: row.kernel.needs().map_or(0, bit),
            usable: row.kernel.obstacle(&setup.setup).is_none().into(),
            oracle: row.kernel.is_oracle().into(),
        });
        Ok(())
    })
}

/// The OTEDAMA_ISA_ bits of the extensions this CPU has. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_cpu_isa() -> u32 {
    Cpu::detect().isas().into_iter().map(bit).sum()
}

/// The machine as JSON, the same as `otedama-cli devices --json` prints: CPU, instruction sets, NUMA nodes, caches,
/// pages, and every device with its kernels. Sizes are in bytes. `out_text`, of `text_size` bytes, receives UTF-8
/// that ends in NUL; `out_len` the length without it. `setup` may be NULL. Any thread.
///
/// Errors: OTEDAMA_BUFFER_TOO_SMALL, and this once `out_len` is written all the same, so that a call with
/// `text_size` 0 and `out_text` NULL asks for the length; OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_STRUCT_SIZE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_devices_json(
    setup: *const otedama_setup,
    out_text: *mut u8,
    text_size: usize,
    out_len: *mut usize,
) -> otedama_status {
    guard(|| {
        let setup = Allowed::new(&record!(setup or default))?;
        let mut len = out!(out_len);
        let mut text: Out<u8> = out!(out_text, text_size);
        let json = report::devices(&setup.setup.cpu, &Topology::detect()).to_string();
        len.put(json.len());
        if text_size <= json.len() {
            let message = format!("out_text is {text_size} bytes: expected {} and a NUL", json.len());
            return Err(Failure::new(OTEDAMA_BUFFER_TOO_SMALL, message));
        }
        for (index, byte) in json.bytes().chain([0]).enumerate() {
            text.put_at(index, byte);
        }
        Ok(())
    })
}

/// The algorithm of a number.
pub(crate) fn algorithm(number: u32) -> Answer<Algorithm> {
    let row = ALGORITHMS.iter().find(|(known, _)| *known == number);
    row.map(|(_, algorithm)| *algorithm).ok_or_else(|| {
        Failure::new(
            OTEDAMA_UNKNOWN_ALGORITHM,
            format!(
                "algorithm is {number}: expected 1 to {}, an OTEDAMA_ number such as OTEDAMA_SHA256D",
                ALGORITHMS.len()
            ),
        )
    })
}

/// A setup as the core takes it.
pub(crate) struct Allowed {
    pub(crate) setup: Setup,
    tuning: TuningCache,
}

impl Allowed {
    pub(crate) fn new(setup: &otedama_setup) -> Answer<Allowed> {
        let known = Isa::ALL.map(bit).into_iter().sum::<u32>();
        if setup.without_isa & !known != 0 {
            let message = format!("without_isa is {:#x}: expected bits of {known:#x}", setup.without_isa);
            return Err(Failure::new(OTEDAMA_BAD_VALUE, message));
        }
        let gone = |isa: &Isa| setup.without_isa & bit(*isa) != 0;
        let cpu = Isa::ALL.into_iter().filter(gone).fold(Cpu::detect(), |cpu, isa| cpu.without(isa));
        let pages = match setup.pages {
            OTEDAMA_PAGES_LARGEST => PageSet::ALL,
            OTEDAMA_PAGES_TRANSPARENT => PageSet::of(&[PageKind::Transparent]),
            OTEDAMA_PAGES_PLAIN => PageSet::PLAIN,
            other => {
                return Err(Failure::new(OTEDAMA_BAD_VALUE, format!("pages is {other}: expected 0, 1 or 2")));
            }
        };
        let tuning_file = text!(setup.tuning_file);
        Ok(Allowed {
            setup: Setup {
                cpu,
                memory: Request { pages, ..Request::default() },
                compile: !flag(setup.no_compiling, "no_compiling")?,
                ..Setup::detect()
            },
            tuning: tuning_file.map_or(TuningCache::none(), TuningCache::at),
        })
    }

    /// A setup that a struct of ours points to, or all of the machine.
    pub(crate) fn at(setup: *const otedama_setup) -> Answer<Allowed> {
        let setup = if setup.is_null() { zeroed() } else { record!(setup) };
        Allowed::new(&setup)
    }

    /// How dataset items are computed.
    pub(crate) fn items_by(&self) -> ItemsBy {
        if self.setup.compile { ItemsBy::Compiler } else { ItemsBy::Interpreter }
    }

    /// The kernel of this name, or the fastest here on so many threads at once.
    pub(crate) fn kernel(
        &self,
        algorithm: Algorithm,
        name: Option<&str>,
        epoch: Option<&Arc<Epoch>>,
        threads: usize,
    ) -> Answer<&'static Kernel> {
        if let Some(name) = name {
            return Ok(scan::kernel(algorithm, name)?);
        }
        if self.tuning.path().is_some() {
            return Ok(tune::best(algorithm, &self.setup, &self.tuning, epoch, threads)?);
        }
        // Measured once in a process, or once more when there is a dataset to measure with.
        type Measured = HashMap<(Algorithm, Vec<Isa>, bool, Option<Depth>, usize), &'static Kernel>;
        static MEASURED: Mutex<Option<Measured>> = Mutex::new(None);
        let depth = epoch.map(|epoch| epoch.depth());
        let key = (algorithm, self.setup.cpu.isas(), self.setup.compile, depth, threads);
        // Held while measuring: two measurements at once would spoil each other.
        let mut measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
        let measured = measured.get_or_insert_default();
        if let Some(kernel) = measured.get(&key) {
            return Ok(kernel);
        }
        let kernel = tune::best(algorithm, &self.setup, &self.tuning, epoch, threads)?;
        measured.insert(key, kernel);
        Ok(kernel)
    }
}

/// A member that is 0 or 1.
pub(crate) fn flag(number: u32, member: &str) -> Answer<bool> {
    match number {
        0 | 1 => Ok(number == 1),
        _ => Err(Failure::new(OTEDAMA_BAD_VALUE, format!("{member} is {number}: expected 0 or 1"))),
    }
}

/// A member that has no meaning yet.
pub(crate) fn reserved(number: u32, member: &str) -> Answer<()> {
    match number {
        0 => Ok(()),
        _ => Err(Failure::new(OTEDAMA_BAD_VALUE, format!("{member} is {number}: expected 0"))),
    }
}

/// The static, NUL-terminated name of a kernel.
pub(crate) fn kernel_name(name: &str) -> *const c_char {
    let row = rows().iter().find(|row| row.kernel.name() == name);
    row.map_or(c"".as_ptr(), |row| row.name.as_ptr())
}

/// Every algorithm with its number. Numbers are never reused.
const ALGORITHMS: [(u32, Algorithm); 7] = [
    (OTEDAMA_SHA256D, Algorithm::Sha256d),
    (OTEDAMA_SCRYPT, Algorithm::Scrypt),
    (OTEDAMA_ETHASH, Algorithm::Ethash),
    (OTEDAMA_ETCHASH, Algorithm::Etchash),
    (OTEDAMA_KAWPOW, Algorithm::KawPow),
    (OTEDAMA_RANDOMX_V1, Algorithm::RandomXV1),
    (OTEDAMA_RANDOMX_V2, Algorithm::RandomXV2),
];

fn number(algorithm: Algorithm) -> Answer<u32> {
    let row = ALGORITHMS.iter().find(|(_, known)| *known == algorithm);
    let message = || format!("{algorithm} has no number in this header");
    row.map(|(number, _)| *number).ok_or_else(|| Failure::new(OTEDAMA_UNKNOWN_ALGORITHM, message()))
}

fn bit(isa: Isa) -> u32 {
    match isa {
        Isa::ShaNi => OTEDAMA_ISA_SHA_NI,
        Isa::AesNi => OTEDAMA_ISA_AES_NI,
        Isa::Avx2 => OTEDAMA_ISA_AVX2,
        Isa::Avx512 => OTEDAMA_ISA_AVX512,
        // Of a newer core: it cannot be taken away from here.
        _ => 0,
    }
}

/// A kernel and its name as C reads it.
struct Row {
    kernel: &'static Kernel,
    name: CString,
}

fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    let row = |kernel: &'static Kernel| Row { kernel, name: c_string(kernel.name()) };
    ROWS.get_or_init(|| Algorithm::ALL.into_iter().flat_map(scan::kernels).map(row).collect())
}

fn c_string(name: &str) -> CString {
    CString::new(name).expect("names hold no NUL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_of_the_core_has_a_number() {
        for algorithm_there in Algorithm::ALL {
            assert_eq!(algorithm(number(algorithm_there).unwrap()).unwrap(), algorithm_there);
        }
    }

    #[test]
    fn every_extension_of_the_core_has_a_bit_of_its_own() {
        let bits = Isa::ALL.map(bit);
        assert_eq!(bits.iter().sum::<u32>().count_ones() as usize, Isa::ALL.len());
    }
}
