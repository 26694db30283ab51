//! What the tests share: compilers, the library just built, folders to work in.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// An empty folder for a test.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the target folder is writable");
    folder
}

/// Whether a tool is installed; says so where it is not, in the form that `.ci/test` counts.
pub(crate) fn has(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok_and(|out| out.status.success());
    if !there {
        println!("SKIPPED: {tool} is not installed");
    }
    there
}

/// Runs a command that must succeed and keep quiet about warnings; returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

/// A folder with the shared library as it is installed (`libotedama.so`, `libotedama.so.1`) and the static one.
pub(crate) fn library(folder: &Path) -> PathBuf {
    let built = std::env::current_exe().expect("tests know where they are");
    let built = built.parent().expect("an executable lies in a folder");
    let out = folder.join("lib");
    fs::create_dir_all(&out).expect("the target folder is writable");
    for (name, from) in [
        ("libotedama.so", "libotedama.so"),
        ("libotedama.so.1", "libotedama.so"),
        ("libotedama.a", "libotedama.a"),
    ] {
        let from = built.join(from);
        assert!(from.exists(), "{} was not built", from.display());
        let to = out.join(name);
        let _ = fs::remove_file(&to);
        std::os::unix::fs::symlink(&from, &to).expect("the target folder is writable");
    }
    out
}
