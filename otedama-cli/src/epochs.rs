//! The memory that some algorithms hash with: keys as people write them, and building with a bar to watch.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use otedama_core::Algorithm;
use otedama_core::algo::ethash;
use otedama_core::algorithm::EpochKind;
use otedama_core::builders::{self, EthashBuilder, ItemsBy};
use otedama_core::cpu::Cpu;
use otedama_core::epoch::{
    Depth, Epoch, EpochBuilder, EpochError, EpochFile, EpochKey, EpochStore, Progress, SeedBytes, StoreConfig,
};
use otedama_core::mem::{PageKind, PageSet};

use crate::args::EraArgs;
use crate::failure::{Failure, usage, work};
use crate::machine::Machine;
use crate::priority::{self, Priority};
use crate::show;

/// One algorithm's epochs.
pub(crate) struct Epochs {
    algorithm: Algorithm,
    builder: Arc<dyn EpochBuilder>,
    store: EpochStore,
    cpu: Cpu,
    dag_dir: Option<PathBuf>,
    /// How threads that build aside stand beside other programs.
    priority: Priority,
    /// Who is told of what goes wrong and ends nothing.
    note: Box<dyn Fn(String) + Send + Sync>,
}

/// A part of an epoch that was built, and how long that took.
pub(crate) struct Built {
    pub(crate) epoch: Arc<Epoch>,
    pub(crate) time: Duration,
}

impl Epochs {
    /// The epochs of an algorithm; `None` if it has none.
    pub(crate) fn of(algorithm: Algorithm, machine: &Machine) -> Option<Epochs> {
        let items_by = if machine.setup.compile { ItemsBy::Compiler } else { ItemsBy::Interpreter };
        let builder = builders::builder(algorithm, &machine.setup.cpu, items_by)?;
        // What the system cannot give is said by the system; the store need not guess.
        let config = StoreConfig {
            pages: machine.setup.memory.pages,
            ..StoreConfig::for_machine(&machine.topology, u64::MAX)
        };
        let (cpu, dag_dir) = (machine.setup.cpu.clone(), machine.dag_dir.clone());
        let store = EpochStore::new(config);
        let note = Box::new(|words| eprintln!("{words}"));
        Some(Epochs { algorithm, builder, store, cpu, dag_dir, priority: Priority::Normal, note })
    }

    /// The same, building aside with no more than this priority, and telling of what goes wrong here.
    pub(crate) fn with(self, priority: Priority, note: impl Fn(String) + Send + Sync + 'static) -> Epochs {
        Epochs { priority, note: Box::new(note), ..self }
    }

    /// Builds a part and everything below it, with a bar to watch. Raising `interrupted` ends it.
    pub(crate) fn build(
        &self,
        key: &EpochKey,
        depth: Depth,
        interrupted: &AtomicBool,
    ) -> Result<Built, EpochError> {
        let begun = Instant::now();
        let progress = Progress::new();
        let what = match depth {
            Depth::Light => "cache",
            Depth::Full => "dataset",
        };
        let bar = show::progress_bar(0, format!("{} {what}", self.algorithm));
        let epoch = thread::scope(|scope| {
            let building = scope.spawn(|| self.get(key, depth, &progress));
            while !building.is_finished() {
                if interrupted.load(Ordering::Relaxed) {
                    progress.cancel();
                }
                bar.set_length(progress.total_bytes());
                bar.set_position(progress.done_bytes());
                bar.set_message(format!(
                    "{} of {}",
                    show::bytes(progress.done_bytes() >> 20 << 20),
                    show::bytes(progress.total_bytes())
                ));
                thread::sleep(Duration::from_millis(5));
            }
            // The store turns a builder's panic into an error.
            building.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        bar.finish_and_clear();
        let epoch = epoch?;
        self.advise_pages(&epoch);
        Ok(Built { epoch, time: begun.elapsed() })
    }

    /// The epoch from the store; its dataset from a file, if files are kept, and into it otherwise.
    fn get(&self, key: &EpochKey, depth: Depth, progress: &Progress) -> Result<Arc<Epoch>, EpochError> {
        let params = ethash::Params::of(self.algorithm).filter(|_| depth == Depth::Full);
        let (Some(folder), Some(params)) = (&self.dag_dir, params) else {
            return self.store.get(&self.builder, key, depth, progress);
        };
        let bytes = self.builder.full_bytes(key).unwrap_or(0);
        let file = EpochFile::open(folder, key, bytes).unwrap_or_else(|error| {
            (self.note)(error.to_string());
            None
        });
        let file = file.map(Arc::new);
        let builder = match &file {
            Some(file) => {
                let builder = EthashBuilder::new(params, &self.cpu).with_file(Arc::clone(file));
                Arc::new(builder) as Arc<dyn EpochBuilder>
            }
            None => Arc::clone(&self.builder),
        };
        let epoch = self.store.get(&builder, key, depth, progress)?;
        let damaged = file.as_ref().map_or(0, |file| file.damaged());
        if damaged > 0 {
            let path = EpochFile::path(folder, key);
            (self.note)(format!("damaged and built again: {damaged} MiB or less of {}", path.display()));
        }
        // Without a file the work goes on as well as with one.
        if let (true, Some(full)) = (file.is_none() || damaged > 0, epoch.full())
            && let Err(error) = EpochFile::write(folder, key, &full.copies()[0].region)
        {
            (self.note)(format!("the dataset is not kept: {error}"));
        }
        Ok(epoch)
    }

    /// Builds a part as deep as asked for; where there is no memory for the full part, says so and goes on
    /// with the light one.
    pub(crate) fn build_or_lighter(
        &self,
        key: &EpochKey,
        depth: Depth,
        interrupted: &AtomicBool,
    ) -> Result<Arc<Epoch>, Failure> {
        let light = self.build(key, Depth::Light, interrupted)?.epoch;
        if depth == Depth::Light {
            return Ok(light);
        }
        Ok(self.build_unless_short(key, interrupted)?.map_or(light, |built| built.epoch))
    }

    /// Builds all of an epoch; where there is no memory for it, says so and returns nothing.
    pub(crate) fn build_unless_short(
        &self,
        key: &EpochKey,
        interrupted: &AtomicBool,
    ) -> Result<Option<Built>, Failure> {
        match self.build(key, Depth::Full, interrupted) {
            Ok(built) => Ok(Some(built)),
            Err(error @ (EpochError::Memory(_) | EpochError::Budget { .. })) => {
                self.say_short(&error);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Says what it costs where the dataset got small pages though large ones were asked for.
    fn advise_pages(&self, epoch: &Epoch) {
        let Some(full) = epoch.full() else { return };
        let region = &full.copies()[0].region;
        let asked = self.store.config().pages != PageSet::PLAIN;
        if asked && !matches!(region.pages(), PageKind::Huge1G | PageKind::Huge2M) {
            let pages = (full.held_bytes() + epoch.light().held_bytes()).div_ceil(2 << 20) + 64;
            eprintln!(
                "the dataset of {} lies on {} pages, which costs about a third of the hash rate: set larger ones aside with `sysctl vm.nr_hugepages={pages}`",
                self.algorithm,
                region.pages()
            );
        }
    }

    /// Says that there is no memory for the full part.
    pub(crate) fn say_short(&self, error: &EpochError) {
        eprintln!("no dataset for {}: {error}; going on in light mode", self.algorithm);
    }

    /// How many threads build.
    pub(crate) fn threads(&self) -> usize {
        self.store.config().threads
    }
}

/// An epoch being built while other work goes on. Dropping it ends the build.
pub(crate) struct Aside {
    progress: Progress,
    outcome: mpsc::Receiver<Result<Arc<Epoch>, EpochError>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Epochs {
    /// Builds a part of an epoch, and what lies below it, on a thread of its own.
    pub(crate) fn build_aside(self: &Arc<Epochs>, key: EpochKey, depth: Depth) -> Result<Aside, Failure> {
        let progress = Progress::new();
        let (done, outcome) = mpsc::channel();
        let (epochs, watched) = (Arc::clone(self), progress.clone());
        let build = move || {
            if epochs.priority != Priority::High {
                priority::take(epochs.priority);
            }
            // Nobody hears of it if the search ended first.
            let _ = done.send(epochs.get(&key, depth, &watched));
        };
        let thread = thread::Builder::new().name("otedama-epoch".to_owned()).spawn(build)?;
        Ok(Aside { progress, outcome, thread: Some(thread) })
    }
}

impl Aside {
    /// How far it is, from 0 to 1.
    pub(crate) fn done(&self) -> f64 {
        let (done, total) = (self.progress.done_bytes(), self.progress.total_bytes());
        if total == 0 { 0.0 } else { done as f64 / total as f64 }
    }

    /// The epoch, once it is built, or why it could not be. Once.
    pub(crate) fn outcome(&self) -> Option<Result<Arc<Epoch>, EpochError>> {
        self.outcome.try_recv().ok()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.progress.cancel();
        if let Some(thread) = self.thread.take() {
            // The store turns a builder's panic into an error.
            let _ = thread.join();
        }
    }
}

/// The epoch that was named, and the height of a block in it (0 where heights do not matter).
pub(crate) fn era(algorithm: Algorithm, args: &EraArgs) -> Result<(Option<EpochKey>, u64), Failure> {
    if let (false, true) = (algorithm.spec().epoch == EpochKind::Key, args.key.is_some()) {
        return Err(usage(format!("{algorithm} takes no key: leave --key out")));
    }
    let numbered = args.height.is_some() || args.epoch.is_some();
    match algorithm.spec().epoch {
        EpochKind::Blocks(_) => numbered_era(algorithm, args.height, args.epoch),
        _ if numbered => {
            Err(usage(format!("{algorithm} has no epochs of blocks: leave --height and --epoch out")))
        }
        EpochKind::Key => Ok((Some(key(algorithm, args.key.as_deref())?), 0)),
        EpochKind::None => Ok((None, 0)),
    }
}

/// The epoch of a height, or of a number with the height of its first block.
fn numbered_era(
    algorithm: Algorithm,
    height: Option<u64>,
    epoch: Option<u32>,
) -> Result<(Option<EpochKey>, u64), Failure> {
    let params = ethash::Params::of(algorithm).ok_or_else(|| none(algorithm))?;
    let (epoch, height) = match (height, epoch) {
        (Some(height), _) => (params.epoch_at(height).map_err(usage)?, height),
        (None, Some(number)) => {
            let height = u64::from(params.epoch_blocks) * u64::from(number);
            (params.epoch(number).map_err(usage)?, height)
        }
        (None, None) => return Err(usage(format!("{algorithm} needs --height N or --epoch N"))),
    };
    Ok((Some(EthashBuilder::key(&epoch)), height))
}

/// The epoch that a key in hex names.
pub(crate) fn key(algorithm: Algorithm, hex: Option<&str>) -> Result<EpochKey, Failure> {
    let expected = format!("expected 1 to {} bytes in hex, such as a block's hash", SeedBytes::MAX);
    let digits = hex.ok_or_else(|| usage(format!("{algorithm} needs --key HEX: {expected}")))?;
    let bytes = hex::decode(digits)
        .map_err(|error| usage(format!("key '{digits}' is not hex ({error}): {expected}")))?;
    if bytes.is_empty() {
        return Err(usage(format!("key is empty: {expected}")));
    }
    EpochKey::bytes(algorithm, &bytes).map_err(|error| usage(format!("{error}; {expected}")))
}

/// An algorithm without epochs was asked for one.
pub(crate) fn none(algorithm: Algorithm) -> Failure {
    usage(format!("{algorithm} has no epochs"))
}

/// An epoch for benchmarks: a key as good as any, or the number asked for.
pub(crate) fn bench_era(
    algorithm: Algorithm,
    height: Option<u64>,
    epoch: Option<u32>,
) -> Result<Option<EpochKey>, Failure> {
    match algorithm.spec().epoch {
        EpochKind::Key => Ok(EpochKey::bytes(algorithm, b"otedama bench").ok()),
        // Epoch 0 belongs to no Etchash block, but is one of Etchash's rows all the same.
        EpochKind::Blocks(_) => {
            Ok(numbered_era(algorithm, height, epoch.or(height.is_none().then_some(0)))?.0)
        }
        EpochKind::None => Ok(None),
    }
}

impl From<EpochError> for Failure {
    fn from(error: EpochError) -> Failure {
        match error {
            EpochError::Cancelled(_) => work("interrupted while the epoch was being built"),
            error => work(error),
        }
    }
}
