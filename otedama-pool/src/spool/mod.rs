//! The share spool: every accepted share is here, on disk, before its miner hears of it.
//!
//! An append-only log in a directory of its own, cut into segments. Shares are numbered by a sequence that
//! never repeats; node and sequence name a share for good, and the ledger consumes by them exactly once. A
//! database that is down only makes the spool grow.
//!
//! One thread writes. It waits until 256 shares are there or the first has waited 2 ms, writes them as one
//! frame with one checksum, calls fdatasync, and only then answers. Shares that arrive meanwhile are the next
//! frame. What the bytes mean, and what a damaged end means, is in `segment.rs`.
//!
//! - A torn end, left by a crash, is cut off when the spool is opened and reported ([`Opened`]).
//! - Damage anywhere else is an error that names file and offset. Nothing is ever skipped.
//! - When fdatasync fails, the spool has stopped for good: a second call could succeed without having
//!   written what the first one lost.
//! - A full disk refuses shares with a clear error and works again when there is room.
//!
//! A record that was never acknowledged may nevertheless be there after a crash: its frame was on disk and
//! the answer was not on its way yet. It is a true share and is credited.

mod error;
mod files;
mod reader;
mod record;
mod segment;
mod writer;

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

pub use error::SpoolError;
pub use reader::{Reader, Stored};
pub use record::{MAX_COIN_LEN, MAX_MINER_LEN, MAX_WORKER_LEN, RecordError, ShareRecord};
pub use segment::MAX_NODE_LEN;

use files::Lock;
use reader::{Durable, State};
use segment::{HEADER_LEN, Header};
use writer::{Queue, Segment, SegmentFile, Waiter, Writer};

/// When a share's answer may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Once the share is on disk. Nothing that was acknowledged is lost, whatever crashes.
    BeforeAnswer,
    /// Once the share is handed to the system; the disk follows within this time. A crash of the process
    /// loses nothing; a crash of the machine or a power cut loses up to this much time of acknowledged shares,
    /// and their sequence numbers are given again (the ledger never saw them: it reads what is on disk).
    LosesAtMost(Duration),
}

/// How a spool works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The node's name, unique among the pool's nodes and never changed: 1 to 32 bytes of `a-z 0-9 - _ .`
    pub node: String,
    /// When answers may leave.
    pub durability: Durability,
    /// How many shares do not wait for others to share an fdatasync with: 1 or more.
    pub commit_records: usize,
    /// How long the first share waits for others.
    pub commit_delay: Duration,
    /// A segment that has reached this many bytes is followed by another: 4 KiB to 1 GiB.
    pub segment_bytes: u64,
    /// How many shares may wait to be written; more are refused.
    pub queue_records: usize,
    /// The first sequence of a spool that does not exist yet. `None`: microseconds since 1970, so that a spool
    /// that replaces a lost one goes on above it (less than a million shares a second had to be in that one).
    pub first_sequence: Option<u64>,
}

impl SpoolConfig {
    /// The defaults: durable before the answer, 256 shares or 2 ms, segments of 64 MiB, 65,536 shares waiting.
    pub fn new(node: impl Into<String>) -> SpoolConfig {
        SpoolConfig {
            node: node.into(),
            durability: Durability::BeforeAnswer,
            commit_records: 256,
            commit_delay: Duration::from_millis(2),
            segment_bytes: 64 << 20,
            queue_records: 65_536,
            first_sequence: None,
        }
    }

    fn check(&self) -> Result<(), SpoolError> {
        let bad = |setting, why: String| Err(SpoolError::Config { setting, why });
        let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if !(1..=MAX_NODE_LEN).contains(&self.node.len()) || !self.node.bytes().all(fine) {
            return bad("node", format!("'{}' is not 1 to 32 characters of a-z 0-9 - _ .", self.node));
        }
        if !(4096..=1 << 30).contains(&self.segment_bytes) {
            return bad("segment_bytes", format!("{} is not from 4 KiB to 1 GiB", self.segment_bytes));
        }
        if self.commit_records == 0 || self.queue_records < self.commit_records {
            return bad(
                "commit_records",
                format!("{} is not from 1 to queue_records, {}", self.commit_records, self.queue_records),
            );
        }
        if self.first_sequence.is_some_and(|first| first >= 1 << 62) {
            return bad("first_sequence", "it is not below 2^62".to_owned());
        }
        Ok(())
    }
}

/// What opening a spool found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of a torn end that were cut off; 0 after a clean close or a crash between commits.
    pub torn_bytes: u64,
    /// Where they were.
    pub torn_file: Option<PathBuf>,
    /// Whether the spool did not exist before.
    pub is_new: bool,
}

/// A spool open for writing. Dropping it writes what waits, marks the clean close and ends its thread.
pub struct Spool {
    queue: Arc<Queue>,
    durable: Arc<Durable>,
    dir: PathBuf,
    opened: Opened,
    writer: Option<JoinHandle<()>>,
    _lock: Lock,
    #[cfg(test)]
    faults: Arc<writer::Faults>,
}

impl Spool {
    /// Opens the spool in this directory, creating both if needed; recovers from a crash.
    pub fn open(dir: &Path, config: SpoolConfig) -> Result<Spool, SpoolError> {
        config.check()?;
        fs::create_dir_all(dir).map_err(SpoolError::io("cannot create", dir))?;
        let lock = files::lock(dir)?;
        files::remove_unfinished(dir)?;
        let mut firsts = files::list(dir)?;
        let mut opened = Opened { is_new: firsts.is_empty(), ..Opened::default() };
        let (file, header, recovered) = match firsts.last() {
            Some(last) => {
                let (header, recovered, len) = files::recover(dir, *last, &config.node)?;
                let path = files::path(dir, *last);
                let failed = SpoolError::io("cannot open", &path);
                let file = fs::File::options().read(true).write(true).open(&path).map_err(failed)?;
                let mut file = SegmentFile::new(file);
                if len > recovered.end {
                    opened.torn_bytes = len - recovered.end;
                    opened.torn_file = Some(path.clone());
                }
                // Also what the system had not written when the last process died becomes durable here.
                file.set_len(recovered.end).map_err(SpoolError::io("cannot cut the torn end off", &path))?;
                (file, header, recovered)
            }
            None => {
                let first = config.first_sequence.unwrap_or_else(microseconds_since_1970);
                let header = Header { node: config.node.clone(), origin: first, first };
                let file =
                    files::create(dir, &header).map_err(SpoolError::io("cannot create a segment in", dir))?;
                firsts.push(first);
                (SegmentFile::new(file), header, segment::Recovered { end: HEADER_LEN as u64, next: first })
            }
        };
        let (end, next, origin) = (recovered.end, recovered.next, header.origin);
        let state = State { firsts, end, next, origin, closed: false };
        let durable = Arc::new(Durable::new(config.node.clone(), state));
        let queue = Arc::new(Queue::new(&config));
        #[cfg(test)]
        let faults = Arc::clone(&file.faults);
        let segment = Segment { file, header, end, synced: end, next, unsynced_since: None };
        let writer = Writer {
            queue: Arc::clone(&queue),
            durable: Arc::clone(&durable),
            dir: dir.to_owned(),
            config,
            segment,
        };
        let writer = thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || writer.run())
            .map_err(SpoolError::io("cannot start the writer of", dir))?;
        Ok(Spool {
            queue,
            durable,
            dir: dir.to_owned(),
            opened,
            writer: Some(writer),
            _lock: lock,
            #[cfg(test)]
            faults,
        })
    }

    /// What opening found: tell the operator.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.durable.node
    }

    /// Sequence of the next record to become durable.
    pub fn next_sequence(&self) -> u64 {
        self.durable.lock().next
    }

    /// Appends a share and waits until it is durable; gives its sequence. Waits, too, while the queue is full.
    pub fn append(&self, share: &ShareRecord) -> Result<u64, SpoolError> {
        let slot = Arc::new((Mutex::new(None), Condvar::new()));
        let teller = Arc::clone(&slot);
        let mut waiter: Waiter = Box::new(move |outcome| {
            *teller.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            teller.1.notify_one();
        });
        loop {
            match self.queue.push(share, waiter) {
                Ok(()) => break,
                Err((back, SpoolError::QueueFull { .. })) => {
                    waiter = back;
                    self.queue.wait_for_room();
                }
                Err((_, error)) => return Err(error),
            }
        }
        let outcome = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outcome =
            slot.1.wait_while(outcome, |outcome| outcome.is_none()).unwrap_or_else(PoisonError::into_inner);
        outcome.take().unwrap_or(Err(SpoolError::Closed))
    }

    /// Appends a share and calls back, on the writer's thread, once it is durable or never will be. The callback
    /// must be quick: the next commit waits for it. Returns at once; an error here means it will not be called.
    pub fn submit(
        &self,
        share: &ShareRecord,
        on_durable: impl FnOnce(Result<u64, SpoolError>) + Send + 'static,
    ) -> Result<(), SpoolError> {
        self.queue.push(share, Box::new(on_durable)).map_err(|(_, error)| error)
    }

    /// Appends a share at once; the future, of any runtime, is ready when it is durable. Dropping the future
    /// does not take the share back.
    pub fn append_async(&self, share: &ShareRecord) -> Appending {
        let shared = Arc::new(Mutex::new(AppendingState::default()));
        let teller = Arc::clone(&shared);
        let refused = self.submit(share, move |outcome| {
            let waker = {
                let mut state = teller.lock().unwrap_or_else(PoisonError::into_inner);
                state.outcome = Some(outcome);
                state.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        if let Err(error) = refused {
            shared.lock().unwrap_or_else(PoisonError::into_inner).outcome = Some(Err(error));
        }
        Appending { shared }
    }

    /// A reader of the records from this sequence on, following the live end.
    pub fn reader(&self, from: u64) -> Result<Reader, SpoolError> {
        Reader::new(Arc::clone(&self.durable), &self.dir, from)
    }

    /// Sequence of the oldest record that is kept.
    pub fn oldest_sequence(&self) -> u64 {
        self.durable.lock().firsts[0]
    }

    /// Removes the segments all of whose records come before `consumed`; the one being written stays. Call it
    /// with what the ledger has committed, never with what was merely read. Gives the number removed.
    pub fn release(&self, consumed: u64) -> Result<usize, SpoolError> {
        let mut removed = 0;
        loop {
            let oldest = {
                let mut state = self.durable.lock();
                match state.firsts[..] {
                    [oldest, next, ..] if next <= consumed => {
                        state.firsts.remove(0);
                        oldest
                    }
                    _ => return Ok(removed),
                }
            };
            let path = files::path(&self.dir, oldest);
            fs::remove_file(&path).map_err(SpoolError::io("cannot remove", &path))?;
            removed += 1;
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.queue.close(SpoolError::Closed);
        if let Some(writer) = self.writer.take() {
            // It has no reason to panic; if a callback did, there is nobody left to tell.
            let _ = writer.join();
        }
    }
}

/// Reads a spool that nobody writes to, from its oldest record to the last good one. Changes nothing; refuses a
/// spool that is in use.
pub fn read_closed(dir: &Path, node: &str) -> Result<Reader, SpoolError> {
    let _lock = files::lock(dir)?;
    let firsts = files::list(dir)?;
    let (Some(oldest), Some(last)) = (firsts.first().copied(), firsts.last().copied()) else {
        return Err(SpoolError::Config {
            setting: "dir",
            why: format!("{} holds no segment", dir.display()),
        });
    };
    let (header, recovered, _) = files::recover(dir, last, node)?;
    let (end, next) = (recovered.end, recovered.next);
    let state = State { firsts, end, next, origin: header.origin, closed: true };
    Reader::new(Arc::new(Durable::new(node.to_owned(), state)), dir, oldest)
}

/// What a fuzzer may feed with any bytes: the records of a last segment of node `node-1` as far as they can be
/// believed, `None` where opening would report corruption.
#[doc(hidden)]
pub fn records_of_segment(bytes: &[u8]) -> Option<Vec<ShareRecord>> {
    let header = Header::decode(bytes).ok()?;
    let recovered = segment::recover(bytes, &header).ok()?;
    let (mut at, mut all) = (segment::Recovered { end: HEADER_LEN as u64, next: header.first }, Vec::new());
    while at.end < recovered.end {
        let frame = segment::frame(&bytes[at.end as usize..]).ok()?;
        all.extend(segment::records_at(&frame, at).ok()?);
        at = segment::Recovered { end: at.end + frame.len as u64, next: at.next + u64::from(frame.count) };
    }
    Some(all)
}

/// A share on its way to the disk: ready with its sequence once it is durable.
#[must_use = "a share is durable only when this is ready"]
pub struct Appending {
    shared: Arc<Mutex<AppendingState>>,
}

#[derive(Default)]
struct AppendingState {
    outcome: Option<Result<u64, SpoolError>>,
    waker: Option<Waker>,
}

impl Future for Appending {
    type Output = Result<u64, SpoolError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match state.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn microseconds_since_1970() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX).min((1 << 62) - 1)
}

#[cfg(test)]
mod tests;
