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
        self.parts.iter().map(|(file, text)| format!("#line 1 \"{file}\"\n{text}\n")).collect()
    }
}

/// The vocabulary, which stands first in every family.
pub const VOCAB: (&str, &str) = ("vocab.h", include_str!("../common/vocab.h"));

const SHA256: (&str, &str) = ("sha256.h", include_str!("../common/sha256.h"));

/// SHA256d of headers: `sha256d_search`, groups of 256.
pub const SHA256D: Source =
    Source { name: "sha256d", parts: &[VOCAB, SHA256, ("sha256d.cl", include_str!("../sha256d.cl"))] };

/// RandomX, all variants: the entry points and the macros it needs are listed at the top of its text.
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

/// Every family whose text does not change.
pub const FAMILIES: &[Source] = &[SHA256D, RANDOMX];
