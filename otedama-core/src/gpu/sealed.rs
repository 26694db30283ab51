//! Ethash, Etchash and KawPow on a device (`kernels/ethash.cl`, `kernels/kawpow.cl`).
//!
//! ```text
//!   host: light cache  --upload-->  ethash_dag, launch by launch  -->  the dataset in 1, 2 or 4 buffers
//!                                   some items compared with the CPU's       |
//!   job: header's hash, height  -->  ethash_search, or the period's kawpow_search  -->  hits
//! ```
//!
//! The dataset stays for all jobs of its epoch. Shortly before the epoch ends the next one's is made beside it by
//! a thread of its own, light cache included, if the device has room for both. KawPow's next period is compiled by
//! another while the present one runs.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use otedama_kernels::ETHASH;

use super::{Arg, Batch, GoOn, Gpu, GpuError, Kernel, Queue, Search, target_top};
use crate::algo::ethash::{EthashEpoch, Light, Params};
use crate::algo::kawpow::period_of;
use crate::algorithm::Algorithm;
use crate::builders::EthashBuilder;
use crate::cpu::Cpu;
use crate::epoch::{Epoch, EpochBuilder, EpochKey, EpochSeed, Progress};
use crate::job::{Job, Work};
use crate::topology::NodeId;
use dag::{Dag, Layout, Making};
use period::Periods;

mod dag;
mod period;

/// Blocks before an epoch's end when the next dataset is begun: a quarter of an hour at least.
const AHEAD_BLOCKS: u64 = 64;

/// Nonces that a launch covers a multiple of: whole groups of every kernel here.
const GRANULE: u32 = 256;

/// Memory that is left to others: the driver, hits, a screen.
const RESERVE: u64 = 256 << 20;

/// The search for an algorithm of the family.
pub(super) fn search(algorithm: Algorithm, gpu: &Arc<dyn Gpu>) -> Result<Box<dyn Search>, GpuError> {
    let params = Params::of(algorithm).ok_or_else(|| GpuError::Unsuited {
        device: gpu.info().id,
        reason: format!("{algorithm} has no dataset like Ethash's"),
    })?;
    Ok(Box::new(Sealed::new(params, gpu, gpu.info().max_buffer)?))
}

struct Sealed {
    gpu: Arc<dyn Gpu>,
    params: &'static Params,
    max_buffer: u64,
    /// Makes datasets.
    maker: Arc<Kernel>,
    function: Function,
    dag: Option<Dag>,
    /// A dataset whose making was given up, as far as it is.
    making: Option<Making>,
    ahead: Option<Ahead>,
    work: Option<Loaded>,
}

/// What differs between the two functions: rows of 128 bytes and one kernel for a number of parts, or rows of 256
/// bytes and a kernel for each period.
enum Function {
    Ethash(Option<(u32, Kernel)>),
    KawPow(Periods),
}

/// What a launch takes of a job.
struct Loaded {
    header: [u64; 4],
    target_top: u64,
}

/// The next epoch's dataset, being made.
struct Ahead {
    key: EpochKey,
    progress: Arc<Progress>,
    /// `None` after there was no room: not tried again for this epoch.
    thread: Option<JoinHandle<Result<Dag, GpuError>>>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.progress.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Sealed {
    /// With buffers of at most so many bytes.
    fn new(params: &'static Params, gpu: &Arc<dyn Gpu>, max_buffer: u64) -> Result<Sealed, GpuError> {
        let function = match params.algorithm {
            Algorithm::KawPow => Function::KawPow(Periods::new(gpu)),
            _ => Function::Ethash(None),
        };
        Ok(Sealed {
            gpu: Arc::clone(gpu),
            params,
            max_buffer,
            maker: Arc::new(compile(gpu.as_ref(), 1, "ethash_dag")?),
            function,
            dag: None,
            making: None,
            ahead: None,
            work: None,
        })
    }

    fn unsuited(&self, reason: String) -> GpuError {
        GpuError::Unsuited { device: self.gpu.info().id, reason }
    }

    /// The epoch that a key names: of this row, or of the one that ruled the chain before.
    fn epoch(&self, key: &EpochKey) -> Result<EthashEpoch, GpuError> {
        let EpochSeed::Number(number) = key.seed else {
            return Err(self.unsuited(format!("{key} has no number: expected an epoch's number")));
        };
        let rows = [Some(self.params), self.params.before.map(|(before, _)| before)];
        let params = rows.into_iter().flatten().find(|params| params.algorithm == key.algorithm);
        let params = params.ok_or_else(|| self.unsuited(format!("{key} is of another family")))?;
        params.epoch(number).map_err(|error| self.unsuited(error.to_string()))
    }

    /// How an epoch's dataset lies in this device's buffers.
    fn layout(&self, epoch: &EthashEpoch) -> Result<Layout, GpuError> {
        let row_items = match self.function {
            Function::Ethash(_) => 2,
            Function::KawPow(_) => 4,
        };
        let bytes = epoch.dataset_bytes();
        Layout::new(row_items, bytes, self.max_buffer).ok_or_else(|| {
            let most = self.max_buffer;
            self.unsuited(format!(
                "a dataset of {bytes} bytes does not fit four buffers of {most}, the most it allows"
            ))
        })
    }

    /// Has the epoch's dataset on the device, checked against the CPU.
    fn take_up(
        &mut self,
        epoch: &Epoch,
        queue: &mut dyn Queue,
        go_on: &mut GoOn<'_>,
    ) -> Result<(), GpuError> {
        let key = epoch.key();
        if self.dag.as_ref().is_some_and(|dag| dag.key == *key) {
            return Ok(());
        }
        let which = self.epoch(key)?;
        let layout = self.layout(&which)?;
        // The old ones go first: there may be no room for two.
        self.dag = None;
        self.making.take_if(|making| making.key() != key);
        let cache = epoch.light().view(NodeId(0));
        let light = Light::new(which.params().parents, cache, which.dataset_bytes());
        self.wait_for_ahead(key, go_on)?;
        let dag = match self.made_ahead(key)? {
            Some(dag) => dag,
            None => self.make(*key, layout, &light, queue, go_on)?,
        };
        dag.check(self.gpu.as_ref(), &light, queue)?;
        self.dag = Some(dag);
        Ok(())
    }

    /// Makes a dataset, or goes on where that was given up.
    fn make(
        &mut self,
        key: EpochKey,
        layout: Layout,
        light: &Light<'_>,
        queue: &mut dyn Queue,
        go_on: &mut GoOn<'_>,
    ) -> Result<Dag, GpuError> {
        let gpu = self.gpu.as_ref();
        let mut making = match self.making.take() {
            Some(making) => making,
            None => {
                let wanted = layout.bytes() + light.cache().as_flattened().len() as u64;
                let total = gpu.info().memory;
                if wanted > total {
                    return Err(GpuError::Memory { device: gpu.info().id, wanted, free: None, total });
                }
                let parts = layout.allocate(gpu)?;
                Making::begin(gpu, Dag { key, layout, parts }, light)?
            }
        };
        match making.run(gpu, &self.maker, light, queue, go_on) {
            Ok(()) => Ok(making.done()),
            Err(error) => {
                self.making = matches!(error, GpuError::Cancelled { .. }).then_some(making);
                Err(error)
            }
        }
    }

    /// Waits for what is being made ahead, if it is this epoch.
    fn wait_for_ahead(&self, key: &EpochKey, go_on: &mut GoOn<'_>) -> Result<(), GpuError> {
        let Some(ahead) = self.ahead.as_ref().filter(|ahead| ahead.key == *key) else { return Ok(()) };
        while ahead.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if !go_on(ahead.progress.done_bytes(), ahead.progress.total_bytes()) {
                return Err(GpuError::Cancelled { device: self.gpu.info().id });
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// What was made ahead, if it was this epoch. Whatever else was is dropped.
    fn made_ahead(&mut self, key: &EpochKey) -> Result<Option<Dag>, GpuError> {
        let Some(mut ahead) = self.ahead.take().filter(|ahead| ahead.key == *key) else { return Ok(None) };
        match ahead.thread.take().map(JoinHandle::join) {
            Some(Ok(Ok(dag))) => Ok(Some(dag)),
            Some(Ok(Err(error @ GpuError::Lost { .. }))) => Err(error),
            // No room, or a panic: it is made again where the caller waits, and fails there if it must.
            _ => Ok(None),
        }
    }

    /// Begins the next epoch's dataset if the present one's end is near, once.
    fn look_ahead(&mut self, key: &EpochKey, height: u64) {
        let Ok(present) = self.epoch(key) else { return };
        let end = (u64::from(present.number()) + 1) * u64::from(present.params().epoch_blocks);
        let Ok(next) = self.params.epoch_at(end) else { return };
        let next_key = EthashBuilder::key(&next);
        let tried = self.ahead.as_ref().is_some_and(|ahead| ahead.key == next_key);
        if tried || height >= end || end - height > AHEAD_BLOCKS {
            return;
        }
        // What does not fit is refused when its time comes.
        let Ok(layout) = self.layout(&next) else { return };
        let held = self.dag.as_ref().map_or(0, |dag| dag.layout.bytes());
        let room = held + layout.bytes() + next.cache_bytes() + RESERVE <= self.gpu.info().memory;
        let parts = if room { layout.allocate(self.gpu.as_ref()).ok() } else { None };
        let progress = Arc::new(Progress::new());
        let thread = parts.and_then(|parts| {
            let empty = Dag { key: next_key, layout, parts };
            let (gpu, maker, progress) =
                (Arc::clone(&self.gpu), Arc::clone(&self.maker), Arc::clone(&progress));
            let make = move || make_ahead(gpu.as_ref(), &maker, empty, next, &progress);
            thread::Builder::new().name("otedama-dag".to_owned()).spawn(make).ok()
        });
        self.ahead = Some(Ahead { key: next_key, progress, thread });
    }

    /// Has the kernel for the dataset's parts and the block's height.
    fn take_up_kernel(&mut self, height: u64) -> Result<(), GpuError> {
        let parts = self.dag.as_ref().map_or(1, |dag| dag.layout.parts);
        match &mut self.function {
            Function::Ethash(Some((ready, _))) if *ready == parts => {}
            Function::Ethash(kernel) => {
                *kernel = Some((parts, compile(self.gpu.as_ref(), parts, "ethash_search")?));
            }
            Function::KawPow(periods) => {
                periods.load(period_of(height), parts)?;
                periods.prepare(period_of(height) + 1, parts);
            }
        }
        Ok(())
    }

    fn kernel(&self) -> Option<&Kernel> {
        match &self.function {
            Function::Ethash(kernel) => kernel.as_ref().map(|(_, kernel)| kernel),
            Function::KawPow(periods) => periods.kernel(),
        }
    }
}

impl Search for Sealed {
    fn load(
        &mut self,
        job: &Arc<Job>,
        epoch: Option<&Arc<Epoch>>,
        queue: &mut dyn Queue,
        go_on: &mut GoOn<'_>,
    ) -> Result<(), GpuError> {
        let (Work::Sealed { header_hash }, Some(epoch)) = (job.work(), epoch) else {
            return Err(
                self.unsuited(format!("a job of {} needs a sealed header and its epoch", job.algorithm()))
            );
        };
        self.work = None;
        self.take_up(epoch, queue, go_on)?;
        self.take_up_kernel(job.height())?;
        self.look_ahead(epoch.key(), job.height());
        let (words, _) = header_hash.as_raw().as_chunks();
        let header = std::array::from_fn(|i| u64::from_le_bytes(words[i]));
        self.work = Some(Loaded { header, target_top: target_top(job) });
        Ok(())
    }

    fn granule(&self) -> u32 {
        GRANULE
    }

    fn max_batch(&self) -> u32 {
        1 << 30
    }

    fn enqueue(
        &mut self,
        _: usize,
        queue: &mut dyn Queue,
        _: u32,
        &Batch { first, count, hits, room }: &Batch<'_>,
    ) -> Result<(), GpuError> {
        let (Some(work), Some(dag), Some(kernel)) = (&self.work, &self.dag, self.kernel()) else {
            return Err(self.unsuited("no job is loaded".to_owned()));
        };
        let mut args: Vec<Arg<'_>> = dag.parts.iter().map(Arg::Buffer).collect();
        args.extend([Arg::U32(dag.layout.part_rows), Arg::U32(dag.layout.rows)]);
        args.extend(work.header.map(Arg::U64));
        args.extend([Arg::U64(first), Arg::U32(count), Arg::U64(work.target_top)]);
        args.extend([Arg::Buffer(hits), Arg::U32(room)]);
        queue.launch(kernel, count.div_ceil(kernel.group()), &args)
    }
}

/// An entry point of Ethash's family for a dataset in so many parts.
fn compile(gpu: &dyn Gpu, parts: u32, entry: &str) -> Result<Kernel, GpuError> {
    let parts = ("OTD_DAG_PARTS", parts.into());
    let (group, defines) =
        if gpu.info().is_cpu { (32, vec![parts, ("OTD_BLOCK", 32)]) } else { (128, vec![parts]) };
    gpu.compile(ETHASH.name, &ETHASH.text(), &defines)?.kernel(entry, group)
}

/// Makes an epoch's dataset from nothing: first its light cache.
fn make_ahead(
    gpu: &dyn Gpu,
    maker: &Kernel,
    empty: Dag,
    epoch: EthashEpoch,
    progress: &Progress,
) -> Result<Dag, GpuError> {
    let builder = EthashBuilder::new(epoch.params(), &Cpu::detect());
    let mut cache = vec![0; builder.light_bytes(&empty.key)];
    let made = builder.build_light(&empty.key, &mut cache, progress);
    made.map_err(|_| GpuError::Cancelled { device: gpu.info().id })?;
    let light = Light::new(epoch.params().parents, &cache, epoch.dataset_bytes());
    let mut queue = gpu.queue()?;
    let mut making = Making::begin(gpu, empty, &light)?;
    let mut go_on = |done, total| {
        progress.show(done, total);
        !progress.is_cancelled()
    };
    making.run(gpu, maker, &light, queue.as_mut(), &mut go_on)?;
    Ok(making.done())
}

#[cfg(test)]
pub(crate) mod tests;
