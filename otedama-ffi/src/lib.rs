//! The C face of otedama: `libotedama`, declared in `include/otedama.h`, which cbindgen writes from these
//! modules (`cargo test -p otedama-ffi --test header` compares; with `OTEDAMA_WRITE_HEADER=1` it writes).
//!
//! Every function is a thin one: arguments are taken at the [`boundary`], objects are found by their
//! [`handle`], the core does the work. The rules, which the header's head states for its readers, are kept in
//! one place each: NULL, sizes, overlap, text, panics and messages in `boundary`; freed, foreign and busy
//! handles in `handle`; numbers that are never reused in `status`. Unsafe code stands in `boundary` alone,
//! apart from the word in the functions' signatures.

// C's names for C's types.
#![allow(non_camel_case_types)]
// What C promises is in each function's comment, which the header repeats; `boundary` says it once for Rust.
#![allow(clippy::missing_safety_doc)]
#![allow(clippy::too_many_arguments)]

use std::ffi::c_void;

mod bench;
mod boundary;
mod devices;
mod engine;
mod epoch;
mod handle;
mod hash;
mod scan;
mod status;
mod verify;
mod version;

pub use bench::*;
pub use boundary::otedama_last_error;
pub use devices::*;
pub use engine::*;
pub use epoch::*;
pub use hash::*;
pub use scan::*;
pub use status::*;
pub use verify::*;
pub use version::*;

/// A flag that ends scans and builds. May be shared between threads.
pub struct otedama_stop(());

/// Where epochs are built and found again. May be shared between threads.
pub struct otedama_store(());

/// The memory of one epoch, read-only. May be shared between threads.
pub struct otedama_epoch(());

/// Hashes inputs. For one thread at a time.
pub struct otedama_hasher(());

/// Searches for nonces on the calling thread. For one thread at a time.
pub struct otedama_scanner(());

/// Proves claims. For one thread at a time.
pub struct otedama_verifier(());

/// Searches on threads of its own. May be shared between threads.
pub struct otedama_engine(());

/// Told how a build goes: bytes built and bytes to build, which grow when a second part follows the first. An answer
/// other than 0 cancels it.
pub type otedama_progress_fn =
    Option<extern "C" fn(userdata: *mut c_void, done_bytes: u64, total_bytes: u64) -> i32>;

/// Told how a measurement goes: the part done, 0 to 1, and hashes per second so far. An answer other than 0 ends it.
pub type otedama_bench_fn =
    Option<extern "C" fn(userdata: *mut c_void, part: f64, hashes_per_second: f64) -> i32>;

/// Told what an engine has to say. The event is valid during the call only.
pub type otedama_event_fn = Option<extern "C" fn(userdata: *mut c_void, event: *const otedama_event)>;
