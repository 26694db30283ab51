//! Engines: workers on threads of their own that search, prove and report.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use otedama_core::engine::{Assignment, EngineConfig, EngineStats, Event, NoMoreWork, WorkerConfig};
use otedama_core::scan::{self, Kernel, Setup};
use otedama_core::topology::{CpuId, Topology};
use otedama_core::{Algorithm, Engine, Verifier};

use crate::boundary::{Answer, Failure, Userdata, bytes, guard, out, record, text};
use crate::devices::{self, Allowed, flag};
use crate::epoch::checked_threads;
use crate::scan::{candidate_out, make_job, otedama_candidate, otedama_job, otedama_space, search_space};
use crate::status::{OTEDAMA_BAD_VALUE, OTEDAMA_BUSY, OTEDAMA_STOPPED, otedama_status};
use crate::verify::{otedama_share, share_out};
use crate::{handle, otedama_engine, otedama_epoch, otedama_event_fn, otedama_setup};

/// A proven share: `share`.
pub const OTEDAMA_EVENT_SHARE: u32 = 1;
/// A kernel claimed what was not so, which is broken hardware or a broken kernel: `candidate`, `message`.
pub const OTEDAMA_EVENT_REFUSED: u32 = 2;
/// A worker is gone, the others go on: `message`.
pub const OTEDAMA_EVENT_WORKER_LOST: u32 = 3;
/// The last worker is gone.
pub const OTEDAMA_EVENT_ALL_WORKERS_LOST: u32 = 4;
/// All work is done. New work handed in at the same moment may overtake it.
pub const OTEDAMA_EVENT_IDLE: u32 = 5;
/// Something this header has no number for: `message`.
pub const OTEDAMA_EVENT_OTHER: u32 = 6;

/// How an engine works.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct otedama_engine_config {
    /// sizeof(otedama_engine_config).
    pub struct_size: u32,
    /// An OTEDAMA_ number.
    pub algorithm: u32,
    /// How many threads; 0 for one on each core, or one for each of `cpus`.
    pub threads: u32,
    /// 1: threads are not pinned to CPUs.
    pub unpinned: u32,
    /// A kernel's name, or NULL for the fastest.
    pub kernel: *const c_char,
    /// An epoch to choose the fastest kernel with, or NULL. Jobs bring their own.
    pub epoch: *const otedama_epoch,
    /// What may be used; NULL for everything.
    pub setup: *const otedama_setup,
    /// The operating system's numbers of the CPUs to pin to, one thread each; NULL to choose.
    pub cpus: *const u32,
    /// How many `cpus` there are.
    pub cpu_count: usize,
}

/// What an engine has to say. Valid during the callback only.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct otedama_event {
    /// An OTEDAMA_EVENT_ number.
    pub kind: u32,
    /// Which worker says it, from 0.
    pub worker: u32,
    /// For OTEDAMA_EVENT_SHARE; else zeros.
    pub share: otedama_share,
    /// For OTEDAMA_EVENT_REFUSED; else zeros.
    pub candidate: otedama_candidate,
    /// What happened, in UTF-8; never NULL, may be empty.
    pub message: *const c_char,
}

/// What an engine has done since it started.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct otedama_engine_stats {
    /// Attempts made; exact.
    pub hashes: u64,
    /// Shares proven.
    pub shares: u64,
    /// Candidates that were no shares.
    pub refused: u64,
    /// Candidates dropped because their job had been replaced.
    pub stale: u64,
    /// Attempts handed to a worker that was lost before it could say how many it had made.
    pub abandoned: u64,
    /// Workers not lost.
    pub alive: u64,
}

/// An engine until it is stopped, and what it did then.
pub(crate) struct Running {
    engine: RwLock<Option<Engine>>,
    /// Counts from when it began to stop, and from when it had.
    last: Mutex<EngineStats>,
    /// Held by whoever stops it; others who want that wait until it is done.
    stopping: Mutex<()>,
}

impl Running {
    fn new(engine: Engine) -> Running {
        Running { engine: RwLock::new(Some(engine)), last: Mutex::default(), stopping: Mutex::default() }
    }

    /// Works with the engine unless it was stopped.
    fn with<T>(&self, work: impl FnOnce(&Engine) -> T) -> Answer<T> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        let stopped = || Failure::new(OTEDAMA_STOPPED, "engine was stopped: start another");
        engine.as_ref().map(work).ok_or_else(stopped)
    }

    fn stats(&self) -> EngineStats {
        self.with(Engine::stats).unwrap_or_else(|_| self.last().clone())
    }

    /// Stops it and waits for its threads. Here and not where the last reference is dropped, which may be on
    /// one of those threads. No lock that a callback may want is held while waiting.
    fn stop(&self) -> Answer<()> {
        if IN_CALLBACK.get() {
            let message = "an engine cannot be stopped or freed from its callback: let another thread do it";
            return Err(Failure::new(OTEDAMA_BUSY, message));
        }
        let _turn = self.stopping.lock().unwrap_or_else(PoisonError::into_inner);
        let engine = {
            let mut engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(engine) = &*engine {
                *self.last() = engine.stats();
            }
            engine.take()
        };
        if let Some(engine) = engine {
            let stats = engine.stop();
            *self.last() = stats;
        }
        Ok(())
    }

    fn last(&self) -> MutexGuard<'_, EngineStats> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    /// Whether this thread is inside a callback of an engine.
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Starts an engine: threads that wait for work. `config` says which; `events` is called with `userdata` for every
/// event. `out_engine` receives the engine; free it with otedama_engine_free(). Any thread.
///
/// `events` is called on the engine's threads, never twice at once. It should return soon; it may hand in new work
/// and ask for counts, but not stop or free an engine (OTEDAMA_BUSY). `userdata` must stay valid until
/// otedama_engine_stop() or otedama_engine_free() has returned.
///
/// Errors: OTEDAMA_UNKNOWN_ALGORITHM, OTEDAMA_UNKNOWN_KERNEL, OTEDAMA_UNSUPPORTED, OTEDAMA_SELF_TEST_FAILED,
/// OTEDAMA_OUT_OF_MEMORY, OTEDAMA_THREAD_FAILED for a CPU that cannot be had, and those of its arguments; nothing is
/// left running.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_engine_start(
    config: *const otedama_engine_config,
    events: otedama_event_fn,
    userdata: *mut c_void,
    out_engine: *mut *mut otedama_engine,
) -> otedama_status {
    guard(|| {
        let config = record!(config);
        let events = events.ok_or_else(|| Failure::null("events"))?;
        let mut out = out!(out_engine);
        let algorithm = devices::algorithm(config.algorithm)?;
        let epoch = handle::shared_or_none(config.epoch, "config->epoch")?;
        let allowed = Allowed::at(config.setup)?;
        let topology = Topology::detect();
        let pins = pins(&config, &topology)?;
        let kernel = allowed.kernel(algorithm, text!(config.kernel), epoch.as_ref(), pins.len())?;
        let workers = workers(algorithm, kernel, &allowed.setup, &topology, &pins)?;
        let userdata = Userdata::new(userdata);
        let one_at_a_time = Mutex::new(());
        let sink = move |event: Event| {
            let _turn = one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
            IN_CALLBACK.set(true);
            tell(&event, |event| events(userdata.get(), event));
            IN_CALLBACK.set(false);
        };
        let engine = Engine::start(EngineConfig::default(), workers, NoMoreWork, sink)?;
        out.put(handle::share(Arc::new(Running::new(engine)))?);
        Ok(())
    })
}

/// Hands in new work; the old is dead: searching it stops and what it found is dropped. `space` NULL is every nonce
/// with every version the job allows; `epoch` is the memory the job needs, kept as long as it is searched, or NULL.
/// Any thread, and the callback.
///
/// Errors: OTEDAMA_STOPPED, OTEDAMA_BAD_JOB, OTEDAMA_BAD_TARGET, OTEDAMA_BAD_SPACE, OTEDAMA_NO_EPOCH,
/// OTEDAMA_WRONG_EPOCH, and those of its arguments; the old work then goes on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_engine_replace(
    engine: *const otedama_engine,
    job: *const otedama_job,
    space: *const otedama_space,
    epoch: *const otedama_epoch,
) -> otedama_status {
    guard(|| {
        let engine = handle::shared(engine, "engine")?;
        let space = if space.is_null() { None } else { Some(record!(space)) };
        let work = assignment(&record!(job), space, epoch)?;
        engine.with(|engine| engine.replace(work))
    })
}

/// Hands in newer work; shares of the old still count, and what is being searched of it is searched to its end.
/// Arguments, threads and errors as otedama_engine_replace().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_engine_update(
    engine: *const otedama_engine,
    job: *const otedama_job,
    space: *const otedama_space,
    epoch: *const otedama_epoch,
) -> otedama_status {
    guard(|| {
        let engine = handle::shared(engine, "engine")?;
        let space = if space.is_null() { None } else { Some(record!(space)) };
        let work = assignment(&record!(job), space, epoch)?;
        engine.with(|engine| engine.update(work))
    })
}

/// Gives the work under way the same epoch with more to it, such as the dataset that was being built meanwhile; work
/// of another epoch is left as it is. Any thread, and the callback.
/// Errors: OTEDAMA_STOPPED, OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_engine_deepen(
    engine: *const otedama_engine,
    epoch: *const otedama_epoch,
) -> otedama_status {
    guard(|| {
        let engine = handle::shared(engine, "engine")?;
        let epoch = handle::shared(epoch, "epoch")?;
        engine.with(|engine| engine.deepen(&epoch))
    })
}

/// What the engine has done so far, or did until it was stopped: `out_stats` receives it. Any thread, and the
/// callback. Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_engine_count(
    engine: *const otedama_engine,
    out_stats: *mut otedama_engine_stats,
) -> otedama_status {
    guard(|| {
        let engine = handle::shared(engine, "engine")?;
        let mut out = out!(out_stats);
        let stats = engine.stats();
        out.put(otedama_engine_stats {
            hashes: stats.total_hashes(),
            shares: stats.shares,
            refused: stats.refused,
            stale: stats.stale,
            abandoned: stats.abandoned,
            alive: stats.alive as u64,
        });
        Ok(())
    })
}

/// Stops an engine and waits for its threads: what they had found is proven and reported first. The handle stays, for
/// otedama_engine_count() and otedama_engine_free(). Stopping twice is fine. Any thread, not the callback.
/// Errors: OTEDAMA_BUSY from a callback, OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_engine_stop(engine: *const otedama_engine) -> otedama_status {
    guard(|| handle::shared(engine, "engine")?.stop())
}

/// Stops an engine as otedama_engine_stop() does, and frees it. NULL is fine. Any thread, not the callback.
/// Errors: OTEDAMA_BUSY from a callback, OTEDAMA_BAD_HANDLE; nothing is freed then.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_engine_free(engine: *mut otedama_engine) -> otedama_status {
    guard(|| {
        if let Some(running) = handle::shared_or_none(engine, "engine")? {
            running.stop()?;
        }
        handle::release(engine, "engine")
    })
}

/// Workers that search with a kernel and prove with another.
pub(crate) fn workers(
    algorithm: Algorithm,
    kernel: &'static Kernel,
    setup: &Setup,
    topology: &Topology,
    pins: &[Option<CpuId>],
) -> Answer<Vec<WorkerConfig>> {
    let prover = scan::prover(algorithm, setup)?;
    let worker = |&cpu: &Option<CpuId>| {
        let setup = near(setup, topology, cpu);
        let verifier = Verifier::new(prover, setup.clone());
        WorkerConfig { cpu, make: Box::new(move || Ok((kernel.scanner(&setup)?, verifier.worker()?))) }
    };
    Ok(pins.iter().map(worker).collect())
}

/// The setup of a worker on a CPU: its own node's memory.
pub(crate) fn near(setup: &Setup, topology: &Topology, cpu: Option<CpuId>) -> Setup {
    let node = cpu.and_then(|cpu| topology.node_of(cpu)).unwrap_or(setup.node);
    Setup { node, ..setup.clone() }
}

fn pins(config: &otedama_engine_config, topology: &Topology) -> Answer<Vec<Option<CpuId>>> {
    let unpinned = flag(config.unpinned, "config->unpinned")?;
    let threads = checked_threads(config.threads)?;
    if config.cpus.is_null() {
        let pins = topology.pins((threads > 0).then_some(threads));
        return Ok(if unpinned { vec![None; pins.len()] } else { pins });
    }
    let count = checked_threads(config.cpu_count.try_into().unwrap_or(u32::MAX))?;
    if count == 0 || unpinned || (threads > 0 && threads != count) {
        let message = format!(
            "config->cpus names {count} CPUs: expected 1 or more, unpinned 0 and threads 0 or {count}"
        );
        return Err(Failure::new(OTEDAMA_BAD_VALUE, message));
    }
    let cpus = config.cpus.cast();
    let (cpus, _) = bytes!(cpus, 4 * count).bytes.as_chunks::<4>();
    Ok(cpus.iter().map(|cpu| Some(CpuId(u32::from_ne_bytes(*cpu)))).collect())
}

fn assignment(
    job: &otedama_job,
    space: Option<otedama_space>,
    epoch: *const otedama_epoch,
) -> Answer<Assignment> {
    let epoch = handle::shared_or_none(epoch, "epoch")?;
    let job = Arc::new(make_job(job, epoch.as_deref())?);
    let space = space.map(|space| search_space(&space, &job)).transpose()?;
    let work = match space {
        Some(space) => Assignment::part(job, space)?,
        None => Assignment::whole(job),
    };
    Ok(match epoch {
        Some(epoch) => work.with_epoch(epoch),
        None => work,
    })
}

/// Says an event to C.
fn tell(event: &Event, say: impl FnOnce(&otedama_event)) {
    let mut told = otedama_event {
        kind: OTEDAMA_EVENT_OTHER,
        worker: 0,
        share: otedama_share {
            job_id: 0,
            nonce: 0,
            version: 0,
            has_version: 0,
            has_mix: 0,
            reserved: 0,
            pow: [0; 32],
            mix: [0; 32],
        },
        candidate: otedama_candidate { nonce: 0, version: 0, has_version: 0 },
        message: ptr::null(),
    };
    let mut words = String::new();
    match event {
        Event::Share { worker, share, .. } => {
            (told.kind, told.worker, told.share) = (OTEDAMA_EVENT_SHARE, *worker as u32, share_out(share));
        }
        Event::Refused { worker, candidate, reason } => {
            (told.kind, told.worker) = (OTEDAMA_EVENT_REFUSED, *worker as u32);
            told.candidate = candidate_out(candidate);
            words = reason.to_string();
        }
        Event::WorkerLost { worker, reason } => {
            (told.kind, told.worker) = (OTEDAMA_EVENT_WORKER_LOST, *worker as u32);
            words.clone_from(reason);
        }
        Event::AllWorkersLost => told.kind = OTEDAMA_EVENT_ALL_WORKERS_LOST,
        Event::Idle => told.kind = OTEDAMA_EVENT_IDLE,
        other => words = format!("{other:?}"),
    }
    let words = CString::new(words.replace('\0', "\\0")).unwrap_or_default();
    told.message = words.as_ptr();
    say(&told);
}
