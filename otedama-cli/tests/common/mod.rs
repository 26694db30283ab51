//! Running the program, and reading what it says.

// Each test file uses some of these.
#![allow(dead_code)]

pub(crate) mod pool;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How a run ended, and what it said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    /// The standard output of a run that went well and had nothing else to say.
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }

    /// The JSON objects on the lines of standard output.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The program with these arguments, its caches out of the user's way.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_otedama-cli"));
    command.args(args).env("XDG_CACHE_HOME", scratch("cache")).stdin(Stdio::null());
    command
}

/// A folder of this test process; not made yet.
pub(crate) fn scratch(name: &str) -> PathBuf {
    // Below the build's own folder for tests, so that nothing piles up elsewhere.
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()))
}

pub(crate) fn run(args: &[&str]) -> Answer {
    run_with(args, "")
}

/// Runs with this on standard input.
pub(crate) fn run_with(args: &[&str], input: &str) -> Answer {
    let mut child =
        command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (read_all(child.stdout.take().unwrap()), read_all(child.stderr.take().unwrap()));
    // A program that refuses its arguments does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let code = child.wait().unwrap().code().expect("it was ended by a signal");
    Answer { code, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

/// Runs with arguments that must be refused, and looks for these words in the one line of the refusal.
pub(crate) fn refused(args: &[&str], words: &[&str]) {
    refused_with(args, "", words);
}

pub(crate) fn refused_with(args: &[&str], input: &str, words: &[&str]) {
    let answer = run_with(args, input);
    assert_eq!((answer.code, answer.stdout.as_str()), (2, ""), "{args:?}: {}", answer.stderr);
    assert_eq!(answer.stderr.lines().count(), 1, "{args:?}: {}", answer.stderr);
    assert!(answer.stderr.starts_with("otedama-cli: "), "{args:?}: {}", answer.stderr);
    for word in words {
        assert!(answer.stderr.contains(word), "{args:?}: no {word:?} in: {}", answer.stderr);
    }
}

/// Asks a process to end as Ctrl-C does, once it is far enough to heed that.
pub(crate) fn interrupt(child: &Child) {
    heeds_interrupts(child);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
}

/// Waits until a process has a handler for Ctrl-C: a moment, more where the machine is busy.
pub(crate) fn heeds_interrupts(child: &Child) {
    let status = format!("/proc/{}/status", child.id());
    let begun = Instant::now();
    loop {
        let Ok(status) = std::fs::read_to_string(&status) else { return }; // no Linux
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
        if u64::from_str_radix(caught.trim(), 16).unwrap() >> 1 & 1 == 1 {
            return; // signal 2
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{child:?} has no handler for Ctrl-C");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads to the end, on a thread of its own so that no pipe fills up.
pub(crate) fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    })
}

/// The cases of one kind from an algorithm's vectors.
pub(crate) fn cases(algorithm: &str, kind: &str) -> Vec<Value> {
    let path = format!("{}/../otedama-core/vectors/{algorithm}.json", env!("CARGO_MANIFEST_DIR"));
    let mut file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let Value::Array(cases) = file["cases"].take() else { panic!("no cases for {algorithm}") };
    cases.into_iter().filter(|case| case["kind"] == kind).collect()
}

pub(crate) fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {object}"))
}

pub(crate) fn number(object: &Value, name: &str) -> u64 {
    object[name].as_u64().unwrap_or_else(|| panic!("{name} is no whole number in {object}"))
}

/// The names of an object's fields, sorted.
pub(crate) fn fields(object: &Value) -> Vec<&str> {
    let mut names: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// The kernels of an algorithm that run on this CPU.
pub(crate) fn usable_kernels(algorithm: &str) -> Vec<String> {
    let devices = &run(&["devices", "--json"]).json_lines()[0];
    let names =
        devices["devices"][0]["kernels"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    names.filter(|name| name.starts_with(&format!("{algorithm}-"))).map(str::to_owned).collect()
}

/// The id of a device behind CUDA or OpenCL (PoCL will do). Without one a test says so and leaves out what needs it.
pub(crate) fn any_gpu() -> Option<String> {
    let devices = &run(&["devices", "--json"]).json_lines()[0];
    let id = devices["devices"].as_array().unwrap().get(1).map(|device| text(device, "id").to_owned());
    if id.is_none() {
        println!("SKIPPED: no device for GPU kernels here ({})", devices["absent"]);
    }
    id
}
