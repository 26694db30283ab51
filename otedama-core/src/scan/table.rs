//! Which kernels exist: one table, the only place where the choice of instruction set is made.
//!
//! A row names its algorithm, what it needs of the CPU and how it is made. Rows stand in the order in
//! which one would guess them to be fast, the oracle last; [`crate::tune`] measures instead of guessing.

use std::fmt;

use super::randomx::{self, Machinery};
use super::sealed::{self, Ethash, Function, KawPow};
use super::{Hasher, Scanner, scrypt, sha256d};
use crate::algo;
use crate::algorithm::Algorithm;
use crate::cpu::{Cpu, Isa};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::jit;
use crate::mem::{MemError, Request};
use crate::selftest::{self, SelfTestError};
use crate::topology::NodeId;

/// What a kernel may use: the CPU (less what the user took away) and where its memory should come from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The CPU.
    pub cpu: Cpu,
    /// Page sizes to try and the NUMA node to be near, for kernels that need memory.
    pub memory: Request,
    /// The NUMA node whose copy of an epoch is read.
    pub node: NodeId,
    /// Whether programs may be compiled to machine code.
    pub compile: bool,
}

impl Setup {
    /// Everything this machine offers.
    pub fn detect() -> Setup {
        Setup { cpu: Cpu::detect(), memory: Request::default(), node: NodeId(0), compile: true }
    }
}

/// One way to compute one algorithm on this CPU.
pub struct Kernel {
    algorithm: Algorithm,
    name: &'static str,
    needs: Option<Isa>,
    make: Make,
}

/// A kernel of KawPow, or the reason why it cannot compile programs.
type KawPowMade = Result<Box<dyn algo::kawpow::Kernel>, String>;

/// Makes an algorithm's bare kernel, or nothing if the CPU lacks the token it needs.
enum Make {
    Sha256d(fn(&Cpu) -> Option<Box<dyn algo::sha256d::Kernel>>),
    Scrypt(fn(&Cpu) -> Option<Box<dyn algo::scrypt::Kernel>>),
    RandomX(Machinery),
    Ethash(fn(&Cpu) -> Option<Box<dyn algo::ethash::Kernel>>),
    KawPow(fn(&Cpu) -> Option<KawPowMade>),
}

impl Kernel {
    /// What it computes.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its full name: the algorithm's and its own, such as `sha256d-avx512`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The instruction set extension it cannot do without, if any.
    pub fn needs(&self) -> Option<Isa> {
        self.needs
    }

    /// Whether this CPU has what it needs.
    pub fn runs_on(&self, cpu: &Cpu) -> bool {
        self.needs.is_none_or(|isa| cpu.has(isa))
    }

    /// Why it cannot be used under this setup, if so: an instruction set extension that is not there, or
    /// executable memory that is refused.
    pub fn obstacle(&'static self, setup: &Setup) -> Option<KernelError> {
        if let Some(isa) = self.needs.filter(|&isa| !setup.cpu.has(isa)) {
            return Some(KernelError::Missing { kernel: self.name, isa });
        }
        let code = |reason| KernelError::Code { kernel: self.name, reason };
        match self.make {
            Make::RandomX(Machinery::Compiled(_)) => compiler_obstacle(setup).map(code),
            Make::KawPow(_) if !self.is_oracle() => compiler_obstacle(setup).map(code),
            _ => None,
        }
    }

    /// Whether it is the algorithm's oracle: slow, readable, runs on any CPU.
    pub fn is_oracle(&self) -> bool {
        self.needs.is_none()
    }

    /// A scanner of this kernel that has passed its self-test.
    ///
    /// # Errors
    /// If the CPU lacks what it needs, its memory cannot be had, or a known answer came out wrong.
    pub fn scanner(&'static self, setup: &Setup) -> Result<Box<dyn Scanner>, KernelError> {
        self.obstacle(setup).map_or(Ok(()), Err)?;
        let mut scanner = match self.make {
            Make::Sha256d(make) => sha256d::scanner(self.name, self.made(make(&setup.cpu))?),
            Make::Scrypt(make) => scrypt::scanner(self.name, self.made(make(&setup.cpu))?, setup)?,
            Make::RandomX(machinery) => return randomx::scanner(self.algorithm, self.name, machinery, setup),
            Make::Ethash(_) | Make::KawPow(_) => {
                return sealed::scanner(self.algorithm, self.name, self.function(setup)?, setup);
            }
        };
        selftest::scanner(scanner.as_mut()).map_err(|error| self.failed(error))?;
        Ok(scanner)
    }

    /// A hasher of this kernel that has passed its self-test.
    ///
    /// # Errors
    /// As [`Kernel::scanner`].
    pub fn hasher(&'static self, setup: &Setup) -> Result<Box<dyn Hasher>, KernelError> {
        self.obstacle(setup).map_or(Ok(()), Err)?;
        let mut hasher = match self.make {
            Make::Sha256d(make) => sha256d::hasher(self.name, self.made(make(&setup.cpu))?),
            Make::Scrypt(make) => scrypt::hasher(self.name, self.made(make(&setup.cpu))?, setup)?,
            Make::RandomX(machinery) => return randomx::hasher(self.algorithm, self.name, machinery, setup),
            Make::Ethash(_) | Make::KawPow(_) => {
                return sealed::hasher(self.algorithm, self.name, self.function(setup)?, setup);
            }
        };
        selftest::hasher(self.algorithm, hasher.as_mut()).map_err(|error| self.failed(error))?;
        Ok(hasher)
    }

    /// The function on sealed headers that this row makes.
    fn function(&self, setup: &Setup) -> Result<Box<dyn Function>, KernelError> {
        match self.make {
            Make::Ethash(make) => Ok(Box::new(Ethash(self.made(make(&setup.cpu))?))),
            Make::KawPow(make) => {
                let code = |reason| KernelError::Code { kernel: self.name, reason };
                Ok(Box::new(KawPow::new(self.made(make(&setup.cpu))?.map_err(code)?)))
            }
            _ => Err(KernelError::None(self.algorithm)),
        }
    }

    fn made<K>(&self, kernel: Option<K>) -> Result<K, KernelError> {
        match (kernel, self.needs) {
            (Some(kernel), _) => Ok(kernel),
            (None, Some(isa)) => Err(KernelError::Missing { kernel: self.name, isa }),
            (None, None) => Err(KernelError::None(self.algorithm)),
        }
    }

    fn failed(&self, error: SelfTestError) -> KernelError {
        KernelError::SelfTest { kernel: self.name, error }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({})", self.name)
    }
}

/// Why programs cannot be compiled, if so.
fn compiler_obstacle(setup: &Setup) -> Option<String> {
    if setup.compile { randomx::obstacle() } else { Some("compiling was switched off".to_owned()) }
}

/// Every kernel of an algorithm, whether this CPU can run it or not.
pub fn kernels(algorithm: Algorithm) -> impl Iterator<Item = &'static Kernel> {
    KERNELS.iter().filter(move |kernel| kernel.algorithm == algorithm)
}

/// The kernel of this name: the full one (`sha256d-avx512`) or without the algorithm (`avx512`).
///
/// # Errors
/// If the algorithm has no such kernel; the message lists those it has.
pub fn kernel(algorithm: Algorithm, name: &str) -> Result<&'static Kernel, KernelError> {
    let short = name.strip_prefix(algorithm.name()).and_then(|rest| rest.strip_prefix('-')).unwrap_or(name);
    let matches = |kernel: &&Kernel| kernel.name.strip_prefix(algorithm.name()) == Some(&format!("-{short}"));
    kernels(algorithm).find(matches).ok_or_else(|| KernelError::Unknown {
        algorithm,
        name: name.to_owned(),
        expected: kernels(algorithm).map(|kernel| kernel.name).collect::<Vec<_>>().join(", "),
    })
}

/// The algorithm's oracle: the kernel that every other is judged by.
///
/// # Errors
/// If this version has no kernel for the algorithm.
pub fn oracle(algorithm: Algorithm) -> Result<&'static Kernel, KernelError> {
    kernels(algorithm).find(|kernel| kernel.is_oracle()).ok_or(KernelError::None(algorithm))
}

/// The kernel that proves what others claim, one claim at a time: the oracle, unless a hash takes the oracle
/// so long that proving would show in the hash rate; then the one that hashes a single input soonest.
///
/// # Errors
/// If this version has no kernel for the algorithm.
pub fn prover(algorithm: Algorithm, setup: &Setup) -> Result<&'static Kernel, KernelError> {
    let soonest = |kernel: &&Kernel| matches!(kernel.make, Make::RandomX(Machinery::Compiled(1)));
    let soonest = kernels(algorithm).find(soonest).filter(|kernel| kernel.obstacle(setup).is_none());
    soonest.map_or_else(|| oracle(algorithm), Ok)
}

/// Why a kernel cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// No kernel of this name.
    #[error("unknown {algorithm} kernel '{name}': expected {expected}")]
    Unknown {
        /// The algorithm.
        algorithm: Algorithm,
        /// The name asked for.
        name: String,
        /// The names there are.
        expected: String,
    },
    /// The CPU lacks what it needs, or the user took it away.
    #[error("kernel {kernel} needs {isa}: this CPU does not offer it")]
    Missing {
        /// The kernel.
        kernel: &'static str,
        /// What it needs.
        isa: Isa,
    },
    /// This version has no kernel for the algorithm, or none that this CPU can run.
    #[error("no {0} kernel can run here: expected an algorithm that `selftest` lists")]
    None(Algorithm),
    /// Its memory could not be had.
    #[error("kernel {kernel} got no memory: {error}")]
    Memory {
        /// The kernel.
        kernel: &'static str,
        /// Why.
        #[source]
        error: MemError,
    },
    /// Programs cannot be compiled.
    #[error("kernel {kernel} cannot compile programs: {reason}")]
    Code {
        /// The kernel.
        kernel: &'static str,
        /// Why not.
        reason: String,
    },
    /// A device cannot be used.
    #[cfg(feature = "gpu")]
    #[error(transparent)]
    Device(#[from] crate::gpu::GpuError),
    /// It computed a known answer wrongly and must not be used.
    #[error("kernel {kernel} failed its self-test and is not used: {error}")]
    SelfTest {
        /// The kernel.
        kernel: &'static str,
        /// What came out wrong.
        #[source]
        error: SelfTestError,
    },
}

const fn row(algorithm: Algorithm, name: &'static str, needs: Isa, make: Make) -> Kernel {
    Kernel { algorithm, name, needs: Some(needs), make }
}

/// A row that runs everywhere: the readable form that the others are judged by.
const fn oracle_row(algorithm: Algorithm, name: &'static str, make: Make) -> Kernel {
    Kernel { algorithm, name, needs: None, make }
}

/// RandomX: machines in turn on one thread, and the interpreter.
const fn randomx_row(algorithm: Algorithm, name: &'static str, machines: usize) -> Kernel {
    row(algorithm, name, Isa::AesNi, Make::RandomX(Machinery::Compiled(machines)))
}

/// Ethash and Etchash have the same kernels.
#[cfg(target_arch = "x86_64")]
const ETHASH_AVX512: Make =
    Make::Ethash(|cpu| Some(Box::new(algo::ethash::LanesKernel::avx512(cpu.avx512()?))));
#[cfg(target_arch = "x86_64")]
const ETHASH_AVX2: Make = Make::Ethash(|cpu| Some(Box::new(algo::ethash::LanesKernel::avx2(cpu.avx2()?))));
const ETHASH_PORTABLE: Make = Make::Ethash(|_| Some(Box::new(algo::ethash::Portable)));

/// A kernel of KawPow that compiles its programs, if it may.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn boxed<K: algo::kawpow::Kernel + 'static>(
    kernel: Result<K, crate::mem::exec::ExecError>,
) -> Option<KawPowMade> {
    Some(kernel.map(|kernel| Box::new(kernel) as _).map_err(|error| error.to_string()))
}

static KERNELS: &[Kernel] = &[
    #[cfg(target_arch = "x86_64")]
    row(
        Algorithm::Sha256d,
        "sha256d-avx512",
        Isa::Avx512,
        Make::Sha256d(|cpu| Some(Box::new(algo::sha256d::LanesKernel::new(cpu.avx512()?)))),
    ),
    #[cfg(target_arch = "x86_64")]
    row(
        Algorithm::Sha256d,
        "sha256d-sha-ni",
        Isa::ShaNi,
        Make::Sha256d(|cpu| Some(Box::new(algo::sha256d::ShaNiKernel::new(cpu.sha_ni()?)))),
    ),
    #[cfg(target_arch = "x86_64")]
    row(
        Algorithm::Sha256d,
        "sha256d-avx2",
        Isa::Avx2,
        Make::Sha256d(|cpu| Some(Box::new(algo::sha256d::LanesKernel::new(cpu.avx2()?)))),
    ),
    oracle_row(
        Algorithm::Sha256d,
        "sha256d-portable",
        Make::Sha256d(|_| Some(Box::new(algo::sha256d::Portable))),
    ),
    #[cfg(target_arch = "x86_64")]
    row(
        Algorithm::Scrypt,
        "scrypt-avx512-x8",
        Isa::Avx512,
        Make::Scrypt(|cpu| Some(Box::new(algo::scrypt::QuadsKernel::avx512_x8(cpu.avx512()?)))),
    ),
    #[cfg(target_arch = "x86_64")]
    row(
        Algorithm::Scrypt,
        "scrypt-avx512-x4",
        Isa::Avx512,
        Make::Scrypt(|cpu| Some(Box::new(algo::scrypt::QuadsKernel::avx512_x4(cpu.avx512()?)))),
    ),
    #[cfg(target_arch = "x86_64")]
    row(
        Algorithm::Scrypt,
        "scrypt-avx512-x12",
        Isa::Avx512,
        Make::Scrypt(|cpu| Some(Box::new(algo::scrypt::QuadsKernel::avx512_x12(cpu.avx512()?)))),
    ),
    #[cfg(target_arch = "x86_64")]
    row(
        Algorithm::Scrypt,
        "scrypt-avx2-x4",
        Isa::Avx2,
        Make::Scrypt(|cpu| Some(Box::new(algo::scrypt::QuadsKernel::avx2_x4(cpu.avx2()?)))),
    ),
    #[cfg(target_arch = "x86_64")]
    row(
        Algorithm::Scrypt,
        "scrypt-avx2-x6",
        Isa::Avx2,
        Make::Scrypt(|cpu| Some(Box::new(algo::scrypt::QuadsKernel::avx2_x6(cpu.avx2()?)))),
    ),
    #[cfg(target_arch = "x86_64")]
    row(
        Algorithm::Scrypt,
        "scrypt-avx2-x8",
        Isa::Avx2,
        Make::Scrypt(|cpu| Some(Box::new(algo::scrypt::QuadsKernel::avx2_x8(cpu.avx2()?)))),
    ),
    oracle_row(
        Algorithm::Scrypt,
        "scrypt-portable",
        Make::Scrypt(|_| Some(Box::new(algo::scrypt::Portable::new()))),
    ),
    randomx_row(Algorithm::RandomXV1, "randomx-jit-x2", 2),
    randomx_row(Algorithm::RandomXV1, "randomx-jit-x1", 1),
    randomx_row(Algorithm::RandomXV1, "randomx-jit-x4", 4),
    oracle_row(Algorithm::RandomXV1, "randomx-portable", Make::RandomX(Machinery::Interpreted)),
    randomx_row(Algorithm::RandomXV2, "randomx-v2-jit-x2", 2),
    randomx_row(Algorithm::RandomXV2, "randomx-v2-jit-x1", 1),
    randomx_row(Algorithm::RandomXV2, "randomx-v2-jit-x4", 4),
    oracle_row(Algorithm::RandomXV2, "randomx-v2-portable", Make::RandomX(Machinery::Interpreted)),
    #[cfg(target_arch = "x86_64")]
    row(Algorithm::Ethash, "ethash-avx512", Isa::Avx512, ETHASH_AVX512),
    #[cfg(target_arch = "x86_64")]
    row(Algorithm::Ethash, "ethash-avx2", Isa::Avx2, ETHASH_AVX2),
    oracle_row(Algorithm::Ethash, "ethash-portable", ETHASH_PORTABLE),
    #[cfg(target_arch = "x86_64")]
    row(Algorithm::Etchash, "etchash-avx512", Isa::Avx512, ETHASH_AVX512),
    #[cfg(target_arch = "x86_64")]
    row(Algorithm::Etchash, "etchash-avx2", Isa::Avx2, ETHASH_AVX2),
    oracle_row(Algorithm::Etchash, "etchash-portable", ETHASH_PORTABLE),
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    row(
        Algorithm::KawPow,
        "kawpow-avx512",
        Isa::Avx512,
        Make::KawPow(|cpu| boxed(jit::KawPowKernel::avx512(cpu.avx512()?, cpu.avx512_bit_counts()))),
    ),
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    row(
        Algorithm::KawPow,
        "kawpow-avx2",
        Isa::Avx2,
        Make::KawPow(|cpu| boxed(jit::KawPowKernel::avx2(cpu.avx2()?))),
    ),
    oracle_row(
        Algorithm::KawPow,
        "kawpow-portable",
        Make::KawPow(|_| Some(Ok(Box::new(algo::kawpow::Portable)))),
    ),
];
