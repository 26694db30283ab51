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
pub const ETHASH: Source =
    Source { name: "ethash", parts: &[VOCAB, KECCAK, TEAM, DAG, ("ethash.cl", include_str!("../ethash.cl"))] };

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

/// The name of the part of [`KAWPOW`] that changes with every period.
pub const KAWPOW_PERIOD: &str = "kawpow_period.h";

/// Every family: KawPow with the sample in it.
pub const FAMILIES: &[Source] = &[SHA256D, ETHASH, KAWPOW];
