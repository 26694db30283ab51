//! How an epoch is made: what an algorithm supplies, how the work is dealt out, and how it is watched.

#![forbid(unsafe_code)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice::ChunksMut;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::{EpochError, EpochKey};

/// What an algorithm supplies: the sizes of its memory and how to fill it. The same key must always give
/// the same bytes.
pub trait EpochBuilder: Send + Sync {
    /// The size of the light part in bytes, at least 1.
    fn light_bytes(&self, key: &EpochKey) -> usize;

    /// The size of the full part in bytes, or `None` where the algorithm has none.
    fn full_bytes(&self, key: &EpochKey) -> Option<usize>;

    /// The size in bytes of one item of the full part: chunks start and end between items.
    fn item_bytes(&self) -> usize {
        64
    }

    /// Fills the light part; `out` is zeroed and has [`EpochBuilder::light_bytes`].
    ///
    /// # Errors
    /// [`Cancelled`], when [`Progress::add`] said so. Call it every few milliseconds.
    fn build_light(&self, key: &EpochKey, out: &mut [u8], progress: &Progress) -> Result<(), Cancelled>;

    /// Fills the full part from the light part. Called on several threads at once, once on each: prepare
    /// what a thread needs, then fill what [`Chunks::take`] deals out until it deals no more.
    ///
    /// # Errors
    /// [`Cancelled`], when [`Progress::add`] said so.
    fn build_full(
        &self,
        key: &EpochKey,
        light: &[u8],
        chunks: &Chunks<'_>,
        progress: &Progress,
    ) -> Result<(), Cancelled>;
}

/// The build was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the build was cancelled; ask again to start over")]
pub struct Cancelled;

/// How far a build is, and the means to stop it. Clones are the same progress.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    // Relaxed throughout: the numbers are for people, and the flag guards no data.
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
}

impl Progress {
    /// Nothing done of nothing.
    pub fn new() -> Progress {
        Progress::default()
    }

    /// Bytes built so far.
    pub fn done_bytes(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }

    /// Bytes to build in all, as far as known: grows when a second part follows the first.
    pub fn total_bytes(&self) -> u64 {
        self.0.total.load(Ordering::Relaxed)
    }

    /// Asks whoever works under this progress to stop. There is no way back.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether [`Progress::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// Counts bytes as built.
    ///
    /// # Errors
    /// [`Cancelled`]: stop and return it.
    pub fn add(&self, bytes: usize) -> Result<(), Cancelled> {
        self.0.done.fetch_add(bytes as u64, Ordering::Relaxed);
        self.check()
    }

    /// Asks without counting.
    ///
    /// # Errors
    /// [`Cancelled`]: stop and return it.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    /// Announces more bytes to build.
    pub(super) fn expect(&self, bytes: usize) {
        self.0.total.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Shows the numbers of the build this one waits for.
    pub(super) fn mirror(&self, other: &Progress) {
        if !Arc::ptr_eq(&self.0, &other.0) {
            self.show(other.done_bytes(), other.total_bytes());
        }
    }

    /// Says how many bytes are built, and how many there are in all.
    pub(crate) fn show(&self, done: u64, total: u64) {
        self.0.done.store(done, Ordering::Relaxed);
        self.0.total.store(total, Ordering::Relaxed);
    }
}

/// The full part, cut into chunks that are dealt to whichever thread asks next.
#[derive(Debug)]
pub struct Chunks<'a> {
    queue: Mutex<std::iter::Enumerate<ChunksMut<'a, u8>>>,
    chunk_bytes: usize,
    closed: AtomicBool,
}

/// One chunk of the full part: whole items, zeroed.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// Where it starts in the full part, in bytes.
    pub offset: usize,
    /// What to fill.
    pub bytes: &'a mut [u8],
}

impl<'a> Chunks<'a> {
    /// The next chunk nobody has, or `None` when all are dealt or a thread failed.
    pub fn take(&self) -> Option<Chunk<'a>> {
        if self.closed.load(Ordering::Relaxed) {
            return None;
        }
        let (index, bytes) = self.queue.lock().unwrap_or_else(PoisonError::into_inner).next()?;
        Some(Chunk { offset: index * self.chunk_bytes, bytes })
    }

    /// Cuts `out` so that each of `threads` gets several chunks, of at most about 1 MiB, so that none is
    /// left working long after the others.
    fn new(out: &'a mut [u8], item_bytes: usize, threads: usize) -> Chunks<'a> {
        let share = out.len() / (threads * 8);
        let chunk_bytes = share.clamp(1, 1 << 20).next_multiple_of(item_bytes.max(1));
        let queue = Mutex::new(out.chunks_mut(chunk_bytes).enumerate());
        Chunks { queue, chunk_bytes, closed: AtomicBool::new(false) }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Bytes nobody took.
    fn left_bytes(self) -> usize {
        let queue = self.queue.into_inner().unwrap_or_else(PoisonError::into_inner);
        queue.map(|(_, bytes)| bytes.len()).sum()
    }
}

/// Fills a full part on `threads` threads, the calling one among them.
pub(super) fn fill_full(
    builder: &dyn EpochBuilder,
    key: &EpochKey,
    light: &[u8],
    out: &mut [u8],
    threads: usize,
    progress: &Progress,
) -> Result<(), EpochError> {
    let chunks = Chunks::new(out, builder.item_bytes(), threads);
    let work = || {
        let done = guarded(key, || Ok(builder.build_full(key, light, &chunks, progress)?));
        if done.is_err() {
            chunks.close();
        }
        done
    };
    let results: Vec<Result<(), EpochError>> = thread::scope(|scope| {
        // A thread that cannot be started costs time only: the others take its chunks.
        let spawn =
            |_| thread::Builder::new().name("otedama-epoch".to_owned()).spawn_scoped(scope, work).ok();
        let helpers: Vec<_> = (1..threads).filter_map(spawn).collect();
        let mine = work();
        let theirs = helpers
            .into_iter()
            .map(|helper| helper.join().unwrap_or_else(|panic| Err(panicked(key, &*panic))));
        std::iter::once(mine).chain(theirs).collect()
    });
    // A panic says more than the cancellation it may have met on other threads.
    let worse = |error: &EpochError| matches!(error, EpochError::Panicked { .. });
    let mut errors: Vec<EpochError> = results.into_iter().filter_map(Result::err).collect();
    errors.sort_by_key(|error| !worse(error));
    if let Some(error) = errors.into_iter().next() {
        return Err(error);
    }
    match chunks.left_bytes() {
        0 => Ok(()),
        left => Err(EpochError::Incomplete { key: *key, left }),
    }
}

/// Runs an algorithm's code, turning a panic into an error.
pub(super) fn guarded<T>(
    key: &EpochKey,
    work: impl FnOnce() -> Result<T, EpochError>,
) -> Result<T, EpochError> {
    // Unwind safe: whatever the code was writing is dropped unread after a panic.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(key, &*panic)))
}

fn panicked(key: &EpochKey, panic: &(dyn Any + Send)) -> EpochError {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    EpochError::Panicked { key: *key, message: text.unwrap_or("no message").to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_tile_the_part_in_whole_items() {
        for (len, item, threads) in [(64, 64, 1), (6400, 64, 3), (1 << 22, 64, 2), (100, 7, 4), (5, 64, 16)] {
            let mut out = vec![0_u8; len];
            let chunks = Chunks::new(&mut out, item, threads);
            let mut next = 0;
            while let Some(chunk) = chunks.take() {
                assert_eq!(chunk.offset, next);
                assert_eq!(chunk.offset % item, 0);
                assert!(chunk.bytes.len() <= (1 << 20) + item);
                next += chunk.bytes.len();
            }
            assert_eq!(next, len);
            assert_eq!(chunks.left_bytes(), 0);
        }
    }

    #[test]
    fn a_closed_queue_deals_no_more() {
        let mut out = vec![0_u8; 6400];
        let chunks = Chunks::new(&mut out, 64, 1);
        let taken = chunks.take().unwrap().bytes.len();
        chunks.close();
        assert!(chunks.take().is_none());
        assert_eq!(chunks.left_bytes(), 6400 - taken);
    }
}
