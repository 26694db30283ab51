//! GPU kernels as text: one source for OpenCL C, CUDA C++ and host C, written in the vocabulary of
//! `common/vocab.h`. This crate compiles and runs nothing; whoever does gets the text of a [`Source`],
//! parts joined in order, and passes tuning by `-D`.
//!
//! # What kernels have in common
//!
//! - Arguments are buffers and `u32`/`u64` values; a search's last two are `hits` and `room`
//!   (layout: `otd_hit` in `common/vocab.h`).
//! - A kernel never decides: it reports nonces whose hash meets the top 64 bits of a target, and the host
//!   proves them.
//! - What can be tried without a GPU is: as host C where there are no barriers (`tests/host_c.rs`), through PoCL
//!   (otedama-core's tests), and for CUDA by `cuda/`: `kernels.py` compiles and counts, `emulate.py` runs the
//!   PTX's lanes on the CPU.
//! - `-DOTD_ROLLED=1` keeps loops rolled, for compilers that take long over unrolled ones (PoCL).
#![forbid(unsafe_code)]

/// A kernel family's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name of the family, `sha256d` for example.
    pub name: &'static str,
    /// File names and texts, in the order in which the compiler should read them.
    pub parts: &'static [(&'static str, &'static str)],
}

impl Source {
    /// The whole text, each part under a `#line` directive that names its file.
    pub fn text(&self) -> String {
        self.text_with(None)
    }

    /// The whole text with another text in the place of one part: `(file name, text)`.
    ///
    /// # Panics
    /// If there is no such part.
    pub fn text_with(&self, other: Option<(&str, &str)>) -> String {
        let part = |&(file, text): &(&'static str, &'static str)| match other {
            Some((name, other)) if name == file => format!("#line 1 \"{file}\"\n{other}\n"),
            _ => format!("#line 1 \"{file}\"\n{text}\n"),
        };
        if let Some((name, _)) = other {
            assert!(self.parts.iter().any(|(file, _)| *file == name), "{} has no part {name}", self.name);
        }
        self.parts.iter().map(part).collect()
    }
}

/// The vocabulary, which stands first in every family.
pub const VOCAB: (&str, &str) = ("vocab.h", include_str!("../common/vocab.h"));

const SHA256: (&str, &str) = ("sha256.h", include_str!("../common/sha256.h"));

/// SHA256d of headers: `sha256d_search`, groups of 256.
pub const SHA256D: Source =
    Source { name: "sha256d", parts: &[VOCAB, SHA256, ("sha256d.cl", include_str!("../sha256d.cl"))] };

const KECCAK: (&str, &str) = ("keccak.h", include_str!("../common/keccak.h"));
const TEAM: (&str, &str) = ("team.h", include_str!("../common/team.h"));
const DAG: (&str, &str) = ("dag.h", include_str!("../common/dag.h"));

/// Ethash and Etchash: `ethash_dag`, which makes datasets for KawPow as well, and `ethash_search`; groups of
/// `OTD_BLOCK` lanes (128).
pub const ETHASH: Source = Source {
    name: "ethash",
    parts: &[VOCAB, KECCAK, TEAM, DAG, ("ethash.cl", include_str!("../ethash.cl"))],
};

/// KawPow: `kawpow_search`, groups of `OTD_BLOCK` lanes (256). The part [`KAWPOW_PERIOD`] is the program of one period,
/// 406800, that stands there as a sample: put that of the block's period in its place with [`Source::text_with`].
pub const KAWPOW: Source = Source {
    name: "kawpow",
    parts: &[
        VOCAB,
        KECCAK,
        TEAM,
        DAG,
        ("kawpow.h", include_str!("../common/kawpow.h")),
        (KAWPOW_PERIOD, include_str!("../common/kawpow_period.h")),
        ("kawpow.cl", include_str!("../kawpow.cl")),
    ],
};

/// KawPow with a line in the place of the program, to be compiled to PTX ahead: the host puts the period's program
/// there. No assembler takes it as it is.
pub const KAWPOW_TEMPLATE: Source = Source {
    name: "kawpow-template",
    parts: &[
        VOCAB,
        KECCAK,
        TEAM,
        DAG,
        ("kawpow.h", include_str!("../common/kawpow.h")),
        ("kawpow_period.ptx.h", include_str!("../common/kawpow_period.ptx.h")),
        ("kawpow.cl", include_str!("../kawpow.cl")),
    ],
};

/// The name of the part of [`KAWPOW`] that changes with every period.
pub const KAWPOW_PERIOD: &str = "kawpow_period.h";

const SALSA20: (&str, &str) = ("salsa20.h", include_str!("../common/salsa20.h"));

/// Scrypt with N = 1024, r = 1, p = 1: `scrypt_begin`, `scrypt_fill`, `scrypt_mix`, `scrypt_end`, groups of 64.
/// `OTD_GAP` and `OTD_TRANSPOSE` tune it.
pub const SCRYPT: Source =
    Source { name: "scrypt", parts: &[VOCAB, SHA256, SALSA20, ("scrypt.cl", include_str!("../scrypt.cl"))] };

/// RandomX, all variants: the entry points and the macros they need are listed at the top of its text.
pub const RANDOMX: Source = Source {
    name: "randomx",
    parts: &[
        VOCAB,
        ("aes.h", include_str!("../common/aes.h")),
        ("blake2b.h", include_str!("../common/blake2b.h")),
        ("rounding.h", include_str!("../common/rounding.h")),
        ("randomx.cl", include_str!("../randomx.cl")),
        ("randomx_machine.cl", include_str!("../randomx_machine.cl")),
    ],
};

/// Every family; KawPow with the sample in it.
pub const FAMILIES: &[Source] = &[SHA256D, SCRYPT, ETHASH, KAWPOW, RANDOMX];

/// A family with the macros that somebody compiles it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// The family's name, and what tells this build from its others: `scrypt-gap2`.
    pub name: &'static str,
    /// The family.
    pub source: Source,
    /// Macros and their values, in the order in which they are defined.
    pub defines: &'static [(&'static str, u64)],
    /// Whether its PTX is part of this crate: see [`PTX`].
    pub embedded: bool,
}

/// What `kernels/cuda/kernels.py` compiles for CUDA and counts instructions of, without a GPU. A new family enters
/// here, with the macros its host side gives it.
pub const BUILDS: &[Build] = &[
    Build { name: "sha256d", source: SHA256D, defines: &[], embedded: true },
    Build { name: "scrypt", source: SCRYPT, defines: &[("OTD_GAP", 1)], embedded: true },
    Build { name: "scrypt-gap2", source: SCRYPT, defines: &[("OTD_GAP", 2)], embedded: true },
    Build { name: "scrypt-gap4", source: SCRYPT, defines: &[("OTD_GAP", 4)], embedded: true },
    Build { name: "scrypt-direct", source: SCRYPT, defines: &[("OTD_TRANSPOSE", 0)], embedded: false },
    Build { name: "ethash", source: ETHASH, defines: IN_ONE, embedded: true },
    Build { name: "ethash-parts4", source: ETHASH, defines: &[("OTD_DAG_PARTS", 4)], embedded: false },
    Build { name: "kawpow", source: KAWPOW, defines: IN_ONE, embedded: false },
    Build { name: "kawpow-copies8", source: KAWPOW, defines: COPIES, embedded: false },
    Build { name: "kawpow-template", source: KAWPOW_TEMPLATE, defines: IN_ONE, embedded: true },
    Build { name: "randomx-v1", source: RANDOMX, defines: &monero(256, 0, 0), embedded: true },
    Build { name: "randomx-v2", source: RANDOMX, defines: &monero(384, 1, 0), embedded: true },
    Build { name: "randomx-v1-light", source: RANDOMX, defines: &monero(256, 0, 1), embedded: false },
];

/// A dataset in one buffer: CUDA has no limit for one.
const IN_ONE: &[(&str, u64)] = &[("OTD_DAG_PARTS", 1)];
const COPIES: &[(&str, u64)] = &[("OTD_CACHE_COPIES", 8), ("OTD_BLOCK", 1024)];

/// The macros of RandomX as Monero has it: what tells its versions apart, and whether items come from the cache.
const fn monero(program_size: u64, v2: u64, light: u64) -> [(&'static str, u64); 14] {
    [
        ("RX_SIZE", program_size),
        ("RX_L1", 16 << 10),
        ("RX_L2", 256 << 10),
        ("RX_L3", 2 << 20),
        ("RX_DATASET_MASK", (1 << 31) - 64),
        ("RX_DATASET_STARTS", 524_288),
        ("RX_CACHE_LINES", 1 << 22),
        ("RX_CACHE_ACCESSES", 8),
        ("RX_JUMP_BITS", 8),
        ("RX_JUMP_OFFSET", 8),
        ("RX_V2", v2),
        ("RX_GROUP", 32),
        ("RX_PART", 34_078_719),
        ("RX_LIGHT", light),
    ]
}

/// PTX of a [`Build`] for compute capability 7.5 and later, PTX ISA 8.0: drivers from 525 on compile it for their card,
/// and nothing else need be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ptx {
    /// The build's name.
    pub build: &'static str,
    /// The text.
    pub text: &'static str,
}

/// The PTX of every embedded build, as `kernels/cuda/kernels.py ptx --write` made it.
pub const PTX: &[Ptx] = &[
    Ptx { build: "sha256d", text: include_str!("../ptx/sha256d.ptx") },
    Ptx { build: "scrypt", text: include_str!("../ptx/scrypt.ptx") },
    Ptx { build: "scrypt-gap2", text: include_str!("../ptx/scrypt-gap2.ptx") },
    Ptx { build: "scrypt-gap4", text: include_str!("../ptx/scrypt-gap4.ptx") },
    Ptx { build: "ethash", text: include_str!("../ptx/ethash.ptx") },
    Ptx { build: "kawpow-template", text: include_str!("../ptx/kawpow-template.ptx") },
    Ptx { build: "randomx-v1", text: include_str!("../ptx/randomx-v1.ptx") },
    Ptx { build: "randomx-v2", text: include_str!("../ptx/randomx-v2.ptx") },
];

/// The embedded PTX of a family with these macros, if there is such a build. A macro that stands at 0 must be named too.
pub fn ptx(family: &str, defines: &[(&str, u64)]) -> Option<&'static str> {
    let build = BUILDS.iter().find(|build| build.source.name == family && build.defines == defines)?;
    PTX.iter().find(|ptx| ptx.build == build.name).map(|ptx| ptx.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_built_and_every_embedded_build_has_its_ptx() {
        for family in FAMILIES {
            assert!(BUILDS.iter().any(|build| build.source == *family), "{} is in no build", family.name);
        }
        let embedded: Vec<_> = BUILDS.iter().filter(|build| build.embedded).map(|build| build.name).collect();
        assert_eq!(embedded, PTX.iter().map(|ptx| ptx.build).collect::<Vec<_>>());
        for ptx in PTX {
            assert!(ptx.text.starts_with(".version 8.0\n.target sm_75\n"), "{}", ptx.build);
        }
        assert_eq!(ptx("scrypt", &[("OTD_GAP", 2)]), Some(PTX[2].text));
        assert_eq!((ptx("scrypt", &[("OTD_GAP", 16)]), ptx("sha256d", &[])), (None, Some(PTX[0].text)));
    }
}
