//! Epochs: the memory that RandomX, Ethash and KawPow hash with, built once and shared.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use otedama_core::Algorithm;
use otedama_core::algo::ethash::Params;
use otedama_core::algorithm::EpochKind;
use otedama_core::builders::{self, EthashBuilder};
use otedama_core::epoch::{
    Depth, Epoch, EpochBuilder, EpochKey, EpochStore, Placement, Progress, Replicas, StoreConfig,
};
use otedama_core::scan::StopFlag;
use otedama_core::topology::{NodeId, Topology};

use crate::boundary::{Answer, Failure, bytes, guard, out, record};
use crate::devices::{self, Allowed};
use crate::status::{
    OTEDAMA_BAD_EPOCH, OTEDAMA_BAD_VALUE, OTEDAMA_THREAD_FAILED, OTEDAMA_UNSUPPORTED, otedama_status,
};
use crate::{handle, otedama_epoch, otedama_progress_fn, otedama_setup, otedama_stop, otedama_store};

/// Only the cache: enough to verify, and to search slowly.
pub const OTEDAMA_LIGHT: u32 = 0;
/// The cache and the dataset: to search at full speed.
pub const OTEDAMA_FULL: u32 = 1;

/// A copy on every NUMA node: the fastest, and the most memory.
pub const OTEDAMA_REPLICATE: u32 = 0;
/// One copy, page by page in turn over the nodes.
pub const OTEDAMA_INTERLEAVE: u32 = 1;
/// One copy on the node named.
pub const OTEDAMA_ONE_NODE: u32 = 2;

/// How a store works. NULL in its place, or zeros, are the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct otedama_store_config {
    /// sizeof(otedama_store_config).
    pub struct_size: u32,
    /// Threads that build; 0 for one on each CPU.
    pub threads: u32,
    /// Bytes that all epochs of the store together may take, alive or being built; 0 for no limit but the machine's.
    pub byte_budget: u64,
    /// OTEDAMA_REPLICATE, OTEDAMA_INTERLEAVE or OTEDAMA_ONE_NODE.
    pub placement: u32,
    /// The operating system's number of the node, for OTEDAMA_ONE_NODE.
    pub node: u32,
    /// What may be used to build; NULL for everything. Read by otedama_store_new() only.
    pub setup: *const otedama_setup,
}

/// Names an epoch.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct otedama_epoch_key {
    /// sizeof(otedama_epoch_key).
    pub struct_size: u32,
    /// An OTEDAMA_ number.
    pub algorithm: u32,
    /// RandomX: the key, such as the seed hash of Monero; else NULL. Borrowed for the call.
    pub key: *const u8,
    /// RandomX: the key's length in bytes, 1 to 60; else 0.
    pub key_len: u32,
    /// Ethash, Etchash, KawPow: the epoch's number, see otedama_epoch_number(); else 0.
    pub number: u32,
}

/// A store, and what builds for it.
pub(crate) struct Store {
    store: EpochStore,
    allowed: Allowed,
}

impl Store {
    fn builder(&self, algorithm: Algorithm) -> Answer<Arc<dyn EpochBuilder>> {
        let builder = builders::builder(algorithm, &self.allowed.setup.cpu, self.allowed.items_by());
        builder.ok_or_else(|| match algorithm.spec().epoch {
            EpochKind::None => {
                Failure::new(OTEDAMA_BAD_EPOCH, format!("{algorithm} has no epochs: pass NULL for its epoch"))
            }
            _ => Failure::new(OTEDAMA_UNSUPPORTED, format!("this version builds no epochs of {algorithm}")),
        })
    }

    /// Builds while the calling thread tells `callback` about it and looks at `stop`.
    fn build_watched(
        &self,
        key: &EpochKey,
        depth: Depth,
        callback: &mut dyn FnMut(u64, u64) -> bool,
        stop: Option<&StopFlag>,
    ) -> Answer<Arc<Epoch>> {
        /// How often a stop flag is looked at.
        const TICK: Duration = Duration::from_millis(5);
        /// How often the caller is told, in ticks.
        const TELL: u32 = 10;
        let builder = self.builder(key.algorithm)?;
        let progress = Progress::new();
        let epoch = thread::scope(|scope| {
            let builder = thread::Builder::new()
                .name("otedama-epoch".to_owned())
                .spawn_scoped(scope, || self.store.get(&builder, key, depth, &progress))
                .map_err(|error| {
                    Failure::new(OTEDAMA_THREAD_FAILED, format!("cannot start a thread to build: {error}"))
                })?;
            let begun = Instant::now();
            let mut told = 0;
            while !builder.is_finished() {
                let ticks = (begun.elapsed().as_millis() / TICK.as_millis()) as u32;
                if told <= ticks && !progress.is_cancelled() {
                    told = ticks + TELL;
                    if !callback(progress.done_bytes(), progress.total_bytes()) {
                        progress.cancel();
                    }
                }
                if stop.is_some_and(StopFlag::is_raised) {
                    progress.cancel();
                }
                thread::park_timeout(TICK);
            }
            // The store turns a builder's panic into an error.
            builder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map_err(Failure::from)
        })?;
        callback(progress.done_bytes(), progress.total_bytes());
        Ok(epoch)
    }
}

/// Makes a stop flag, which ends scans and builds that were given it: `out_stop` receives it; free it with
/// otedama_stop_free(). Any thread. Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_TOO_MANY_HANDLES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_stop_new(out_stop: *mut *mut otedama_stop) -> otedama_status {
    guard(|| {
        let mut out = out!(out_stop);
        out.put(handle::share(Arc::new(StopFlag::new()))?);
        Ok(())
    })
}

/// Raises a stop flag, for good: what watches it ends within milliseconds. Any thread, also while other calls use
/// it. Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_stop_raise(stop: *const otedama_stop) -> otedama_status {
    guard(|| {
        handle::shared(stop, "stop")?.raise();
        Ok(())
    })
}

/// Frees a stop flag; calls under way that were given it keep it. NULL is fine. Errors: OTEDAMA_BAD_HANDLE.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_stop_free(stop: *mut otedama_stop) -> otedama_status {
    guard(|| handle::release(stop, "stop"))
}

/// Makes a store: the place where epochs are built, once each, and found again. One for a process is usual.
/// `config` may be NULL; `out_store` receives the store; free it with otedama_store_free(). Any thread.
///
/// Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_STRUCT_SIZE, OTEDAMA_BAD_VALUE, OTEDAMA_TOO_MANY_HANDLES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_store_new(
    config: *const otedama_store_config,
    out_store: *mut *mut otedama_store,
) -> otedama_status {
    guard(|| {
        let config = record!(config or default);
        let mut out = out!(out_store);
        let allowed = Allowed::at(config.setup)?;
        let topology = Topology::detect();
        let placement = match config.placement {
            OTEDAMA_REPLICATE => Placement::Replicate,
            OTEDAMA_INTERLEAVE => Placement::Interleave,
            OTEDAMA_ONE_NODE if topology.nodes().iter().any(|node| node.id.0 == config.node) => {
                Placement::Node(NodeId(config.node))
            }
            OTEDAMA_ONE_NODE => {
                let nodes: Vec<_> = topology.nodes().iter().map(|node| node.id.0.to_string()).collect();
                let message =
                    format!("config->node is {}: expected one of {}", config.node, nodes.join(", "));
                return Err(Failure::new(OTEDAMA_BAD_VALUE, message));
            }
            other => {
                let message = format!("config->placement is {other}: expected 0, 1 or 2");
                return Err(Failure::new(OTEDAMA_BAD_VALUE, message));
            }
        };
        let budget = if config.byte_budget == 0 { u64::MAX } else { config.byte_budget };
        let defaults = StoreConfig::for_machine(&topology, budget);
        let threads = if config.threads == 0 { defaults.threads } else { checked_threads(config.threads)? };
        let pages = allowed.setup.memory.pages;
        let store = EpochStore::new(StoreConfig { placement, threads, pages, ..defaults });
        out.put(handle::share(Arc::new(Store { store, allowed }))?);
        Ok(())
    })
}

/// Frees a store. Epochs obtained from it stay as they are, and calls under way end as they would. NULL is fine.
/// Errors: OTEDAMA_BAD_HANDLE.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_store_free(store: *mut otedama_store) -> otedama_status {
    guard(|| handle::release(store, "store"))
}

/// The epoch `key` to the depth asked (OTEDAMA_LIGHT or OTEDAMA_FULL): at once if it is there, after waiting if
/// another call builds it, else built by this call, which takes seconds to minutes. `out_epoch` receives it; free
/// it with otedama_epoch_free(). Any thread; several may ask at once, and each key is built once.
///
/// `progress`, if not NULL, is called on this thread some twenty times a second and once at the end; `userdata` is
/// passed on to it. An answer other than 0 cancels. `stop` may be NULL; raising it cancels too. Cancelling a call
/// that builds cancels those that wait for it.
///
/// Errors: OTEDAMA_CANCELLED, OTEDAMA_BUDGET_SPENT, OTEDAMA_OUT_OF_MEMORY, OTEDAMA_BAD_EPOCH for a key the algorithm
/// does not have, OTEDAMA_UNSUPPORTED, and those of its arguments. Nothing is left behind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_store_get(
    store: *const otedama_store,
    key: *const otedama_epoch_key,
    depth: u32,
    progress: otedama_progress_fn,
    userdata: *mut std::ffi::c_void,
    stop: *const otedama_stop,
    out_epoch: *mut *mut otedama_epoch,
) -> otedama_status {
    guard(|| {
        let store = handle::shared(store, "store")?;
        let (key, depth) = (epoch_key(&record!(key))?, depth_of(depth)?);
        let stop = handle::shared_or_none(stop, "stop")?;
        let mut out = out!(out_epoch);
        let mut callback = |done, total| progress.is_none_or(|progress| progress(userdata, done, total) == 0);
        let epoch = store.build_watched(&key, depth, &mut callback, stop.as_deref())?;
        out.put(handle::share(epoch)?);
        Ok(())
    })
}

/// Starts to build an epoch that will be needed, in the background, if the budget has room as it is. A build that
/// fails leaves nothing behind, and otedama_store_get() will try again. Any thread.
///
/// Errors: OTEDAMA_BUDGET_SPENT, OTEDAMA_BAD_EPOCH, OTEDAMA_UNSUPPORTED, OTEDAMA_THREAD_FAILED, and those of its
/// arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_store_announce(
    store: *const otedama_store,
    key: *const otedama_epoch_key,
    depth: u32,
) -> otedama_status {
    guard(|| {
        let store = handle::shared(store, "store")?;
        let (key, depth) = (epoch_key(&record!(key))?, depth_of(depth)?);
        store.store.announce(&store.builder(key.algorithm)?, &key, depth)?;
        Ok(())
    })
}

/// Bytes that the store's epochs take, alive or being built, whoever holds them: `out_bytes` receives them. Any
/// thread. Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_store_held_bytes(
    store: *const otedama_store,
    out_bytes: *mut u64,
) -> otedama_status {
    guard(|| {
        let store = handle::shared(store, "store")?;
        let mut out = out!(out_bytes);
        out.put(store.store.held_bytes());
        Ok(())
    })
}

/// Frees an epoch handle. Hashers, scanners and engines that use the epoch keep its memory; views obtained from
/// this handle end. NULL is fine. Errors: OTEDAMA_BAD_HANDLE.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_epoch_free(epoch: *mut otedama_epoch) -> otedama_status {
    guard(|| handle::release(epoch, "epoch"))
}

/// The number of the epoch that a block height lies in (Ethash, Etchash, KawPow): `out_number` receives it. Any
/// thread. Errors: OTEDAMA_BAD_EPOCH where epochs are not counted in blocks, and for blocks of Etchash below 11700000,
/// whose epochs are Ethash's; OTEDAMA_BAD_VALUE past the last epoch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_epoch_number(
    algorithm: u32,
    height: u64,
    out_number: *mut u32,
) -> otedama_status {
    guard(|| {
        let algorithm = devices::algorithm(algorithm)?;
        let mut out = out!(out_number);
        let epoch = params(algorithm)?.epoch_at(height);
        let epoch = epoch.map_err(|error| Failure::new(OTEDAMA_BAD_VALUE, error.to_string()))?;
        let owner = epoch.params().algorithm;
        if owner != algorithm {
            let message =
                format!("block {height} of {algorithm} lies in an epoch of {owner}: ask for that one's");
            return Err(Failure::new(OTEDAMA_BAD_EPOCH, message));
        }
        out.put(epoch.number());
        Ok(())
    })
}

/// OTEDAMA_OK if the epoch has its dataset too, OTEDAMA_BAD_EPOCH if it has the cache alone. Any thread.
/// Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_epoch_is_full(epoch: *const otedama_epoch) -> otedama_status {
    guard(|| full(&*handle::shared(epoch, "epoch")?).map(drop))
}

/// The epoch's cache as it lies in memory, without a copy: `out_bytes` receives its address, `out_len` its length in
/// bytes. It is read-only (writing faults) and stays until otedama_epoch_free() of this handle. Any thread.
/// Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_epoch_cache(
    epoch: *const otedama_epoch,
    out_bytes: *mut *const u8,
    out_len: *mut u64,
) -> otedama_status {
    guard(|| {
        let epoch = handle::shared(epoch, "epoch")?;
        let (mut bytes, mut len) = (out!(out_bytes), out!(out_len));
        let view = first_copy(epoch.light());
        bytes.put(view.as_ptr());
        len.put(view.len() as u64);
        Ok(())
    })
}

/// The epoch's dataset, as otedama_epoch_cache(). Errors: OTEDAMA_BAD_EPOCH if it was obtained with OTEDAMA_LIGHT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_epoch_dataset(
    epoch: *const otedama_epoch,
    out_bytes: *mut *const u8,
    out_len: *mut u64,
) -> otedama_status {
    guard(|| {
        let epoch = handle::shared(epoch, "epoch")?;
        let (mut bytes, mut len) = (out!(out_bytes), out!(out_len));
        let view = first_copy(full(&epoch)?);
        bytes.put(view.as_ptr());
        len.put(view.len() as u64);
        Ok(())
    })
}

/// Threads asked for by a caller: more than this is a mistake.
pub(crate) fn checked_threads(threads: u32) -> Answer<usize> {
    const MOST: u32 = 4096;
    if threads > MOST {
        return Err(Failure::new(
            OTEDAMA_BAD_VALUE,
            format!("threads is {threads}: expected at most {MOST}"),
        ));
    }
    Ok(threads as usize)
}

fn full(epoch: &Epoch) -> Answer<&Replicas> {
    let message = || format!("{} has no dataset: it was obtained with OTEDAMA_LIGHT", epoch.key());
    epoch.full().ok_or_else(|| Failure::new(OTEDAMA_BAD_EPOCH, message()))
}

fn first_copy(part: &Replicas) -> &[u8] {
    &part.copies()[0].region
}

fn depth_of(depth: u32) -> Answer<Depth> {
    match depth {
        OTEDAMA_LIGHT => Ok(Depth::Light),
        OTEDAMA_FULL => Ok(Depth::Full),
        other => Err(Failure::new(OTEDAMA_BAD_VALUE, format!("depth is {other}: expected 0 or 1"))),
    }
}

fn epoch_key(key: &otedama_epoch_key) -> Answer<EpochKey> {
    let algorithm = devices::algorithm(key.algorithm)?;
    let bytes = bytes!(key.key, key.key_len as usize).bytes;
    let wrong = |message: String| Err(Failure::new(OTEDAMA_BAD_EPOCH, message));
    match algorithm.spec().epoch {
        EpochKind::None => wrong(format!("{algorithm} has no epochs: pass NULL for its epoch")),
        EpochKind::Key if bytes.is_empty() => {
            wrong(format!("{algorithm} has keys of 1 to 60 bytes: key_len is 0"))
        }
        EpochKind::Key => Ok(EpochKey::bytes(algorithm, bytes)?),
        EpochKind::Blocks(_) if !bytes.is_empty() => {
            wrong(format!("{algorithm} has numbered epochs: expected key NULL and key_len 0"))
        }
        EpochKind::Blocks(_) => {
            let epoch = params(algorithm)?.epoch(key.number);
            let epoch = epoch.map_err(|error| Failure::new(OTEDAMA_BAD_EPOCH, error.to_string()))?;
            Ok(EthashBuilder::key(&epoch))
        }
    }
}

/// The row of an algorithm whose epochs are counted in blocks.
fn params(algorithm: Algorithm) -> Answer<&'static Params> {
    Params::of(algorithm).ok_or_else(|| {
        Failure::new(OTEDAMA_BAD_EPOCH, format!("{algorithm} does not count its epochs in blocks"))
    })
}
