//! The directory of a spool: its segments' names, their creation, its lock.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::SpoolError;
use super::segment::{self, HEADER_LEN, Header};

const SUFFIX: &str = ".spool";
const UNFINISHED: &str = ".unfinished";

/// Held as long as the spool is open; the system drops it with the process.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "kept open: closing it drops the lock")] File);

pub(super) fn lock(dir: &Path) -> Result<Lock, SpoolError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(SpoolError::io("cannot create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(SpoolError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(SpoolError::io("cannot lock", &path)(error)),
    }
}

/// A segment's file name: its first sequence in 20 digits, so that names sort as numbers.
pub(super) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}{SUFFIX}"))
}

/// First sequences of all segments, in order.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, SpoolError> {
    let failed = || SpoolError::io("cannot list", dir);
    let mut firsts = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        let first: Option<u64> = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
        firsts.extend(first);
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Removes what a crash left of segments that never came to be.
pub(super) fn remove_unfinished(dir: &Path) -> Result<(), SpoolError> {
    for entry in fs::read_dir(dir).map_err(SpoolError::io("cannot list", dir))? {
        let path = entry.map_err(SpoolError::io("cannot list", dir))?.path();
        if path.to_str().is_some_and(|path| path.ends_with(UNFINISHED)) {
            fs::remove_file(&path).map_err(SpoolError::io("cannot remove", &path))?;
        }
    }
    Ok(())
}

/// Creates a segment of a header alone; when this returns it is on disk under its name. A crash before
/// leaves no file of that name, so a segment without a good header is always corrupt.
pub(super) fn create(dir: &Path, header: &Header) -> std::io::Result<File> {
    let path = path(dir, header.first);
    let unfinished = path.with_extension(&UNFINISHED[1..]);
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&unfinished)?;
    file.write_all(&header.encode())?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    sync_dir(dir)?;
    Ok(file)
}

/// The header of a segment, checked against the file's name and the node.
pub(super) fn header(dir: &Path, first: u64, bytes: &[u8], node: &str) -> Result<Header, SpoolError> {
    let file = path(dir, first);
    let corrupt = |what| SpoolError::Corrupt { file: file.clone(), offset: 0, what };
    let header = Header::decode(&bytes[..bytes.len().min(HEADER_LEN)]).map_err(corrupt)?;
    if header.node != node {
        return Err(SpoolError::OtherNode {
            dir: dir.to_owned(),
            found: header.node,
            expected: node.to_owned(),
        });
    }
    if header.first != first || header.origin > first {
        return Err(corrupt("the header does not agree with the file's name"));
    }
    Ok(header)
}

/// The last segment's bytes up to where it really ends.
pub(super) fn recover(
    dir: &Path,
    first: u64,
    node: &str,
) -> Result<(Header, segment::Recovered, u64), SpoolError> {
    let file = path(dir, first);
    let bytes = fs::read(&file).map_err(SpoolError::io("cannot read", &file))?;
    let header = header(dir, first, &bytes, node)?;
    let recovered = segment::recover(&bytes, &header).map_err(|corrupt| SpoolError::Corrupt {
        file,
        offset: corrupt.offset,
        what: corrupt.what,
    })?;
    Ok((header, recovered, bytes.len() as u64))
}

#[cfg(unix)]
fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Other systems keep names without being asked, or cannot be asked.
#[cfg(not(unix))]
fn sync_dir(_: &Path) -> std::io::Result<()> {
    Ok(())
}
