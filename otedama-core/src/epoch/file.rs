//! A full part kept on disk, so that a restart reads what it would otherwise compute.
//!
//! ```text
//! offset 0     magic, version, byte order, length, key, checksum of the table, checksum of this header
//!        128   table: XXH64 of each block of 1 MiB (the last may be shorter)
//!        then  the blocks, from the next multiple of 4096 on
//! ```
//!
//! All numbers are little-endian. A file is written beside its place and renamed into it when all of it is
//! on the disk, so a file with the right name is whole unless the disk or somebody else damaged it; that is
//! what the checksums are for. Blocks are checked when they are read: a damaged one is an error of its own, and
//! whoever reads computes these bytes instead.

#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh64::xxh64;

use super::key::{EpochKey, EpochSeed};

/// The format's version.
const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"otdmEPCH";
const BYTE_ORDER: u32 = 0x0102_0304;
const HEADER_BYTES: usize = 128;
const BLOCK_BYTES: usize = 1 << 20;
const ALIGNMENT: usize = 4096;

/// A file that holds the full part of an epoch. Threads may read from it at once.
#[derive(Debug)]
pub struct EpochFile {
    path: PathBuf,
    key: EpochKey,
    file: Mutex<File>,
    bytes: usize,
    table: Vec<u64>,
    damaged: AtomicU64,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system would not.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        #[source]
        error: io::Error,
    },
    /// The disk is full. The partial file is gone.
    #[error("{} needs {bytes} bytes and the disk is full: free some space; nothing was left behind", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Not such a file, or its first bytes are damaged.
    #[error("{} is no epoch file: remove it, and it will be built again", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Of another version of the format.
    #[error("{} has version {found} of the format: expected {VERSION}; it must be built again", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Written in the other byte order.
    #[error("{} is big-endian: expected little-endian; it must be built again", path.display())]
    ByteOrder {
        /// The file.
        path: PathBuf,
    },
    /// The header or the table does not match its checksum.
    #[error("the header of {} is damaged; it must be built again", path.display())]
    Header {
        /// The file.
        path: PathBuf,
    },
    /// The file of another epoch, or of another algorithm.
    #[error("{} holds another epoch: expected {key}; it must be built again", path.display())]
    OtherEpoch {
        /// The file.
        path: PathBuf,
        /// The epoch wanted.
        key: EpochKey,
    },
    /// Truncated, or of an epoch of another size.
    #[error("{} has {found} bytes: expected {expected}; it must be built again", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// The length that it should have.
        expected: u64,
    },
    /// A block does not match its checksum.
    #[error("{} is damaged within 1 MiB from byte {offset} of the dataset on; it must be built again", path.display())]
    Block {
        /// The file.
        path: PathBuf,
        /// Where the block starts in the full part.
        offset: u64,
    },
}

impl EpochFile {
    /// Where the full part of an epoch is kept in a folder.
    pub fn path(folder: &Path, key: &EpochKey) -> PathBuf {
        let seed = match &key.seed {
            EpochSeed::Number(number) => number.to_string(),
            EpochSeed::Bytes(bytes) => hex::encode(&**bytes),
        };
        folder.join(format!("{}-{seed}.epoch", key.algorithm))
    }

    /// Opens an epoch's file in a folder if there is one, and checks everything but the blocks. `bytes` is the
    /// size that the full part must have.
    ///
    /// # Errors
    /// [`FileError`], when there is a file and it is not what it should be.
    pub fn open(folder: &Path, key: &EpochKey, bytes: usize) -> Result<Option<EpochFile>, FileError> {
        let path = EpochFile::path(folder, key);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| FileError::Io { action: "open", path: path.clone(), error })?,
        };
        let table = check_header(&mut file, &path, key, bytes)?;
        let (file, key) = (Mutex::new(file), *key);
        Ok(Some(EpochFile { path, key, file, bytes, table, damaged: AtomicU64::new(0) }))
    }

    /// Writes the full part of an epoch into a folder, which is made if it is missing: beside the file's
    /// place, renamed into it when all is on the disk. Replaces what was there.
    ///
    /// # Errors
    /// [`FileError::DiskFull`] and [`FileError::Io`]; what was written is removed, what was there stays.
    pub fn write(folder: &Path, key: &EpochKey, full: &[u8]) -> Result<PathBuf, FileError> {
        let path = EpochFile::path(folder, key);
        let failed = |action, path: &Path, error| FileError::Io { action, path: path.to_owned(), error };
        fs::create_dir_all(folder).map_err(|error| failed("make", folder, error))?;
        replace(&path, |file| write_parts(file, key, full)).map_err(|error| match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                let bytes = (data_offset(full.len()) + full.len()) as u64;
                FileError::DiskFull { path: path.clone(), bytes }
            }
            _ => failed("write", &path, error),
        })?;
        Ok(path)
    }

    /// The epoch it holds.
    pub fn key(&self) -> &EpochKey {
        &self.key
    }

    /// The length of the full part.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How often reading met a damaged or unreadable block.
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Reads bytes of the full part from `offset` on, and checks the blocks they lie in.
    ///
    /// # Errors
    /// [`FileError::Block`] and [`FileError::Io`]; `out` is of no meaning then.
    ///
    /// # Panics
    /// If the full part has not as many bytes there.
    pub fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), FileError> {
        assert!(offset <= self.bytes && out.len() <= self.bytes - offset, "reading past the full part");
        let end = offset + out.len();
        let mut from = offset;
        let mut scratch = Vec::new();
        while from < end {
            let number = from / BLOCK_BYTES;
            let start = number * BLOCK_BYTES;
            let stop = self.bytes.min(start + BLOCK_BYTES);
            let to = stop.min(end);
            let out = &mut out[from - offset..to - offset];
            let read = if out.len() == stop - start {
                self.read_block(number, out)
            } else {
                scratch.resize(stop - start, 0);
                let read = self.read_block(number, &mut scratch);
                out.copy_from_slice(&scratch[from - start..to - start]);
                read
            };
            if read.is_err() {
                self.damaged.fetch_add(1, Ordering::Relaxed);
            }
            read?;
            from = to;
        }
        Ok(())
    }

    /// Reads every block.
    ///
    /// # Errors
    /// The first that is damaged or cannot be read.
    pub fn check(&self) -> Result<(), FileError> {
        let mut block = vec![0; BLOCK_BYTES];
        for number in 0..self.table.len() {
            let bytes = (self.bytes - number * BLOCK_BYTES).min(BLOCK_BYTES);
            self.read_block(number, &mut block[..bytes])?;
        }
        Ok(())
    }

    fn read_block(&self, number: usize, block: &mut [u8]) -> Result<(), FileError> {
        let offset = (number * BLOCK_BYTES) as u64;
        {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(data_offset(self.bytes) as u64 + offset))
                .and_then(|_| file.read_exact(block))
                .map_err(|error| FileError::Io { action: "read", path: self.path.clone(), error })?;
        }
        if checksum(block) != self.table[number] {
            return Err(FileError::Block { path: self.path.clone(), offset });
        }
        Ok(())
    }
}

/// XXH64 without a seed.
fn checksum(bytes: &[u8]) -> u64 {
    xxh64(bytes, 0)
}

/// Where the blocks of a full part of so many bytes start.
fn data_offset(bytes: usize) -> usize {
    (HEADER_BYTES + 8 * bytes.div_ceil(BLOCK_BYTES)).next_multiple_of(ALIGNMENT)
}

/// Everything of the header that does not depend on the blocks; the checksum of the table goes at its end.
fn header(key: &EpochKey, bytes: usize, table: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&BYTE_ORDER.to_le_bytes());
    header[16..24].copy_from_slice(&(bytes as u64).to_le_bytes());
    // The algorithm's name, then the key: kind, length, up to 60 bytes.
    let name = key.algorithm.name().as_bytes();
    header[24..24 + name.len()].copy_from_slice(name);
    let (kind, seed): (u8, &[u8]) = match &key.seed {
        EpochSeed::Number(number) => (0, &number.to_le_bytes()),
        EpochSeed::Bytes(bytes) => (1, bytes),
    };
    header[40..42].copy_from_slice(&[kind, seed.len() as u8]);
    header[42..42 + seed.len()].copy_from_slice(seed);
    header[112..120].copy_from_slice(&checksum(table).to_le_bytes());
    let checksum = checksum(&header[..120]);
    header[120..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Compares a file's header with the one it should have, the most telling difference first.
fn check_header(file: &mut File, path: &Path, key: &EpochKey, bytes: usize) -> Result<Vec<u64>, FileError> {
    let path = || path.to_owned();
    let io = |error| FileError::Io { action: "read", path: path(), error };
    let found = file.metadata().map_err(io)?.len();
    let mut read = [0; HEADER_BYTES];
    match file.read_exact(&mut read) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err(FileError::Foreign { path: path() });
        }
        done => done.map_err(io)?,
    }
    let word = |at: usize| u32::from_le_bytes([read[at], read[at + 1], read[at + 2], read[at + 3]]);
    if read[..8] != MAGIC {
        return Err(FileError::Foreign { path: path() });
    }
    if word(12) == BYTE_ORDER.swap_bytes() {
        return Err(FileError::ByteOrder { path: path() });
    }
    if read[120..] != checksum(&read[..120]).to_le_bytes() {
        return Err(FileError::Header { path: path() });
    }
    if word(8) != VERSION {
        return Err(FileError::Version { path: path(), found: word(8) });
    }
    let wanted = header(key, bytes, &[]);
    if read[24..112] != wanted[24..112] {
        return Err(FileError::OtherEpoch { path: path(), key: *key });
    }
    let expected = (data_offset(bytes) + bytes) as u64;
    if read[16..24] != wanted[16..24] || found != expected {
        return Err(FileError::Length { path: path(), found, expected });
    }
    let mut table = vec![0; 8 * bytes.div_ceil(BLOCK_BYTES)];
    file.read_exact(&mut table).map_err(io)?;
    if read[112..120] != checksum(&table).to_le_bytes() {
        return Err(FileError::Header { path: path() });
    }
    Ok(table.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
}

fn write_parts(file: &mut impl Write, key: &EpochKey, full: &[u8]) -> io::Result<()> {
    let table: Vec<u8> = full.chunks(BLOCK_BYTES).flat_map(|block| checksum(block).to_le_bytes()).collect();
    file.write_all(&header(key, full.len(), &table))?;
    file.write_all(&table)?;
    let padding = data_offset(full.len()) - HEADER_BYTES - table.len();
    file.write_all(&vec![0; padding])?;
    file.write_all(full)?;
    file.flush()
}

/// Puts what `write` writes at `path`, all of it or nothing, and onto the disk before it has that name. Each
/// writer has a draft of its own.
fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = path.with_extension(format!("epoch.{}-{number}", std::process::id()));
    let done = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&draft)
        .and_then(|file| {
            let mut writer = BufWriter::new(file);
            write(&mut writer)?;
            writer.get_ref().sync_all()
        })
        .and_then(|()| fs::rename(&draft, path))
        .and_then(|()| sync_folder(path));
    if done.is_err() {
        // Not there any more if it was the folder that could not be synced.
        let _ = fs::remove_file(&draft);
    }
    done
}

/// The new name is on the disk when the folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) && !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::Algorithm;

    /// Two blocks and a bit.
    const BYTES: usize = 2 * BLOCK_BYTES + 640;

    /// A folder of a test's own, removed when dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = std::env::temp_dir().join(format!("otedama-epoch-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            Folder(folder)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).map(|entries| entries.flatten().collect::<Vec<_>>());
            entries.unwrap_or_default().iter().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn key() -> EpochKey {
        EpochKey::number(Algorithm::Ethash, 7)
    }

    fn full() -> Vec<u8> {
        (0..BYTES as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    /// A folder with a file, changed in some way.
    fn changed(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Folder {
        let folder = Folder::new(name);
        let path = EpochFile::write(&folder.0, &key(), &full()).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        folder
    }

    fn open_error(folder: &Folder, key: &EpochKey, bytes: usize) -> FileError {
        EpochFile::open(&folder.0, key, bytes).unwrap_err()
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = Folder::new("read");
        assert!(EpochFile::open(&folder.0, &key(), BYTES).unwrap().is_none());
        for _ in 0..2 {
            EpochFile::write(&folder.0, &key(), &full()).unwrap();
        }
        assert_eq!(folder.names(), ["ethash-7.epoch"]);
        let file = EpochFile::open(&folder.0, &key(), BYTES).unwrap().unwrap();
        file.check().unwrap();
        for (offset, len) in [(0, BYTES), (0, 64), (BLOCK_BYTES - 64, 128), (BYTES - 64, 64), (BYTES, 0)] {
            let mut out = vec![0; len];
            file.read(offset, &mut out).unwrap();
            assert!(out == full()[offset..offset + len], "{len} bytes from {offset} on");
        }
        assert_eq!(file.damaged(), 0);
    }

    #[test]
    fn a_flipped_bit_is_found_in_its_block_and_nowhere_else() {
        let at = BLOCK_BYTES + 1000;
        let folder = changed("bit", |bytes| bytes[data_offset(BYTES) + at] ^= 4);
        let file = EpochFile::open(&folder.0, &key(), BYTES).unwrap().unwrap();
        let mut out = vec![0; 64];
        file.read(0, &mut out).unwrap();
        file.read(2 * BLOCK_BYTES, &mut out).unwrap();
        for error in [file.check().unwrap_err(), file.read(2 * BLOCK_BYTES - 64, &mut out).unwrap_err()] {
            assert!(
                matches!(error, FileError::Block { offset, .. } if offset == BLOCK_BYTES as u64),
                "{error}"
            );
        }
        assert_eq!(file.damaged(), 1);
    }

    #[test]
    fn every_byte_of_the_header_and_the_table_counts() {
        for at in 0..HEADER_BYTES + 24 {
            let folder = changed("header", |bytes| bytes[at] ^= 1);
            let error = open_error(&folder, &key(), BYTES);
            assert!(
                matches!(error, FileError::Foreign { .. } | FileError::Header { .. }),
                "byte {at}: {error}"
            );
        }
    }

    #[test]
    fn truncated_files_are_refused() {
        for left in [0, 100, HEADER_BYTES, HEADER_BYTES + 8, ALIGNMENT, ALIGNMENT + BLOCK_BYTES] {
            let folder = changed("truncated", |bytes| bytes.truncate(left));
            let error = open_error(&folder, &key(), BYTES);
            assert!(
                matches!(error, FileError::Foreign { .. } | FileError::Length { .. }),
                "{left} left: {error}"
            );
        }
        let folder = changed("longer", |bytes| bytes.push(0));
        assert!(matches!(open_error(&folder, &key(), BYTES), FileError::Length { .. }));
    }

    #[test]
    fn files_of_another_epoch_size_version_or_byte_order_are_refused() {
        let other = EpochKey::number(Algorithm::Ethash, 8);
        let folder = Folder::new("other");
        let path = EpochFile::write(&folder.0, &key(), &full()).unwrap();
        fs::rename(&path, EpochFile::path(&folder.0, &other)).unwrap();
        let error = open_error(&folder, &other, BYTES);
        assert!(matches!(error, FileError::OtherEpoch { .. }), "{error}");
        assert!(
            error
                .to_string()
                .ends_with("holds another epoch: expected ethash epoch 8; it must be built again")
        );

        let folder = changed("size", |_| {});
        assert!(matches!(open_error(&folder, &key(), BYTES + 64), FileError::Length { .. }));

        let resealed = |at: usize, word: u32| {
            changed("resealed", |bytes| {
                bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
                let checksum = checksum(&bytes[..120]);
                bytes[120..128].copy_from_slice(&checksum.to_le_bytes());
            })
        };
        let error = open_error(&resealed(8, 2), &key(), BYTES);
        assert!(matches!(error, FileError::Version { found: 2, .. }), "{error}");
        let error = open_error(&resealed(12, BYTE_ORDER.swap_bytes()), &key(), BYTES);
        assert!(matches!(error, FileError::ByteOrder { .. }), "{error}");
    }

    #[test]
    fn a_write_that_fails_leaves_what_was_there_and_nothing_else() {
        let folder = changed("full", |_| {});
        let path = EpochFile::path(&folder.0, &key());
        let before = fs::read(&path).unwrap();
        let error = replace(&path, |file| {
            file.write_all(&[1; 100_000])?;
            Err(ErrorKind::StorageFull.into())
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(folder.names(), ["ethash-7.epoch"]);
        assert!(fs::read(&path).unwrap() == before);
    }

    /// A file name in the way of the folder: an error that names it, whoever runs the tests.
    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = Folder::new("not-a-folder");
        fs::write(&folder.0, b"").unwrap();
        let error = EpochFile::write(&folder.0, &key(), &full()).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot make {}", folder.0.display())), "{error}");
        fs::remove_file(&folder.0).unwrap();
    }
}
