//! The one thread that writes: it gathers what waits, writes it as one frame, makes it durable, tells everybody.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::SpoolError;
use super::files;
use super::reader::Durable;
use super::record::{MAX_RECORD_LEN, RecordError, ShareRecord};
use super::segment::{FRAME_HEAD_LEN, HEADER_LEN, Header, MAX_PAYLOAD_LEN, frame_head};
use super::{Durability, SpoolConfig};

/// Told the sequence of a record once it is durable, or why it never will be.
pub(super) type Waiter = Box<dyn FnOnce(Result<u64, SpoolError>) + Send>;

/// Encoded records that wait for the writer, in groups of at most one frame.
pub(super) struct Queue {
    state: Mutex<QueueState>,
    /// Something came to be written, or the queue was closed.
    filled: Condvar,
    /// Something was taken away.
    drained: Condvar,
    capacity: usize,
    commit_records: usize,
}

#[derive(Default)]
struct QueueState {
    groups: VecDeque<Group>,
    waiting: usize,
    closed: Option<SpoolError>,
}

/// What becomes one frame.
struct Group {
    records: Vec<u8>,
    waiters: Vec<Waiter>,
    since: Instant,
}

impl Queue {
    pub(super) fn new(config: &SpoolConfig) -> Queue {
        Queue {
            state: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            capacity: config.queue_records,
            commit_records: config.commit_records,
        }
    }

    /// Adds a record, or hands the waiter back with the reason why not.
    pub(super) fn push(&self, share: &ShareRecord, waiter: Waiter) -> Result<(), (Waiter, SpoolError)> {
        let mut state = self.lock();
        if let Some(error) = &state.closed {
            return Err((waiter, error.clone()));
        }
        if state.waiting >= self.capacity {
            return Err((waiter, SpoolError::QueueFull { capacity: self.capacity }));
        }
        let room = MAX_PAYLOAD_LEN - FRAME_HEAD_LEN - MAX_RECORD_LEN - 2;
        if state.groups.back().is_none_or(|group| group.records.len() > room) {
            state.groups.push_back(Group { records: Vec::new(), waiters: Vec::new(), since: Instant::now() });
        }
        let Some(group) = state.groups.back_mut() else { unreachable!("a group was just added") };
        if let Err(error) = encode(share, &mut group.records) {
            return Err((waiter, error.into()));
        }
        group.waiters.push(waiter);
        let in_group = group.waiters.len();
        state.waiting += 1;
        drop(state);
        // The writer sleeps until there is a first record, then until there are enough.
        if in_group == 1 || in_group == self.commit_records {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits until there is room.
    pub(super) fn wait_for_room(&self) {
        let state = self.lock();
        let full = |state: &mut QueueState| state.waiting >= self.capacity && state.closed.is_none();
        drop(self.drained.wait_while(state, full).unwrap_or_else(PoisonError::into_inner));
    }

    /// Refuses whatever comes from now on; what waits is still written.
    pub(super) fn close(&self, why: SpoolError) {
        self.lock().closed.get_or_insert(why);
        self.filled.notify_all();
        self.drained.notify_all();
    }

    /// The next group, once it is full or its first record has waited long enough. `None` at the end of a
    /// closed queue, an empty group when `until` has passed.
    fn take(&self, delay: Duration, until: Option<Instant>) -> Option<Group> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let deadline = match state.groups.front() {
                Some(group) => {
                    let due = group.since + delay;
                    let is_full = state.groups.len() > 1 || group.waiters.len() >= self.commit_records;
                    if is_full || state.closed.is_some() || due <= now {
                        break;
                    }
                    Some(until.map_or(due, |until| until.min(due)))
                }
                None if state.closed.is_some() => return None,
                None => until,
            };
            if until.is_some_and(|until| until <= now) {
                return Some(Group { records: Vec::new(), waiters: Vec::new(), since: now });
            }
            state = match deadline {
                Some(deadline) => {
                    let waited = self.filled.wait_timeout(state, deadline - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        let group = state.groups.pop_front()?;
        let was_full = state.waiting >= self.capacity;
        state.waiting -= group.waiters.len();
        drop(state);
        if was_full {
            self.drained.notify_all();
        }
        Some(group)
    }

    /// Tells everybody who still waits that it will not happen.
    fn fail_all(&self, error: &SpoolError) {
        let groups = {
            let mut state = self.lock();
            state.waiting = 0;
            mem::take(&mut state.groups)
        };
        self.drained.notify_all();
        for waiter in groups.into_iter().flat_map(|group| group.waiters) {
            tell(waiter, Err(error.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // A group is changed by pushes alone: one that panicked has left at most a record without a waiter,
        // and then `push`'s caller has panicked too. The count of a frame is that of its waiters.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends the record with its length before it; on error nothing is appended.
fn encode(share: &ShareRecord, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let start = out.len();
    out.extend([0, 0]);
    if let Err(error) = share.encode(out) {
        out.truncate(start);
        return Err(error);
    }
    let len = (out.len() - start - 2) as u16; // at most MAX_RECORD_LEN
    out[start..start + 2].copy_from_slice(&len.to_le_bytes());
    Ok(())
}

/// Runs until the queue is closed and empty, or something fails for good.
pub(super) struct Writer {
    pub(super) queue: Arc<Queue>,
    pub(super) durable: Arc<Durable>,
    pub(super) dir: PathBuf,
    pub(super) config: SpoolConfig,
    pub(super) segment: Segment,
}

/// The segment being written.
pub(super) struct Segment {
    pub(super) file: SegmentFile,
    pub(super) header: Header,
    /// Bytes written.
    pub(super) end: u64,
    /// Bytes known to be on disk.
    pub(super) synced: u64,
    /// Sequence of the next record to be written.
    pub(super) next: u64,
    /// When the oldest bytes that are not on disk were written.
    pub(super) unsynced_since: Option<Instant>,
}

impl Writer {
    pub(super) fn run(mut self) {
        if let Err(error) = self.work() {
            self.queue.close(error.clone());
            self.queue.fail_all(&error);
        }
        self.durable.update(|state| state.closed = true);
    }

    fn work(&mut self) -> Result<(), SpoolError> {
        loop {
            let sync_at = match self.config.durability {
                Durability::BeforeAnswer => None,
                Durability::LosesAtMost(window) => self.segment.unsynced_since.map(|since| since + window),
            };
            let Some(mut group) = self.queue.take(self.config.commit_delay, sync_at) else { break };
            let waiters = mem::take(&mut group.waiters);
            match self.commit(&group.records, waiters.len() as u32) {
                Ok(first) => {
                    for (sequence, waiter) in (first..).zip(waiters) {
                        tell(waiter, Ok(sequence));
                    }
                }
                Err(error) => {
                    for waiter in waiters {
                        tell(waiter, Err(error.clone()));
                    }
                    if !error.is_retryable() {
                        return Err(error);
                    }
                }
            }
        }
        self.sync()?;
        // The mark of a clean close vouches for the last frame.
        self.write(&[], 0)?;
        self.sync()
    }

    /// Writes a frame of `count` records, makes it as durable as was configured, and gives the first's sequence.
    fn commit(&mut self, records: &[u8], count: u32) -> Result<u64, SpoolError> {
        if count > 0 && self.segment.end >= self.config.segment_bytes {
            self.sync()?;
            self.begin_segment()?;
        }
        let first = self.segment.next;
        if count > 0 {
            self.write(records, count)?;
        }
        let is_due = match self.config.durability {
            Durability::BeforeAnswer => true,
            Durability::LosesAtMost(window) => {
                self.segment.unsynced_since.is_some_and(|since| since.elapsed() >= window)
            }
        };
        if is_due {
            self.sync()?;
        }
        Ok(first)
    }

    fn write(&mut self, records: &[u8], count: u32) -> Result<(), SpoolError> {
        let segment = &mut self.segment;
        let head = frame_head(segment.next, segment.synced, count, records);
        if let Err(error) = segment.file.write_at(segment.end, &[&head, records]) {
            return Err(self.after_failed_write(error));
        }
        segment.end += (head.len() + records.len()) as u64;
        segment.next += u64::from(count);
        segment.unsynced_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// A full disk is told and survived, if the half-written frame can be taken back; all else is the end.
    fn after_failed_write(&mut self, error: io::Error) -> SpoolError {
        let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        if !is_full {
            return stopped("writing", &error);
        }
        match self.segment.file.set_len(self.segment.end) {
            Ok(()) => SpoolError::DiskFull { dir: self.dir.clone() },
            Err(error) => stopped("cutting off what a full disk left half written", &error),
        }
    }

    fn sync(&mut self) -> Result<(), SpoolError> {
        let segment = &mut self.segment;
        if segment.unsynced_since.is_none() {
            return Ok(());
        }
        segment.file.sync().map_err(|error| stopped("fdatasync", &error))?;
        segment.synced = segment.end;
        segment.unsynced_since = None;
        let (end, next) = (segment.end, segment.next);
        self.durable.update(|state| (state.end, state.next) = (end, next));
        Ok(())
    }

    /// Everything written so far is on disk.
    fn begin_segment(&mut self) -> Result<(), SpoolError> {
        let header = Header { first: self.segment.next, ..self.segment.header.clone() };
        let file = match files::create(&self.dir, &header) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                // Nothing has its final name yet, unless the directory could not be synced: then the next
                // attempt replaces an equal file.
                return Err(SpoolError::DiskFull { dir: self.dir.clone() });
            }
            Err(error) => return Err(stopped("beginning a segment", &error)),
        };
        let end = HEADER_LEN as u64;
        self.segment.file.file = file;
        self.segment.header = header;
        (self.segment.end, self.segment.synced) = (end, end);
        let first = self.segment.next;
        self.durable.update(|state| {
            state.firsts.push(first);
            state.end = end;
        });
        Ok(())
    }
}

/// Calls back. One that panics harms nobody else: the panic hook has said so, and the others are told too.
fn tell(waiter: Waiter, outcome: Result<u64, SpoolError>) {
    let _ = panic::catch_unwind(AssertUnwindSafe(|| waiter(outcome)));
}

fn stopped(what: &str, error: &io::Error) -> SpoolError {
    SpoolError::Stopped { why: format!("{what} failed: {error}").into() }
}

/// A segment's file; in tests its operations can be made to fail.
pub(super) struct SegmentFile {
    file: File,
    #[cfg(test)]
    pub(super) faults: Arc<Faults>,
}

/// What the next operations on a segment's file will do.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) fail_sync: std::sync::atomic::AtomicBool,
    /// The disk takes this many more bytes, plus one; 0 is no limit.
    pub(super) room: std::sync::atomic::AtomicUsize,
    pub(super) syncs: std::sync::atomic::AtomicUsize,
}

impl SegmentFile {
    pub(super) fn new(file: File) -> SegmentFile {
        SegmentFile {
            file,
            #[cfg(test)]
            faults: Arc::default(),
        }
    }

    fn write_at(&mut self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        let bytes = parts.concat();
        #[cfg(test)]
        if let Some(room) = self.faults.room.load(std::sync::atomic::Ordering::SeqCst).checked_sub(1)
            && bytes.len() > room
        {
            self.file.write_all(&bytes[..room])?;
            return Err(ErrorKind::StorageFull.into());
        }
        self.file.write_all(&bytes)
    }

    /// Waits for the disk: contents and length, not times.
    fn sync(&mut self) -> io::Result<()> {
        #[cfg(test)]
        {
            self.faults.syncs.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if self.faults.fail_sync.swap(false, std::sync::atomic::Ordering::SeqCst) {
                return Err(io::Error::other("injected"));
            }
        }
        self.file.sync_data()
    }

    pub(super) fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.sync()
    }
}
