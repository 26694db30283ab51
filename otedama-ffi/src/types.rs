//! What C's pointers point to, and what it can be called back with.

use std::ffi::c_void;

use crate::otedama_event;

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
