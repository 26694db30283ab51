//! The name programs are linked to: `libotedama.so.1`, with OTEDAMA_ABI_VERSION as its number.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libotedama.so.1");
    }
}
