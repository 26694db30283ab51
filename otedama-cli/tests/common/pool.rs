//! A pool to mine at.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::interrupt;

/// A pool on a port of its own; stopped when it is dropped.
pub(crate) struct Pool {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    pub(crate) address: String,
}

impl Pool {
    pub(crate) fn serve(algorithm: &str, options: &[&str]) -> Pool {
        let mut child = Command::new(env!("CARGO_BIN_EXE_otedama-cli"))
            .args(["serve", "--dev", algorithm, "--listen", "127.0.0.1:0", "--json"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Work may be announced first.
        let address = loop {
            let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            if event["event"] == "listening" {
                break event["address"].as_str().unwrap().to_owned();
            }
        };
        Pool { child, lines, address }
    }

    /// Asks it to end as Ctrl-C does, and returns what it said last.
    pub(crate) fn end(mut self) -> Value {
        interrupt(&self.child);
        let last = self.lines.by_ref().map(Result::unwrap).last().unwrap();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(&last).unwrap()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
