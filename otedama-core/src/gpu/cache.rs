//! Compiled kernels kept on disk, for a compiler takes longer than everything else at a start.
//!
//! An entry belongs to one device's name, driver and compiler, one text and its macros: these are hashed to the
//! entry's key. A file begins with that key and a checksum; one that is not what it should be is removed, counted
//! and made again. The logs of failed compilations lie beside the entries.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use xxhash_rust::xxh64::xxh64;

use super::{DeviceInfo, GpuError};
use crate::files::{cache_folder, write_whole};
use crate::primitive::sha256;

/// The most files of a folder, logs included: KawPow has a kernel every three minutes.
const MAX_FILES: usize = 256;

/// The most bytes of a folder.
const MAX_BYTES: u64 = 256 << 20;

/// The first bytes of an entry; the digit changes when the form does.
const MAGIC: &[u8; 8] = b"OTDKRNL1";

/// Magic, key, checksum of the rest.
const HEADER: usize = 8 + 32 + 8;

/// A folder of compiled kernels, or none. Clones count together.
#[derive(Clone, Debug)]
pub struct KernelCache {
    folder: Option<PathBuf>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    found: AtomicU64,
    made: AtomicU64,
    broken: AtomicU64,
}

/// What a [`KernelCache`] was good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Kernels that were taken from it.
    pub found: u64,
    /// Kernels that were compiled.
    pub made: u64,
    /// Entries that were damaged, foreign or refused by the driver, and made again.
    pub broken: u64,
}

impl KernelCache {
    /// Keeps nothing.
    pub fn none() -> KernelCache {
        KernelCache { folder: None, counts: Arc::default() }
    }

    /// Keeps kernels in this folder, which is made when there is something to keep.
    pub fn at(folder: impl Into<PathBuf>) -> KernelCache {
        KernelCache { folder: Some(folder.into()), counts: Arc::default() }
    }

    /// Keeps kernels in the user's cache folder: `$XDG_CACHE_HOME/otedama/kernels`, or the same under `~/.cache`;
    /// nothing if neither is known. There is one in a process, and its counts are of all devices.
    pub fn user() -> KernelCache {
        static USER: OnceLock<KernelCache> = OnceLock::new();
        let made = || KernelCache {
            folder: cache_folder().map(|folder| folder.join("kernels")),
            counts: Arc::default(),
        };
        USER.get_or_init(made).clone()
    }

    /// The folder, if there is one.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// What it was good for so far.
    pub fn counts(&self) -> CacheCounts {
        let Counts { found, made, broken } = self.counts.as_ref();
        let [found, made, broken] = [found, made, broken].map(|count| count.load(Ordering::Relaxed));
        CacheCounts { found, made, broken }
    }

    /// Takes a program from the cache, or compiles and keeps it. `load` makes a program of what was kept, and may
    /// refuse; `keep` gives the bytes to keep of a compiled one, if there are any.
    pub(super) fn program<P>(
        &self,
        key: &Key,
        load: impl FnOnce(&[u8]) -> Option<P>,
        compile: impl FnOnce() -> Result<P, GpuError>,
        keep: impl FnOnce(&P) -> Option<Vec<u8>>,
    ) -> Result<P, GpuError> {
        match self.read(key) {
            Read::Whole(file) => {
                if let Some(program) = load(&file[HEADER..]) {
                    self.counts.found.fetch_add(1, Ordering::Relaxed);
                    return Ok(program);
                }
                self.drop_broken(key);
            }
            Read::Broken => self.drop_broken(key),
            Read::Absent => {}
        }
        let program = compile().map_err(|error| self.with_log(error))?;
        self.counts.made.fetch_add(1, Ordering::Relaxed);
        if let (Some(path), Some(bytes)) = (self.path(key), keep(&program)) {
            // Best effort: what cannot be kept is compiled again next time.
            let _ = write_whole(&path, &key.file(&bytes));
            self.tidy();
        }
        Ok(program)
    }

    fn path(&self, key: &Key) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{}-{}.bin", key.title, hex::encode(&key.hash[..12]))))
    }

    fn read(&self, key: &Key) -> Read {
        let Some(path) = self.path(key) else { return Read::Absent };
        match fs::metadata(&path) {
            Ok(found) if found.len() > MAX_BYTES => return Read::Broken,
            Ok(_) => {}
            Err(_) => return Read::Absent,
        }
        let Ok(file) = fs::read(&path) else { return Read::Broken };
        if file.get(HEADER..).is_none_or(|bytes| !file.starts_with(&key.header(bytes))) {
            return Read::Broken;
        }
        // The oldest go first, and this one is in use. Where the time cannot be set it goes in its turn.
        let _ = fs::File::options().append(true).open(&path).map(|file| file.set_modified(SystemTime::now()));
        Read::Whole(file)
    }

    fn drop_broken(&self, key: &Key) {
        self.counts.broken.fetch_add(1, Ordering::Relaxed);
        if let Some(path) = self.path(key) {
            let _ = fs::remove_file(path);
        }
    }

    /// Saves the log of a failed compilation, one file for each program, and names it in the error.
    fn with_log(&self, error: GpuError) -> GpuError {
        match (error, &self.folder) {
            (GpuError::Build { device, name, log, .. }, Some(folder)) => {
                let path = folder.join(format!("{}.log", title(&name)));
                let saved = write_whole(&path, log.as_bytes()).ok().map(|()| path);
                self.tidy();
                GpuError::Build { device, name, log, saved }
            }
            (error, _) => error,
        }
    }

    /// Removes the oldest files until the rest is within limits.
    fn tidy(&self) {
        let Some(entries) = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok()) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((about.modified().ok()?, about.len(), entry.path()))
            })
            .collect();
        files.sort_unstable();
        let (mut count, mut bytes) = (files.len(), files.iter().map(|file| file.1).sum::<u64>());
        for (_, size, path) in files {
            if count <= MAX_FILES && bytes <= MAX_BYTES {
                return;
            }
            if fs::remove_file(path).is_ok() {
                (count, bytes) = (count - 1, bytes - size);
            }
        }
    }
}

enum Read {
    Whole(Vec<u8>),
    Broken,
    Absent,
}

/// Which compiled program.
pub(super) struct Key {
    title: String,
    hash: [u8; 32],
}

impl Key {
    /// The program that `compiler` (its name and version) makes of a text with these options, for a device.
    pub(super) fn new(info: &DeviceInfo, compiler: &str, name: &str, text: &str, options: &str) -> Key {
        let api = info.id.api().to_string();
        let mut message = Vec::new();
        for part in [&api, &info.name, &info.vendor, &info.driver, compiler, text, options] {
            // Each with its length, so that nothing of one can be taken for the next.
            message.extend((part.len() as u64).to_le_bytes());
            message.extend(part.as_bytes());
        }
        Key { title: title(name), hash: sha256::digest(&message) }
    }

    fn header(&self, bytes: &[u8]) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..40].copy_from_slice(&self.hash);
        header[40..].copy_from_slice(&xxh64(bytes, 0).to_le_bytes());
        header
    }

    fn file(&self, bytes: &[u8]) -> Vec<u8> {
        [self.header(bytes).as_slice(), bytes].concat()
    }
}

/// A program's name as part of a file's: its first word, without what a file's name may not have.
fn title(name: &str) -> String {
    let word = name.split_whitespace().next().unwrap_or("kernel");
    word.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_').take(40).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gpu::DeviceId;

    /// A folder of its own, removed in the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let folder = std::env::temp_dir().join(format!("otedama-kernels-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            Scratch(folder)
        }

        fn files(&self) -> Vec<PathBuf> {
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn info() -> DeviceInfo {
        DeviceInfo {
            id: DeviceId::OpenCl(0, 0),
            name: "a card".to_owned(),
            vendor: "somebody".to_owned(),
            driver: "1".to_owned(),
            pci: None,
            memory: 0,
            max_buffer: 0,
            units: 1,
            compute: None,
            is_cpu: false,
        }
    }

    fn key(text: &str) -> Key {
        Key::new(&info(), "", "toy", text, "-D A=1")
    }

    /// Asks for a program, which is the bytes kept; compiling gives `compiled`.
    fn ask(cache: &KernelCache, key: &Key, compiled: &[u8]) -> Vec<u8> {
        let load = |bytes: &[u8]| (bytes != b"refuse me").then(|| bytes.to_vec());
        cache.program(key, load, || Ok(compiled.to_vec()), |program| Some(program.clone())).unwrap()
    }

    fn counts(found: u64, made: u64, broken: u64) -> CacheCounts {
        CacheCounts { found, made, broken }
    }

    #[test]
    fn what_was_kept_is_taken_and_only_by_its_own_key() {
        let scratch = Scratch::new("kept");
        let cache = KernelCache::at(&scratch.0);
        assert_eq!(ask(&cache, &key("text"), b"first"), b"first");
        assert_eq!(ask(&cache, &key("text"), b"second"), b"first");
        assert_eq!(cache.counts(), counts(1, 1, 0));
        let other = |change: &dyn Fn(&mut DeviceInfo)| {
            let mut other = info();
            change(&mut other);
            Key::new(&other, "", "toy", "text", "-D A=1")
        };
        let others = [
            key("text2"),
            other(&|info| info.name.push('!')),
            other(&|info| info.driver.push('2')),
            other(&|info| info.id = DeviceId::Cuda(0)),
            Key::new(&info(), "nvrtc 12", "toy", "text", "-D A=1"),
            Key::new(&info(), "", "toy", "text-", "D A=1"),
        ];
        for (made, other) in (2..).zip(&others) {
            assert_eq!(ask(&cache, other, b"another"), b"another");
            assert_eq!(cache.counts().made, made);
        }
        // The same device under another number is no other device.
        assert_eq!(ask(&cache, &other(&|info| info.id = DeviceId::OpenCl(1, 3)), b"third"), b"first");
        assert_eq!(ask(&KernelCache::none(), &key("text"), b"second"), b"second");
    }

    #[test]
    fn damaged_foreign_and_refused_entries_are_made_again() {
        let scratch = Scratch::new("damaged");
        let cache = KernelCache::at(&scratch.0);
        let right = key("text");
        ask(&cache, &right, b"a program");
        let path = scratch.files().pop().unwrap();
        let whole = fs::read(&path).unwrap();
        let mut broken = 0;
        let mut check = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            assert_eq!(ask(&cache, &right, b"a program"), b"a program");
            broken += 1;
            assert_eq!(cache.counts(), counts(0, 1 + broken, broken), "{bytes:x?}");
            assert_eq!(fs::read(&path).unwrap(), whole, "it is there again");
        };
        for byte in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1;
            check(&flipped);
        }
        for length in 0..whole.len() {
            check(&whole[..length]);
        }
        check(&[whole.as_slice(), b"!"].concat());
        // Whole, but of another text.
        check(&key("other").file(b"a program"));
        // Whole, but the driver does not take it.
        check(&right.file(b"refuse me"));
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let scratch = Scratch::new("bounded");
        let cache = KernelCache::at(&scratch.0);
        ask(&cache, &key("used"), b"used");
        for text in 0..MAX_FILES + 9 {
            ask(&cache, &key(&text.to_string()), b"made");
            // Clocks of file systems are coarse.
            let path = cache.path(&key(&text.to_string())).unwrap();
            let age = Duration::from_secs(3600 - text as u64);
            fs::File::options()
                .append(true)
                .open(path)
                .unwrap()
                .set_modified(SystemTime::now() - age)
                .unwrap();
        }
        assert_eq!(scratch.files().len(), MAX_FILES);
        let before = cache.counts();
        ask(&cache, &key("used"), b"again");
        ask(&cache, &key(&(MAX_FILES + 8).to_string()), b"again");
        assert_eq!(cache.counts(), CacheCounts { found: before.found + 2, ..before });
        ask(&cache, &key("0"), b"again");
        assert_eq!(cache.counts().made, before.made + 1, "the oldest is gone");
    }

    #[test]
    fn a_folder_that_cannot_be_made_only_means_compiling_again() {
        let scratch = Scratch::new("unwritable");
        fs::create_dir_all(&scratch.0).unwrap();
        fs::write(scratch.0.join("file"), "in the way").unwrap();
        let cache = KernelCache::at(scratch.0.join("file").join("kernels"));
        for made in 1..3 {
            assert_eq!(ask(&cache, &key("text"), b"program"), b"program");
            assert_eq!(cache.counts(), counts(0, made, 0));
        }
    }

    #[test]
    fn a_failed_compilation_leaves_its_log_once_for_each_program() {
        let scratch = Scratch::new("log");
        let cache = KernelCache::at(&scratch.0);
        for (name, log) in [("kawpow period 7", "error: one"), ("kawpow period 8", "error: two\nmore")] {
            let build = || {
                let (device, name, log) = (DeviceId::Cuda(0), name.to_owned(), log.to_owned());
                Err::<(), _>(GpuError::Build { device, name, log, saved: None })
            };
            let error = cache.program(&key("text"), |_| None, build, |()| None).unwrap_err();
            let path = scratch.0.join("kawpow.log");
            assert_eq!(fs::read_to_string(&path).unwrap(), log);
            assert!(error.to_string().ends_with(&format!("(all of it: {})", path.display())), "{error}");
            assert_eq!(scratch.files(), [path]);
        }
    }
}
