//! One module per command.

pub(crate) mod bench;
pub(crate) mod bench_pool;
pub(crate) mod config;
pub(crate) mod dag;
pub(crate) mod devices;
pub(crate) mod hash;
pub(crate) mod ledger;
pub(crate) mod loadtest;
pub(crate) mod mine;
pub(crate) mod scan;
pub(crate) mod selftest;
pub(crate) mod serve;
mod usage_of;
pub(crate) mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use otedama_core::algorithm::Input;
use otedama_core::{Algorithm, Hash256};

use crate::failure::{self, Failure, Outcome};
use crate::miner::terminal;

/// 32 bytes of a hash in hex, in the order that the function outputs them.
fn hash256(what: &str, digits: &str) -> Result<Hash256, Failure> {
    let plain = digits.strip_prefix("0x").unwrap_or(digits);
    Hash256::from_raw_hex(plain).ok_or_else(|| {
        failure::usage(format!("{what} '{digits}' has {} characters: expected 64 hex digits", plain.len()))
    })
}

/// The bytes of a header or blob in hex. Their number is for the job to judge.
fn header(algorithm: Algorithm, digits: &str) -> Result<Vec<u8>, Failure> {
    let expected = match algorithm.spec().input {
        Input::Header { len, .. } => format!("expected {} hex digits", 2 * len),
        Input::Blob { min_len, max_len, .. } => {
            format!("expected {} to {} hex digits", 2 * min_len, 2 * max_len)
        }
        Input::Sealed => "expected 64 hex digits".to_owned(),
    };
    hex::decode(digits).map_err(|error| match error {
        hex::FromHexError::OddLength => {
            failure::usage(format!("header has {} digits: {expected}", digits.len()))
        }
        error => failure::usage(format!("header is not hexadecimal: {error}; {expected}")),
    })
}

/// A flag that is raised when the user presses Ctrl-C or the process is asked to terminate.
fn interrupt_flag() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    on_interrupt({
        let flag = Arc::clone(&flag);
        move || flag.store(true, Ordering::Relaxed)
    })?;
    Ok(flag)
}

/// Acts when the user presses Ctrl-C or the process is asked to terminate; a second time
/// leaves at once.
fn on_interrupt(act: impl Fn() + Send + 'static) -> Outcome {
    let mut asked = false;
    ctrlc::set_handler(move || {
        if asked {
            terminal::restore();
            std::process::exit(130);
        }
        asked = true;
        act();
    })
    .map_err(|error| failure::work(format!("cannot watch for Ctrl-C: {error}")))
}
