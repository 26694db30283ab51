//! One module per command.

pub(crate) mod bench;
pub(crate) mod devices;
pub(crate) mod hash;
pub(crate) mod scan;
pub(crate) mod selftest;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use otedama_core::Algorithm;
use otedama_core::scan::kernels;

use crate::failure::{self, Failure, Outcome};

/// An algorithm was asked for that has no kernel: says which ones have.
fn no_kernel(what: &str, algorithm: Algorithm) -> Failure {
    let known: Vec<_> =
        Algorithm::ALL.into_iter().filter(|&a| kernels(a).next().is_some()).map(Algorithm::name).collect();
    failure::usage(format!(
        "cannot {what} {algorithm}: this version has no kernel for it, expected one of {}",
        known.join(", ")
    ))
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
            std::process::exit(130);
        }
        asked = true;
        act();
    })
    .map_err(|error| failure::work(format!("cannot watch for Ctrl-C: {error}")))
}
