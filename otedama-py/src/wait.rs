//! Work with the GIL released that Ctrl-C ends.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How long signal handlers wait at most, give or take a step.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// Repeats a step until it breaks, with the GIL released; every [`TICK`] it is taken for a moment so that signal
/// handlers run. A step should take no longer than a tick.
///
/// # Errors
/// What a signal handler raised, such as `KeyboardInterrupt`.
pub(crate) fn interruptible<T: Send>(
    py: Python<'_>,
    mut step: impl FnMut() -> ControlFlow<T> + Send,
) -> PyResult<T> {
    loop {
        let turn = py.detach(|| {
            let begun = Instant::now();
            loop {
                match step() {
                    ControlFlow::Continue(()) if begun.elapsed() < TICK => {}
                    turn => return turn,
                }
            }
        });
        if let ControlFlow::Break(outcome) = turn {
            return Ok(outcome);
        }
        py.check_signals()?;
    }
}

/// Finds how much work makes a step of 8 to 20 milliseconds, or the shortest there is.
pub(crate) struct Pace {
    batch: u64,
    most: u64,
}

impl Pace {
    /// Begins with one piece of work and never gives more than `most`.
    pub(crate) fn new(most: u64) -> Pace {
        Pace { batch: 1, most }
    }

    /// The size of the next step, at least 1.
    pub(crate) fn batch(&self) -> u64 {
        self.batch
    }

    /// A step took this long. Twice the least that is enough is less than the most that is allowed, so that the
    /// size settles.
    pub(crate) fn took(&mut self, time: Duration) {
        if time < Duration::from_millis(8) {
            self.batch = (self.batch * 2).min(self.most);
        } else if time > TICK {
            self.batch = (self.batch / 2).max(1);
        }
    }
}
