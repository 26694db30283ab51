//! The live view on a terminal: a pseudo terminal that the miner has for its own.

#![cfg(target_os = "linux")]

mod common;

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::pool::Pool;
use common::scratch;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What takes the whole screen, and what gives it back.
const TAKE: &str = "\x1b[?1049h";
const GIVE: &str = "\x1b[?1049l";

/// A miner on a terminal of 80 by 24, which `script` (util-linux) makes; stopped when it is dropped.
struct Miner {
    script: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
    _pool: Pool,
}

impl Miner {
    fn start(options: &str) -> Miner {
        let pool = Pool::serve("sha256d", &["--difficulty", "0.001"]);
        let mine = format!(
            "'{}' mine --algorithm sha256d --user me.rig1 --threads 1 --url stratum+tcp://{} {options}",
            env!("CARGO_BIN_EXE_otedama-cli"),
            pool.address
        );
        // Its number first, and how it left and what the terminal is like then.
        let line = format!(
            "stty cols 80 rows 24; sh -c \"echo miner \\$\\$ is here; exec {mine}\"; echo left with $?; stty -a; echo over"
        );
        let mut script = Command::new("script")
            .args(["-qfec", &line, "/dev/null"])
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .env("XDG_CACHE_HOME", scratch("cache"))
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is part of util-linux");
        let (mut from, keys) = (script.stdout.take().unwrap(), script.stdin.take().unwrap());
        let shown = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&shown);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                into.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Miner { script, keys, shown, _pool: pool }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, words: &str) -> String {
        let begun = Instant::now();
        loop {
            let shown = self.shown();
            if shown.contains(words) {
                return shown;
            }
            assert!(begun.elapsed() < PATIENCE, "no {words:?} in {shown:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Asks the miner to end as Ctrl-C does where it is no key.
    fn interrupt(&self) {
        let shown = self.wait_for(" is here");
        let id = shown.split("miner ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(Command::new("kill").args(["-INT", id]).status().unwrap().success());
    }

    /// It leaves well, and the terminal is as a shell expects it: keys are echoed, lines are edited. What it showed.
    fn leaves(&self) -> String {
        let shown = self.wait_for("over");
        let (_, after) = shown.split_once("left with ").unwrap();
        assert!(after.starts_with('0'), "{shown:?}");
        for mode in [" echo ", " icanon ", "isig "] {
            assert!(after.contains(mode), "{mode}: {after:?}");
        }
        shown
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// The view is gone and the last words stand after it.
fn is_clean(miner: &Miner) {
    let shown = miner.leaves();
    let (_, after) = shown.rsplit_once(GIVE).unwrap_or_else(|| panic!("not given back: {shown:?}"));
    assert!(after.contains(" hashes in ") && after.contains("shares accepted"), "{after:?}");
    assert!(after.contains("\x1b[?25h"), "no cursor: {after:?}");
}

#[test]
fn the_view_follows_pauses_and_leaves_on_a_key() {
    let mut miner = Miner::start("");
    miner.wait_for(TAKE);
    // What changes is drawn alone: only the first lines and words without a letter in common come whole.
    miner.wait_for("q quit  p pause");
    miner.press("p");
    miner.wait_for("resume");
    miner.press("p");
    thread::sleep(Duration::from_millis(300));
    miner.press("q");
    is_clean(&miner);
}

#[test]
fn ctrl_c_and_signals_give_the_terminal_back() {
    let mut miner = Miner::start("");
    miner.wait_for("q quit");
    miner.press("\x03");
    is_clean(&miner);
    let miner = Miner::start("");
    miner.wait_for("q quit");
    miner.interrupt();
    is_clean(&miner);
}

#[test]
fn plain_and_json_are_lines_on_a_terminal_too() {
    for (option, words) in [("--plain", "share accepted (1 of"), ("--json", "\"event\":\"accepted\"")] {
        let miner = Miner::start(option);
        miner.wait_for(words);
        miner.interrupt();
        let shown = miner.leaves();
        assert!(!shown.contains('\x1b'), "{shown:?}");
    }
}
