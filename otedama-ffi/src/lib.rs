//! The C face of otedama: `libotedama`, declared in `include/otedama.h`, which cbindgen writes from these
//! modules (`cargo test -p otedama-ffi --test header` compares; with `OTEDAMA_WRITE_HEADER=1` it writes).
//!
//! Every function is a thin one: arguments are taken at the `boundary`, objects are found by their
//! `handle`, the core does the work. The rules, which the header's head states for its readers, are kept in
//! one place each: NULL, sizes, overlap, text, panics and messages in `boundary`; freed, foreign and busy
//! handles in `handle`; numbers that are never reused in `status`. Unsafe code stands in `boundary` alone,
//! apart from the word in the functions' signatures.

// C's names for C's types.
#![allow(non_camel_case_types)]
// What C promises is in each function's comment, which the header repeats; `boundary` says it once for Rust.
#![allow(clippy::missing_safety_doc)]
#![allow(clippy::too_many_arguments)]

mod bench;
mod boundary;
mod devices;
mod engine;
mod epoch;
mod handle;
mod hash;
mod scan;
mod status;
mod types;
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
pub use types::*;
pub use verify::*;
pub use version::*;
