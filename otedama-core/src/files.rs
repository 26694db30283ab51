//! The user's cache folder, and files that are there whole or not at all.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where this library keeps what it can make again: `$XDG_CACHE_HOME/otedama`, or the same under `~/.cache`; `None`
/// if neither is known.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    folder.map(|folder| folder.join("otedama"))
}

/// Writes a file and the folders above it. It is written beside and renamed over, so that a reader never sees half
/// of it; each writer has a draft of its own.
///
/// # Errors
/// The file system's; no draft is left then.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}-{number}", std::process::id()));
    let written = fs::File::create(&draft)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}
