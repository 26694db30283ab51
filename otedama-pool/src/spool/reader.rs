//! Reading records in order, up to what is durable.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::SpoolError;
use super::files;
use super::record::ShareRecord;
use super::segment::{self, Corrupt, HEADER_LEN, MAX_PAYLOAD_LEN, NoFrame, Recovered};

/// A record and its number. Node and sequence name it in all the world and for all time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub sequence: u64,
    /// The share.
    pub share: ShareRecord,
}

/// What of a spool is durable; written by its writer, read by its readers.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) node: String,
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Debug)]
pub(super) struct State {
    /// First sequence of every segment there is, in order; never empty.
    pub(super) firsts: Vec<u64>,
    /// Durable bytes of the last segment.
    pub(super) end: u64,
    /// Sequence of the next record to become durable.
    pub(super) next: u64,
    /// Sequence of the first record this spool ever held.
    pub(super) origin: u64,
    /// Nothing will be added any more.
    pub(super) closed: bool,
}

impl Durable {
    pub(super) fn new(node: String, state: State) -> Durable {
        Durable { node, state: Mutex::new(state), grown: Condvar::new() }
    }

    /// The state, whoever panicked while holding it: every change to it is a single assignment's worth.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.grown.notify_all();
    }
}

/// Reads a spool's records in order and follows its live end. Every frame's checksum is checked.
#[derive(Debug)]
pub struct Reader {
    durable: Arc<Durable>,
    dir: PathBuf,
    position: u64,
    at: Option<Place>,
    /// Decoded and not yet handed out, last first.
    decoded: Vec<Stored>,
}

#[derive(Debug)]
struct Place {
    first: u64,
    file: File,
    expected: Recovered,
}

impl Reader {
    pub(super) fn new(durable: Arc<Durable>, dir: &Path, from: u64) -> Result<Reader, SpoolError> {
        let (oldest, next) = {
            let state = durable.lock();
            (state.firsts[0], state.next)
        };
        if from < oldest {
            return Err(SpoolError::Gone { wanted: from, oldest });
        }
        if from > next {
            return Err(SpoolError::Beyond { wanted: from, next });
        }
        Ok(Reader { durable, dir: dir.to_owned(), position: from, at: None, decoded: Vec::new() })
    }

    /// Whose spool this is.
    pub fn node(&self) -> &str {
        &self.durable.node
    }

    /// Sequence of the first record the spool ever held; a spool that replaced a lost one starts later.
    pub fn origin(&self) -> u64 {
        self.durable.lock().origin
    }

    /// Sequence of the record that comes next.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Up to `max` records; none if all durable ones have been read.
    pub fn read(&mut self, max: usize) -> Result<Vec<Stored>, SpoolError> {
        let mut records = Vec::new();
        while records.len() < max {
            match self.decoded.pop() {
                Some(stored) => {
                    self.position = stored.sequence + 1;
                    records.push(stored);
                }
                None if self.read_frame()? => {}
                None => break,
            }
        }
        Ok(records)
    }

    /// Waits until there is a record to read: `true`; or until the time is up or the spool was closed: `false`.
    pub fn wait(&self, timeout: Duration) -> bool {
        let state = self.durable.lock();
        let waiting = |state: &mut State| state.next <= self.position && !state.closed;
        let (state, _) = self
            .durable
            .grown
            .wait_timeout_while(state, timeout, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        state.next > self.position
    }

    /// Decodes the next frame that holds something from the position on; `false` if none is durable.
    fn read_frame(&mut self) -> Result<bool, SpoolError> {
        let Some((first, durable_end)) = self.segment()? else { return Ok(false) };
        let mut at = match self.at.take() {
            Some(at) if at.first == first => at,
            _ => self.open(first)?,
        };
        let path = files::path(&self.dir, first);
        let failed = || SpoolError::io("cannot read", &path);
        let corrupt =
            |bad: Corrupt| SpoolError::Corrupt { file: path.clone(), offset: bad.offset, what: bad.what };
        let end = match durable_end {
            Some(end) => end,
            None => at.file.metadata().map_err(failed())?.len(),
        };
        loop {
            let offset = at.expected.end;
            if offset >= end {
                return Err(corrupt(Corrupt { offset, what: "the segment ends before the next one begins" }));
            }
            let bytes = read_frame_at(&mut at.file, offset, end).map_err(failed())?;
            let frame = segment::frame(&bytes).map_err(|error| {
                let what = match error {
                    NoFrame::Incomplete => "a frame is cut short",
                    NoFrame::Damaged => "a frame is damaged",
                };
                corrupt(Corrupt { offset, what })
            })?;
            let records = segment::records_at(&frame, at.expected).map_err(corrupt)?;
            at.expected.end += frame.len as u64;
            at.expected.next += u64::from(frame.count);
            if at.expected.next > self.position {
                let numbered = (frame.first..).zip(records);
                let numbered = numbered.map(|(sequence, share)| Stored { sequence, share });
                self.decoded = numbered.filter(|stored| stored.sequence >= self.position).collect();
                self.decoded.reverse();
                self.at = Some(at);
                return Ok(true);
            }
        }
    }

    /// The segment that holds the position, by its first sequence, and how much of it is durable (`None`: all
    /// of it); nothing if the position is not durable yet.
    fn segment(&self) -> Result<Option<(u64, Option<u64>)>, SpoolError> {
        let state = self.durable.lock();
        if self.position >= state.next {
            return Ok(None);
        }
        // The last one that starts at or before the position.
        let place = state.firsts.partition_point(|first| *first <= self.position);
        let Some(first) = place.checked_sub(1).map(|place| state.firsts[place]) else {
            return Err(SpoolError::Gone { wanted: self.position, oldest: state.firsts[0] });
        };
        Ok(Some((first, (place == state.firsts.len()).then_some(state.end))))
    }

    fn open(&self, first: u64) -> Result<Place, SpoolError> {
        let path = files::path(&self.dir, first);
        let failed = || SpoolError::io("cannot read", &path);
        let mut file = File::open(&path).map_err(failed())?;
        let header = read_at(&mut file, 0, HEADER_LEN as u64).map_err(failed())?;
        files::header(&self.dir, first, &header, &self.durable.node)?;
        Ok(Place { first, file, expected: Recovered { end: HEADER_LEN as u64, next: first } })
    }
}

/// The bytes of the frame at `offset`, as long as its length field says and at most up to `end`.
fn read_frame_at(file: &mut File, offset: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut bytes = read_at(file, offset, (end - offset).min(8))?;
    if let Some(len) = bytes.first_chunk::<4>() {
        let len = u64::from(u32::from_le_bytes(*len)).min(MAX_PAYLOAD_LEN as u64);
        file.take(len.min(end - offset - bytes.len() as u64)).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn read_at(file: &mut File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}
