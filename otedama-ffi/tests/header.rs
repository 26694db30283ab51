//! The header: what cbindgen writes is what is committed, it stands alone under every compiler and standard,
//! its structs lie in memory as ours do, its version is Cargo's, and every status it names has a message.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fs;
use std::mem::offset_of;
use std::process::Command;

use common::{folder, has, root, run};

/// The order in which a reader meets things.
const SOURCES: [&str; 11] = [
    "version", "status", "boundary", "types", "devices", "epoch", "hash", "scan", "verify", "engine", "bench",
];

fn generated() -> String {
    let crate_folder = root().join("otedama-ffi");
    let mut config =
        cbindgen::Config::from_file(crate_folder.join("cbindgen.toml")).expect("cbindgen.toml is valid");
    config.after_includes = Some(format!(
        "\n/* The version of this header; otedama_version() is that of the library in use. */\n\
         #define OTEDAMA_VERSION \"{}\"\n#define OTEDAMA_VERSION_MAJOR {}\n\
         #define OTEDAMA_VERSION_MINOR {}\n#define OTEDAMA_VERSION_PATCH {}",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH")
    ));
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(crate_folder.join("src").join(format!("{source}.rs")));
    }
    let mut header = Vec::new();
    builder.generate().expect("cbindgen reads the sources").write(&mut header);
    String::from_utf8(header).expect("a header is text")
}

fn committed() -> String {
    fs::read_to_string(root().join("include/otedama.h")).expect("include/otedama.h is there")
}

#[test]
fn the_committed_header_is_what_the_sources_say() {
    let header = generated();
    if std::env::var_os("OTEDAMA_WRITE_HEADER").is_some() {
        // Written beside and renamed over: the other tests may be reading it.
        let draft = root().join("include/otedama.h.new");
        fs::write(&draft, &header).expect("include is writable");
        fs::rename(&draft, root().join("include/otedama.h")).expect("include is writable");
    }
    assert!(
        header == committed(),
        "include/otedama.h is not what cbindgen writes: \
         OTEDAMA_WRITE_HEADER=1 cargo test -p otedama-ffi --test header"
    );
}

#[test]
fn the_headers_stand_alone() {
    let folder = folder("alone");
    fs::write(folder.join("alone.c"), "#include <otedama.h>\n#include <otedama.h>\n").unwrap();
    fs::write(folder.join("alone.cpp"), "#include <otedama.h>\n").unwrap();
    fs::write(folder.join("face.cpp"), "#include <otedama.hpp>\n#include <otedama.hpp>\n").unwrap();
    let cases = [
        ("alone.c", "c99"),
        ("alone.c", "c11"),
        ("alone.cpp", "c++17"),
        ("face.cpp", "c++17"),
        ("face.cpp", "c++20"),
    ];
    for (compilers, standard_of) in [(["gcc", "g++"], "gcc"), (["clang", "clang++"], "clang")] {
        if !compilers.iter().all(|compiler| has(compiler)) {
            continue;
        }
        for (file, standard) in cases {
            let compiler = if file.ends_with(".c") { compilers[0] } else { compilers[1] };
            run(Command::new(compiler)
                .current_dir(&folder)
                .arg(format!("-std={standard}"))
                .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-fsyntax-only", "-I"])
                .arg(root().join("include"))
                .arg(file));
            println!("{standard_of} -std={standard} {file}");
        }
    }
}

#[test]
fn every_module_is_in_the_header_once() {
    let lib = fs::read_to_string(root().join("otedama-ffi/src/lib.rs")).unwrap();
    let mut modules: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
    // It has nothing that C sees.
    modules.retain(|module| *module != "handle");
    let mut sources = SOURCES;
    sources.sort();
    assert_eq!(modules, sources);
    let header = committed();
    let declarations: Vec<&str> = header
        .lines()
        .filter(|line| line.contains(" otedama_") && !line.starts_with([' ', '/', '#', '}']))
        .collect();
    let once: BTreeSet<&&str> = declarations.iter().collect();
    assert_eq!(declarations.len(), once.len(), "something is declared twice");
}

/// Size of each struct and place of each member: `name` and `name.member`.
type Layout = BTreeMap<String, usize>;

macro_rules! layout {
    ($($name:ident { $($member:ident)+ })+) => {{
        let mut layout = Layout::new();
        $(
            layout.insert(stringify!($name).to_owned(), size_of::<otedama::$name>());
            $(layout.insert(
                format!("{}.{}", stringify!($name), stringify!($member)),
                offset_of!(otedama::$name, $member),
            );)+
        )+
        layout
    }};
}

fn ours() -> Layout {
    layout! {
        otedama_setup { struct_size without_isa pages no_compiling tuning_file }
        otedama_kernel { name algorithm needs_isa usable oracle }
        otedama_store_config { struct_size threads byte_budget placement node setup }
        otedama_epoch_key { struct_size algorithm key key_len number }
        otedama_job { struct_size algorithm id input input_len height version_mask reserved target_le }
        otedama_space { struct_size version_start version_count reserved nonce_start nonce_count }
        otedama_candidate { nonce version has_version }
        otedama_scanner_info { kernel lanes memory_bytes max_versions reserved }
        otedama_share { job_id nonce version has_version has_mix reserved pow mix }
        otedama_engine_config { struct_size algorithm threads unpinned kernel epoch setup cpus cpu_count }
        otedama_event { kind worker share candidate message }
        otedama_engine_stats { hashes shares refused stale abandoned alive }
        otedama_bench_config {
            struct_size algorithm kernel epoch setup threads milliseconds fixed_version reserved
        }
        otedama_bench_result {
            kernel hashes seconds hashes_per_second slowest fastest joules threads rolled
        }
    }
}

/// The structs of the header and their members, read from its text, so that none is forgotten here.
fn declared() -> Vec<(String, Vec<String>)> {
    let header = committed();
    let mut structs = Vec::new();
    for block in header.split("typedef struct ").skip(1) {
        let Some((name, body)) = block.split_once(" {") else { continue };
        if name.contains(';') {
            continue; // opaque
        }
        let body = body.split("\n}").next().expect("a struct ends");
        let members = body.lines().map(str::trim).filter(|line| line.ends_with(';')).map(|line| {
            let name = line.trim_end_matches(';').rsplit([' ', '*']).next().expect("a member has a name");
            name.split('[').next().expect("before the bracket").to_owned()
        });
        structs.push((name.to_owned(), members.collect()));
    }
    structs
}

/// A compiler's own word, which shares nothing with cbindgen's reading of our sources.
#[test]
fn structs_lie_in_memory_as_a_c_compiler_lays_them_out() {
    let mut program = String::from("#include <otedama.h>\n#include <stdio.h>\nint main(void) {\n");
    for (name, members) in declared() {
        program += &format!("printf(\"{name} %zu\\n\", sizeof({name}));\n");
        for member in members {
            program += &format!("printf(\"{name}.{member} %zu\\n\", offsetof({name}, {member}));\n");
        }
    }
    program += "return 0;\n}\n";
    for compiler in ["gcc", "clang"].into_iter().filter(|compiler| has(compiler)) {
        let folder = folder(&format!("layout-{compiler}"));
        fs::write(folder.join("layout.c"), &program).unwrap();
        run(Command::new(compiler)
            .current_dir(&folder)
            .arg("-I")
            .arg(root().join("include"))
            .args(["layout.c", "-o", "layout"]));
        let printed = run(&mut Command::new(folder.join("layout")));
        let theirs: Layout = printed
            .lines()
            .map(|line| {
                let (name, number) = line.split_once(' ').expect("a name and a number");
                (name.to_owned(), number.parse().expect("a number"))
            })
            .collect();
        assert_eq!(theirs, ours(), "{compiler}");
    }
}

#[test]
fn the_version_is_cargos() {
    let header = committed();
    for (name, value) in [
        ("OTEDAMA_VERSION", format!("\"{}\"", env!("CARGO_PKG_VERSION"))),
        ("OTEDAMA_VERSION_MAJOR", env!("CARGO_PKG_VERSION_MAJOR").to_owned()),
        ("OTEDAMA_VERSION_MINOR", env!("CARGO_PKG_VERSION_MINOR").to_owned()),
        ("OTEDAMA_VERSION_PATCH", env!("CARGO_PKG_VERSION_PATCH").to_owned()),
        ("OTEDAMA_ABI_VERSION", otedama::otedama_abi_version().to_string()),
    ] {
        assert!(header.contains(&format!("#define {name} {value}\n")), "{name}");
    }
    let version = otedama::otedama_version();
    // SAFETY: a static string, as its comment says.
    assert_eq!(unsafe { CStr::from_ptr(version) }.to_str(), Ok(env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_status_has_a_number_of_its_own_and_a_message() {
    let sources = fs::read_to_string(root().join("otedama-ffi/src/status.rs")).unwrap();
    let mut seen = BTreeMap::new();
    let message = |status| {
        let message = otedama::otedama_status_message(status);
        // SAFETY: a static string, as its comment says.
        unsafe { CStr::from_ptr(message) }.to_str().unwrap().to_owned()
    };
    for line in sources.lines().filter_map(|line| line.strip_prefix("pub const ")) {
        let (name, rest) = line.split_once(": otedama_status = ").expect("a status");
        let number: u32 = rest.trim_end_matches(';').parse().expect("a number");
        assert_eq!(seen.insert(number, name.to_owned()), None, "{name} has another's number");
        assert_ne!(message(number), "unknown status", "{name}");
        assert!(committed().contains(&format!("#define {name} {number}\n")), "{name} is not in the header");
    }
    assert!(seen.len() > 30);
    assert_eq!(message(77), "unknown status");
}
