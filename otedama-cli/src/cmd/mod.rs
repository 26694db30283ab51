//! One module per command.

pub(crate) mod bench;
pub(crate) mod devices;
pub(crate) mod hash;
pub(crate) mod scan;
pub(crate) mod selftest;

/// Raises the flag when the user presses Ctrl-C or the process is asked to terminate; a second time
/// leaves at once.
fn on_interrupt(act: impl Fn() + Send + 'static) -> Result<(), crate::failure::Failure> {
    let mut asked = false;
    ctrlc::set_handler(move || {
        if asked {
            std::process::exit(130);
        }
        asked = true;
        act();
    })
    .map_err(|error| crate::failure::work(format!("cannot watch for Ctrl-C: {error}")))
}
