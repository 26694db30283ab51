//! Proof-of-work hashing: from a job to a proven share.
//!
//! A [`Job`] says what to hash and how small the hash must be. A [`scan::Scanner`] goes through nonces
//! and claims candidates; a [`Verifier`] hashes a claim again and makes it a [`Share`]; an [`Engine`]
//! runs scanners on pinned threads and never lets them run dry.
//!
//! ```
//! use std::sync::Arc;
//! use otedama_core::scan::{self, Candidates, Setup, StopFlag};
//! use otedama_core::{Algorithm, CompactBits, Job, JobId, NonceRange, tune};
//!
//! // The header of Bitcoin's genesis block; its last four bytes, the nonce, are found again.
//! let header = hex::decode(concat!(
//!     "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd",
//!     "7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c",
//! ))?;
//! let target = CompactBits(0x1d00ffff).to_target()?;
//! let job = Arc::new(Job::blob(JobId(1), Algorithm::Sha256d, &header, None, target)?);
//!
//! let setup = Setup::detect();
//! let mut scanner = tune::best(job.algorithm(), &setup, &tune::TuningCache::none(), None, 1)?.scanner(&setup)?;
//! let mut found = Candidates::with_capacity(8);
//! let mut space = job.space();
//! space.nonces = NonceRange { start: 2_083_000_000, count: 300_000 };
//! scanner.load(&job, None)?;
//! scanner.scan(&space, &StopFlag::new(), &mut found)?;
//! assert_eq!(found.as_slice()[0].nonce, 2_083_236_893);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # One idea
//!
//! An epoch is shared and immutable, a machine (scratchpad, midstates, program) is private and mutable,
//! a job is small and copied once.
//!
//! # Code map
//!
//! From low to high; a module may use those above it in this table and must not know those below.
//!
//! | module | knows | must not know |
//! | --- | --- | --- |
//! | [`algorithm`] | each function's name, input, nonce slot, byte order, difficulty one, epoch kind: one table | CPUs, memory, threads |
//! | [`hash256`], [`target`] | digests, targets, compact bits, difficulties, hash rates; **the one comparison** of a hash with a target ([`Digest::meets`]) | how a hash is computed |
//! | `files` | the user's cache folder; files written whole or not at all | what is in them |
//! | [`cpu`] | what this CPU offers, as tokens | algorithms |
//! | [`simd`] | vectors of 32-bit and 64-bit lanes behind tokens, prefetching (unsafe) | algorithms |
//! | [`primitive`] | SHA-256, HMAC, PBKDF2, Salsa20, BLAKE2b, Argon2d, Keccak, a round of AES as their specifications put them: the oracles | vectors, tokens |
//! | [`algo`] | kernels: the same function once readable, once per shape of machine (unsafe only in `sha256d::sha_ni` and `randomx::aes_ni`) | detection, threads, jobs, targets beyond a word |
//! | [`mem`] | pages: huge, node-bound, read-only (unsafe); the only `mmap`, `mbind`, `mprotect`; code that is written at one address and runs at another | algorithms |
//! | `jit` | programs of RandomX and KawPow to machine code, and what runs them: machines, and KawPow's kernels (unsafe; x86-64 Linux) | epochs, jobs |
//! | `gpu` | devices behind CUDA and OpenCL: their memory, queues, programs, sensors; a file per family of GPU kernels (unsafe in `cuda` and `opencl`; feature `gpu`) | which device is used, engines |
//! | [`topology`] | NUMA nodes, caches, cores, from sysfs or hwloc | who will run where |
//! | [`epoch`] | building, placing, sharing and dropping what an algorithm keeps in memory between jobs; a full part kept on disk | scanners, pools |
//! | [`builders`] | how each algorithm fills its epochs' memory: **the one table** from algorithm to builder | scanners |
//! | [`job`] | a job, its search space (nonce x version), a candidate | kernels |
//! | [`scan`] | the traits [`scan::Scanner`] and [`scan::Hasher`], and **the one table** of kernels | networks, clocks, logs |
//! | [`selftest`] | known answers every kernel gives before it may work (those that need an epoch: when asked) | which kernel is best |
//! | [`verify`] | turning a claim into a [`Share`]; nobody else can | wire formats |
//! | [`engine`] | threads, pinning, slices, pauses, counters | wire formats |
//! | [`report`] | the machine and its kernels as JSON | who reads it |
//! | [`measure`], [`power`], [`tune`] | benchmarks that check their results; joules; which kernel is fastest here | users, terminals |
//!
//! What is absent on purpose: this crate opens no socket, writes no log and prints nothing; only
//! [`engine`], [`measure`] and [`tune`] read a clock, and what drives GPUs to size launches, to know how old a
//! temperature is and to average watts; only [`tune`], [`epoch`] and `gpu`'s cache of
//! compiled kernels write files, and only where they are told to (a GPU that is opened without a word: below the
//! user's cache folder); no algorithm asks what the CPU can do; nothing below [`engine`] starts a thread except the
//! building of epochs, [`verify::check_all`] and [`tune::rank`]. Memory has limits that are stated: candidates, slices,
//! versions per scan, bytes of epochs.
//!
//! # Where this differs from the first design, and why
//!
//! - A scan covers a rectangle, [`SearchSpace`]: nonces x versions, gone through nonce by nonce. A plain
//!   range of numbers could not express that one message schedule serves many versions, and a rectangle
//!   cut at a nonce leaves a rectangle, so a stopped scan can be resumed exactly.
//! - [`scan::Candidates`] that are full end the scan early instead of failing it: a target that
//!   everything meets is then merely slow, and nothing is lost.
//! - Known answers that need an epoch take a cache of 256 MiB, too much for every start. A kernel of
//!   RandomX, Ethash or KawPow hashes something small as its oracle does before it may work; the published
//!   answers are for [`selftest::hasher_in`] and its like, which `otedama-cli selftest` runs.
//! - The list of kernels lives in `scan`, but choosing by measurement is [`tune`]'s: the table stays free
//!   of clocks and files.
//!
//! # Adding an algorithm
//!
//! 1. Its row in [`algorithm`], its oracle in `algo/<name>/portable.rs`, its vectors in `vectors/`.
//! 2. Its kernels beside the oracle, tested against it; a `scan/<name>.rs` that adapts them to the traits.
//! 3. Its rows in `scan/table.rs`, a known answer in [`selftest`] and, if it has epochs, a builder in
//!    [`builders`]. Engine, verifier, benchmark, tuning
//!    and command line then know it without a change.

pub mod algo;
pub mod algorithm;
pub mod builders;
pub mod cpu;
pub mod engine;
pub mod epoch;
mod files;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod hash256;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod jit;
pub mod job;
pub mod measure;
pub mod mem;
pub mod power;
pub mod primitive;
pub mod report;
pub mod scan;
pub mod selftest;
pub mod simd;
pub mod target;
pub mod topology;
pub mod tune;
pub mod verify;

pub use algorithm::Algorithm;
pub use engine::Engine;
pub use hash256::{Digest, Hash256};
pub use job::{Candidate, Job, JobId, NonceRange, SearchSpace, VersionMask, VersionRange, Work};
pub use target::{CompactBits, Difficulty, HashRate, Target};
pub use verify::{Share, Verifier};

/// The examples of the README, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
