//! Which library this is.

use std::ffi::{CStr, c_char};

/// Raised by every incompatible change of this header; otedama_abi_version() of the library in use must be
/// the same.
pub const OTEDAMA_ABI_VERSION: u32 = 1;

/// The OTEDAMA_ABI_VERSION the library was built with. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_abi_version() -> u32 {
    OTEDAMA_ABI_VERSION
}

/// The library's version, such as "0.1.0": a static string, never NULL. OTEDAMA_VERSION is that of the header.
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version holds no NUL"),
        };
    VERSION.as_ptr()
}

/// How many handles are alive in this process: 0 at the end of a program that frees what it makes. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_live_handles() -> usize {
    crate::handle::alive()
}
