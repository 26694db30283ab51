//! Real nodes for tests: started in a folder of their own on free ports, ended when dropped.

pub(crate) mod fake;
pub(crate) mod litecoin;
pub(crate) mod monero;

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A running program and the folder it works in; both go when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    folder: PathBuf,
}

impl Daemon {
    /// Starts a program in a new folder; `args` gets the folder. `None`, and a line that says so, if the
    /// program is not installed.
    pub(crate) fn start(program: &str, args: impl FnOnce(&Path) -> Vec<String>) -> Option<Daemon> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("otedama-{program}-{}-{count}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let log = File::create(folder.join("output")).unwrap();
        let child = Command::new(program)
            .args(args(&folder))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        match child {
            Ok(child) => Some(Daemon { child, folder }),
            Err(_) => {
                let _ = fs::remove_dir_all(&folder);
                let _ = writeln!(std::io::stderr(), "SKIPPED: {program} is not installed");
                None
            }
        }
    }

    /// The folder it works in.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until `ready` gives something.
    ///
    /// # Panics
    /// If that takes more than a minute or the program ends, with what it printed.
    pub(crate) fn wait_for<T>(&mut self, what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let found = ready();
            let ended = self.child.try_wait().unwrap();
            if let (Some(found), None) = (found, ended) {
                return found;
            }
            if ended.is_some() || Instant::now() > deadline {
                let output = fs::read_to_string(self.folder.join("output")).unwrap_or_default();
                panic!("no {what}; the program {ended:?} printed:\n{output}");
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A port that nobody listens on, another at each call. Below those that systems give to outgoing connections,
/// of which one might come in between before a node has bound its own.
pub(crate) fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Test programs that run side by side begin at different ones.
        let step = COUNT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (std::process::id().wrapping_mul(97).wrapping_add(step) % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
