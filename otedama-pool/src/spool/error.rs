//! What can go wrong with a spool.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::RecordError;

/// Why a spool cannot do what was asked. Cheap to copy: one failed commit tells it to many waiters.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// A setting cannot work.
    #[error("spool setting {setting}: {why}")]
    Config {
        /// Which one.
        setting: &'static str,
        /// What is wrong and what was expected.
        why: String,
    },
    /// Another process has it open.
    #[error("spool {} is in use by another process: only one may write to it", dir.display())]
    InUse {
        /// Its directory.
        dir: PathBuf,
    },
    /// It belongs to another node.
    #[error("spool {} belongs to node '{found}', not to '{expected}'", dir.display())]
    OtherNode {
        /// Its directory.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asked.
        expected: String,
    },
    /// Something that was on disk is damaged. Nothing is skipped: an operator decides.
    #[error("spool segment {} is corrupt at byte {offset}: {what}", file.display())]
    Corrupt {
        /// Which file.
        file: PathBuf,
        /// Where the first bad frame starts, in bytes.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The share itself cannot be kept.
    #[error("share refused: {0}")]
    Record(#[from] RecordError),
    /// More shares are waiting to be written than the queue holds.
    #[error("the spool's queue is full ({capacity} shares): the disk does not keep up")]
    QueueFull {
        /// How many it holds.
        capacity: usize,
    },
    /// The disk is full. The shares that got this answer are not kept; the spool works again once there is room.
    #[error("spool {}: no space left on the disk; free some and shares are accepted again", dir.display())]
    DiskFull {
        /// Its directory.
        dir: PathBuf,
    },
    /// Writing failed in a way after which nothing is known about what is on disk. It never works again in
    /// this process: a second fsync would succeed without having written what the first one lost.
    #[error("the spool has stopped for good: {why}")]
    Stopped {
        /// What happened.
        why: Arc<str>,
    },
    /// It was closed.
    #[error("the spool is closed")]
    Closed,
    /// The wanted records have been consumed and removed.
    #[error("record {wanted} is no longer in the spool: the oldest kept is {oldest}")]
    Gone {
        /// Sequence asked for.
        wanted: u64,
        /// Oldest sequence kept.
        oldest: u64,
    },
    /// The wanted records have never been written.
    #[error("record {wanted} is beyond the spool's end, {next}: was the spool replaced by an older copy?")]
    Beyond {
        /// Sequence asked for.
        wanted: u64,
        /// The next to be written.
        next: u64,
    },
    /// Reading or opening failed.
    #[error("{action} {}: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        error: Arc<io::Error>,
    },
}

impl SpoolError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, SpoolError::QueueFull { .. } | SpoolError::DiskFull { .. })
    }

    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
        move |error| SpoolError::Io { action, path: path.to_owned(), error: Arc::new(error) }
    }
}
