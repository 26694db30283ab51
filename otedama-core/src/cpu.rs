//! What this CPU can do, as values: possession proves permission.
//!
//! [`Cpu::detect`] asks the processor once. Each instruction set extension it offers is handed out as
//! a zero-sized token ([`ShaNi`], [`AesNi`], [`Avx2`], [`Avx512`]). A lane type can only be made from its token,
//! and a kernel can only be entered through one, so no kernel checks the CPU and no caller can enter a
//! kernel the CPU lacks. [`Cpu::only`] and [`Cpu::without`] take extensions away, which is how tests, benchmarks and
//! the `--isa` argument reach the slower kernels on a machine that has the faster ones.

use std::fmt;
use std::str::FromStr;

/// An instruction set extension that a kernel may need beyond the architecture's baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Isa {
    /// x86 SHA extensions (`sha256rnds2` and friends), with SSE4.1 and SSSE3.
    ShaNi,
    /// x86 AES rounds (`aesenc`, `aesdec`).
    AesNi,
    /// x86 AVX2: 256-bit integer vectors; and the bit operations BMI1 and BMI2, which came with it.
    Avx2,
    /// x86 AVX-512 F, BW, DQ and VL: 512-bit integer vectors, rotates, three-input logic.
    Avx512,
}

impl Isa {
    /// Every extension this version knows of, in the order they are listed to people.
    pub const ALL: [Isa; 4] = [Isa::ShaNi, Isa::AesNi, Isa::Avx2, Isa::Avx512];

    /// The name used in kernel names, arguments and reports.
    pub fn name(self) -> &'static str {
        match self {
            Isa::ShaNi => "sha-ni",
            Isa::AesNi => "aes-ni",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no instruction set extension this version knows of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown instruction set '{0}': expected one of sha-ni, aes-ni, avx2, avx512")]
pub struct UnknownIsa(pub String);

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Isa::ALL.into_iter().find(|isa| isa.name() == s).ok_or_else(|| UnknownIsa(s.to_owned()))
    }
}

/// What the running processor offers, less what the caller took away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    brand: String,
    sha_ni: Option<ShaNi>,
    aes_ni: Option<AesNi>,
    avx2: Option<Avx2>,
    avx512: Option<Avx512>,
    avx512_bit_counts: Option<Avx512BitCounts>,
}

impl Cpu {
    /// Asks the processor and the operating system (AVX state saved on a context switch) what may be
    /// used. Cheap enough to call anywhere; the answer does not change while the process runs.
    pub fn detect() -> Cpu {
        detect()
    }

    /// A CPU of which nothing but the architecture's baseline is used.
    pub fn baseline() -> Cpu {
        Cpu::detect().only(&[])
    }

    /// The same CPU with every extension not in `allowed` taken away.
    #[must_use]
    pub fn only(&self, allowed: &[Isa]) -> Cpu {
        Isa::ALL
            .into_iter()
            .filter(|isa| !allowed.contains(isa))
            .fold(self.clone(), |cpu, isa| cpu.without(isa))
    }

    /// The same CPU with one extension taken away.
    #[must_use]
    pub fn without(&self, isa: Isa) -> Cpu {
        let mut cpu = self.clone();
        match isa {
            Isa::ShaNi => cpu.sha_ni = None,
            Isa::AesNi => cpu.aes_ni = None,
            Isa::Avx2 => cpu.avx2 = None,
            Isa::Avx512 => (cpu.avx512, cpu.avx512_bit_counts) = (None, None),
        }
        cpu
    }

    /// Whether the extension is present and allowed.
    pub fn has(&self, isa: Isa) -> bool {
        match isa {
            Isa::ShaNi => self.sha_ni.is_some(),
            Isa::AesNi => self.aes_ni.is_some(),
            Isa::Avx2 => self.avx2.is_some(),
            Isa::Avx512 => self.avx512.is_some(),
        }
    }

    /// The extensions present and allowed, in [`Isa::ALL`]'s order.
    pub fn isas(&self) -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|&isa| self.has(isa)).collect()
    }

    /// The processor's own name for itself, or the architecture's name where it has none.
    pub fn brand(&self) -> &str {
        &self.brand
    }

    /// The token that enters SHA-NI kernels, if this CPU has and may use them.
    pub fn sha_ni(&self) -> Option<ShaNi> {
        self.sha_ni
    }

    /// The token that allows AES rounds, if this CPU has and may use them.
    pub fn aes_ni(&self) -> Option<AesNi> {
        self.aes_ni
    }

    /// The token that enters AVX2 kernels, if this CPU has and may use them.
    pub fn avx2(&self) -> Option<Avx2> {
        self.avx2
    }

    /// The token that enters AVX-512 kernels, if this CPU has and may use them.
    pub fn avx512(&self) -> Option<Avx512> {
        self.avx512
    }

    /// The token that allows counting ones and leading zeros on AVX-512 vectors, if this CPU has and may use
    /// AVX-512 and these.
    pub fn avx512_bit_counts(&self) -> Option<Avx512BitCounts> {
        self.avx512_bit_counts
    }
}

/// Proof that the SHA extensions, SSE4.1 and SSSE3 may be used. Only [`Cpu`] hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShaNi(());

/// Proof that AES rounds may be used. Only [`Cpu`] hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AesNi(());

/// Proof that AVX2, BMI1 and BMI2 may be used. Only [`Cpu`] hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

/// Proof that AVX-512 F, BW, DQ and VL, BMI1 and BMI2 may be used. Only [`Cpu`] hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

/// Proof that AVX-512 CD and VPOPCNTDQ may be used. Only [`Cpu`] hands it out, beside [`Avx512`]: not every
/// processor that has the one has the other, and a kernel must do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512BitCounts(());

#[cfg(target_arch = "x86_64")]
fn detect() -> Cpu {
    let cpuid = raw_cpuid::CpuId::new();
    let brand = match cpuid.get_processor_brand_string() {
        Some(name) => name.as_str().split_whitespace().collect::<Vec<_>>().join(" "),
        None => "x86_64".to_owned(),
    };
    let sha_ni = is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("sse4.1")
        && is_x86_feature_detected!("ssse3");
    let bmi = is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2");
    let avx512 = bmi
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    let bit_counts =
        avx512 && is_x86_feature_detected!("avx512cd") && is_x86_feature_detected!("avx512vpopcntdq");
    Cpu {
        brand,
        sha_ni: sha_ni.then_some(ShaNi(())),
        aes_ni: is_x86_feature_detected!("aes").then_some(AesNi(())),
        avx2: (bmi && is_x86_feature_detected!("avx2")).then_some(Avx2(())),
        avx512: avx512.then_some(Avx512(())),
        avx512_bit_counts: bit_counts.then_some(Avx512BitCounts(())),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Cpu {
    Cpu {
        brand: std::env::consts::ARCH.to_owned(),
        sha_ni: None,
        aes_ni: None,
        avx2: None,
        avx512: None,
        avx512_bit_counts: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_everything_away_leaves_the_baseline() {
        let cpu = Cpu::detect();
        assert_eq!(cpu.only(&[]), Cpu::baseline());
        assert_eq!(cpu.only(&Isa::ALL), cpu);
        assert!(Cpu::baseline().isas().is_empty());
    }

    #[test]
    fn without_takes_away_exactly_one() {
        let cpu = Cpu::detect();
        for isa in cpu.isas() {
            let left = cpu.without(isa).isas();
            assert!(!left.contains(&isa));
            assert_eq!(left.len() + 1, cpu.isas().len());
        }
    }

    #[test]
    fn names_parse_back_and_strangers_are_named() {
        for isa in Isa::ALL {
            assert_eq!(isa.name().parse(), Ok(isa));
        }
        let error = "avx3".parse::<Isa>().unwrap_err().to_string();
        assert_eq!(error, "unknown instruction set 'avx3': expected one of sha-ni, aes-ni, avx2, avx512");
    }
}
