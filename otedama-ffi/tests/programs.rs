//! C and C++ programs, one for each group of calls, under AddressSanitizer (which also looks for leaks) and under
//! valgrind.
//!
//! The library itself is not instrumented: the sanitizer sees what the programs do, and what the library allocates
//! and forgets. `otedama_live_handles()` tells each program whether it forgot a handle.

mod common;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{folder, has, library, root, run};

const PROGRAMS: [&str; 9] = [
    "devices.c",
    "hash.c",
    "epoch.c",
    "sealed.c",
    "scan.c",
    "engine.c",
    "bad_input.c",
    "threads.c",
    "face.cpp",
];

/// Builds a program against the library just built.
fn build(program: &str, folder: &Path, flags: &[&str]) -> PathBuf {
    let (compiler, standard) =
        if program.ends_with(".c") { ("gcc", "-std=c11") } else { ("g++", "-std=c++17") };
    let library = library(folder);
    let binary = folder.join("program");
    run(Command::new(compiler)
        .args([standard, "-D_POSIX_C_SOURCE=200809L", "-g", "-O1", "-Wall", "-Wextra", "-Werror"])
        .args(["-Wno-unused-function", "-pthread"])
        .args(flags)
        .arg("-I")
        .arg(root().join("include"))
        .arg(root().join("otedama-ffi/tests/c").join(program))
        .arg("-L")
        .arg(&library)
        .arg(format!("-Wl,-rpath,{}", library.display()))
        .arg("-lotedama")
        .arg("-o")
        .arg(&binary));
    binary
}

/// A command that is ended after ten minutes: a program that waits for itself would never end.
fn in_time(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg("600").arg(program);
    command
}

#[test]
fn programs_pass_under_address_sanitizer() {
    if !has("gcc") || !has("g++") {
        return;
    }
    for program in PROGRAMS {
        let folder = folder(&format!("asan-{program}"));
        let binary = build(program, &folder, &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
        print!("{program}: ok {}", run(in_time(binary).env("ASAN_OPTIONS", "detect_leaks=1")));
        println!();
    }
}

/// With an argument programs leave out what would take minutes under valgrind. It knows no AVX-512 and tells
/// the library so, which then uses what is left.
#[test]
fn programs_pass_under_valgrind() {
    if !has("gcc") || !has("g++") || !has("valgrind") {
        return;
    }
    for program in ["devices.c", "hash.c", "epoch.c", "sealed.c", "scan.c", "bad_input.c", "threads.c"] {
        let folder = folder(&format!("valgrind-{program}"));
        let binary = build(program, &folder, &[]);
        run(in_time("valgrind")
            .args(["--quiet", "--error-exitcode=9", "--leak-check=full"])
            .args(["--errors-for-leak-kinds=definite,indirect", "--show-leak-kinds=definite,indirect"])
            .arg(&binary)
            .arg("quick"));
        println!("{program}: ok");
    }
}
