//! What `make install-libs` puts in place serves strangers: the examples are built against an installed tree with
//! pkg-config and with CMake, linked to both libraries, and find Bitcoin's genesis nonce.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{folder, has, library, root, run};

const FOUND: &str = "nonce 2083236893\n";

/// An installed tree with this prefix, and where it lies.
fn installed(name: &str, prefix: &str, libdir: &str) -> PathBuf {
    let folder = folder(name);
    let destination = folder.join("root");
    run(Command::new("make")
        .current_dir(root())
        .args(["--no-print-directory", "install-libs"])
        .arg(format!("DESTDIR={}", destination.display()))
        .arg(format!("PREFIX={prefix}"))
        .arg(format!("LIBDIR={libdir}"))
        .arg(format!("LIBS={}", library(&folder).display())));
    destination
}

fn examples() -> PathBuf {
    root().join("otedama-ffi/examples")
}

fn runs(binary: &Path, libraries: &Path) {
    let printed = run(Command::new(binary).env("LD_LIBRARY_PATH", libraries));
    assert_eq!(printed, FOUND, "{}", binary.display());
}

#[test]
fn pkg_config_builds_the_examples() {
    if !["make", "gcc", "g++", "pkg-config"].into_iter().all(has) {
        return;
    }
    let destination = installed("pkg-config", "/opt/otedama", "lib");
    let libraries = destination.join("opt/otedama/lib");
    let words = |arguments: &[&str]| -> Vec<String> {
        let printed = run(Command::new("pkg-config")
            .env("PKG_CONFIG_LIBDIR", libraries.join("pkgconfig"))
            .env("PKG_CONFIG_SYSROOT_DIR", &destination)
            .args(arguments)
            .arg("otedama"));
        printed.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(words(&["--modversion"]), [env!("CARGO_PKG_VERSION")]);
    assert_eq!(
        words(&["--variable=prefix"]).concat().trim_start_matches(&*destination.to_string_lossy()),
        "/opt/otedama"
    );
    for (compiler, source, standard) in
        [("gcc", "genesis.c", "-std=c99"), ("g++", "genesis.cpp", "-std=c++17")]
    {
        let binary = destination.join(source.replace('.', "-"));
        run(Command::new(compiler)
            .args([standard, "-Wall", "-Wextra", "-Werror", "-pedantic"])
            .arg(examples().join(source))
            .args(words(&["--cflags", "--libs"]))
            .args(["-pthread", "-o"])
            .arg(&binary));
        runs(&binary, &libraries);
    }
    // The static library: nothing to find at run time. The shared one is out of the linker's sight.
    for shared in ["libotedama.so", "libotedama.so.1"] {
        fs::remove_file(libraries.join(shared)).unwrap();
    }
    let binary = destination.join("genesis-static");
    run(Command::new("gcc")
        .arg(examples().join("genesis.c"))
        .args(words(&["--static", "--cflags", "--libs"]))
        .arg("-o")
        .arg(&binary));
    runs(&binary, Path::new("/nonexistent"));
}

#[test]
fn cmake_builds_the_examples() {
    if !["make", "gcc", "g++", "cmake"].into_iter().all(has) {
        return;
    }
    // Two layouts, as distributions have them.
    for (name, prefix, libdir) in
        [("cmake-lib", "/usr/local", "lib"), ("cmake-multiarch", "/usr", "lib/x86_64-linux-gnu")]
    {
        let destination = installed(name, prefix, libdir);
        let prefix = destination.join(&prefix[1..]);
        let build = destination.join("build");
        run(Command::new("cmake")
            .arg("-S")
            .arg(examples())
            .arg("-B")
            .arg(&build)
            .arg(format!("-Dotedama_DIR={}", prefix.join(libdir).join("cmake/otedama").display())));
        run(Command::new("cmake").arg("--build").arg(&build));
        for binary in ["genesis_c", "genesis_cpp", "genesis_static"] {
            runs(&build.join(binary), &prefix.join(libdir));
        }
    }
}

/// Whoever copies the README's programs gets those that were tested.
#[test]
fn the_readme_shows_the_examples() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for (language, name) in [("c", "genesis.c"), ("cpp", "genesis.cpp")] {
        let example = fs::read_to_string(examples().join(name)).unwrap();
        let block =
            readme.split_once(&format!("```{language}\n")).and_then(|(_, rest)| rest.split_once("```"));
        assert_eq!(block.map(|(shown, _)| shown), Some(example.as_str()), "README.md does not show {name}");
    }
}
