//! Measuring a kernel.

use std::ffi::{c_char, c_void};
use std::time::Duration;

use otedama_core::measure::{self, Plan, Worker};
use otedama_core::topology::Topology;

use crate::boundary::{Failure, guard, out, record, text};
use crate::devices::{self, Allowed, flag, reserved};
use crate::engine::near;
use crate::epoch::checked_threads;
use crate::status::{OTEDAMA_BAD_VALUE, OTEDAMA_NO_EPOCH, OTEDAMA_WRONG_RESULTS, otedama_status};
use crate::{handle, otedama_bench_fn, otedama_epoch, otedama_setup};

/// What to measure.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct otedama_bench_config {
    /// sizeof(otedama_bench_config).
    pub struct_size: u32,
    /// An OTEDAMA_ number.
    pub algorithm: u32,
    /// A kernel's name, or NULL for the fastest.
    pub kernel: *const c_char,
    /// The epoch to hash with, or NULL where the algorithm needs none.
    pub epoch: *const otedama_epoch,
    /// What may be used; NULL for everything.
    pub setup: *const otedama_setup,
    /// How many threads, pinned to CPUs; 0 for one on each core.
    pub threads: u32,
    /// How long to hash, in milliseconds: 1 to 3,600,000.
    pub milliseconds: u32,
    /// 1: the header's version stays as it is, though SHA256d could roll it.
    pub fixed_version: u32,
    /// 0.
    pub reserved: u32,
}

/// What was measured.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct otedama_bench_result {
    /// The kernel's name: a static string.
    pub kernel: *const c_char,
    /// Attempts made; exact.
    pub hashes: u64,
    /// How long that took.
    pub seconds: f64,
    /// Hashes per second over the whole time.
    pub hashes_per_second: f64,
    /// The slowest tenth of that time relative to the whole, such as -0.03.
    pub slowest: f64,
    /// The fastest tenth, such as 0.02.
    pub fastest: f64,
    /// Energy that the processor packages took, in joules; NaN where nobody says.
    pub joules: f64,
    /// How many threads hashed.
    pub threads: u32,
    /// 1 if the version rolled, else 0.
    pub rolled: u32,
}

/// Lets a kernel hash a made-up job for a while and checks all that it finds: `out_result` receives the figures.
/// `progress`, if not NULL, is called on this thread some twenty times a second with `userdata`, the part done (0 to 1)
/// and the rate so far in hashes per second; an answer other than 0 ends the measurement early. Any thread; two
/// measurements at once spoil each other.
///
/// Errors: OTEDAMA_WRONG_RESULTS if a check failed, OTEDAMA_UNKNOWN_KERNEL, OTEDAMA_UNSUPPORTED, OTEDAMA_NO_EPOCH,
/// OTEDAMA_OUT_OF_MEMORY, OTEDAMA_THREAD_FAILED, and those of its arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_bench(
    config: *const otedama_bench_config,
    progress: otedama_bench_fn,
    userdata: *mut c_void,
    out_result: *mut otedama_bench_result,
) -> otedama_status {
    guard(|| {
        let config = record!(config);
        let mut out = out!(out_result);
        let algorithm = devices::algorithm(config.algorithm)?;
        let epoch = handle::shared_or_none(config.epoch, "config->epoch")?;
        if !(1..=3_600_000).contains(&config.milliseconds) {
            let message = format!("config->milliseconds is {}: expected 1 to 3600000", config.milliseconds);
            return Err(Failure::new(OTEDAMA_BAD_VALUE, message));
        }
        reserved(config.reserved, "config->reserved")?;
        let roll_version = !flag(config.fixed_version, "config->fixed_version")?;
        let threads = checked_threads(config.threads)?;
        let allowed = Allowed::at(config.setup)?;
        let topology = Topology::detect();
        let pins = topology.pins((threads > 0).then_some(threads));
        let kernel = allowed.kernel(algorithm, text!(config.kernel), epoch.as_ref(), pins.len())?;
        if epoch.is_none() && algorithm.spec().epoch != otedama_core::algorithm::EpochKind::None {
            let message = format!("{algorithm} needs an epoch: config->epoch is NULL");
            return Err(Failure::new(OTEDAMA_NO_EPOCH, message));
        }
        let worker = |cpu| Worker::on_cpu(kernel, cpu, near(&allowed.setup, &topology, cpu));
        let workers = pins.into_iter().map(worker).collect();
        let time = Duration::from_millis(config.milliseconds.into());
        let plan = Plan { algorithm, workers, time, roll_version, epoch };
        let measured = measure::run(&plan, |part, rate| {
            progress.is_none_or(|progress| progress(userdata, part, rate.hps()) == 0)
        })?;
        if let Some(fault) = &measured.fault {
            return Err(Failure::new(OTEDAMA_WRONG_RESULTS, format!("{}: {fault}", kernel.name())));
        }
        let (slowest, fastest) = measured.spread();
        out.put(otedama_bench_result {
            kernel: devices::kernel_name(kernel.name()),
            hashes: measured.hashes,
            seconds: measured.seconds,
            hashes_per_second: measured.rate().hps(),
            slowest,
            fastest,
            joules: measured.joules.unwrap_or(f64::NAN),
            threads: measured.threads as u32,
            rolled: measured.rolled.into(),
        });
        Ok(())
    })
}
