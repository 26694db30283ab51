//! What the shared library shows: our functions, all that the header declares, and nothing else.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use common::{folder, has, library, root, run};

#[test]
fn nothing_is_exported_but_what_the_header_declares() {
    if !has("nm") {
        return;
    }
    let library = library(&folder("symbols")).join("libotedama.so");
    let listed = run(Command::new("nm").args(["-D", "--defined-only"]).arg(&library));
    let exported: BTreeSet<&str> = listed.lines().filter_map(|line| line.split_whitespace().last()).collect();
    let header = fs::read_to_string(root().join("include/otedama.h")).unwrap();
    // A function's declaration begins its line; what a comment mentions does not.
    let declared: BTreeSet<&str> = header
        .lines()
        .filter(|line| !line.starts_with([' ', '/', '#']) && !line.starts_with("typedef"))
        .filter_map(|line| line.split_once('('))
        .filter_map(|(before, _)| before.rsplit([' ', '*']).next())
        .collect();
    assert!(declared.len() > 40, "{declared:?}");
    assert_eq!(exported, declared);
}

#[test]
fn the_library_is_named_after_its_abi() {
    if !has("readelf") {
        return;
    }
    let library = library(&folder("soname")).join("libotedama.so");
    let dynamic = run(Command::new("readelf").arg("-d").arg(&library));
    let name = format!("libotedama.so.{}", otedama::OTEDAMA_ABI_VERSION);
    assert!(dynamic.contains(&format!("[{name}]")), "{dynamic}");
}
