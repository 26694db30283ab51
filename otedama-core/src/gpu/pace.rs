//! Long work on a device (a dataset) in launches of some milliseconds: a screen on the same card stays alive, and
//! whoever waits may give up between two.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::{Buffer, GpuError, Queue};

/// Whom a device tells, before each launch, how many bytes of a dataset are made, and how many it has in all. `false`
/// gives up: the call fails with [`GpuError::Cancelled`], and the next one for the same epoch goes on from there.
pub(crate) type GoOn<'a> = dyn FnMut(u64, u64) -> bool + 'a;

/// How long a launch should take.
const LAUNCH: Duration = Duration::from_millis(12);

/// Items of the first launch: nobody knows yet how long one takes.
const FIRST: u32 = 256;

/// Bytes of a cache that are copied to a device at a time: some milliseconds on the slowest bus.
const PIECE: usize = 8 << 20;

/// How many items the next launch has.
pub(super) struct Pace(u32);

impl Pace {
    pub(super) fn new() -> Pace {
        Pace(FIRST)
    }

    /// Launches at most so many items as `launch` is told, waits for them, and says how many there were.
    pub(super) fn step(
        &mut self,
        queue: &mut dyn Queue,
        left: u64,
        launch: impl FnOnce(&mut dyn Queue, u32) -> Result<(), GpuError>,
    ) -> Result<u32, GpuError> {
        let count = u64::from(self.0).min(left) as u32;
        let begun = Instant::now();
        launch(queue, count)?;
        queue.finish()?;
        self.0 = next(count, begun.elapsed());
        Ok(count)
    }
}

/// Items of the next launch, from how many took how long: four times as many at most, for the first are few.
fn next(count: u32, took: Duration) -> u32 {
    let wanted = f64::from(count) * LAUNCH.as_secs_f64() / took.as_secs_f64().max(1e-6);
    (wanted as u32).clamp(count / 4, count.saturating_mul(4)).max(FIRST)
}

/// A cache on its way to a device.
pub(super) struct Upload {
    pub(super) buffer: Buffer,
    done: usize,
}

impl Upload {
    pub(super) fn to(buffer: Buffer) -> Upload {
        Upload { buffer, done: 0 }
    }

    /// Copies the next piece of these bytes, the same each time; `false` when all are there.
    pub(super) fn step(&mut self, queue: &mut dyn Queue, bytes: &[u8]) -> Result<bool, GpuError> {
        let piece = &bytes[self.done..bytes.len().min(self.done + PIECE)];
        if piece.is_empty() {
            return Ok(false);
        }
        queue.write(&self.buffer, self.done as u64, piece)?;
        self.done += piece.len();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_grow_and_shrink_towards_their_time() {
        assert_eq!(next(4096, Duration::from_micros(10)), 4 * 4096);
        assert_eq!(next(4096, LAUNCH), 4096);
        assert_eq!(next(1 << 20, LAUNCH * 2), 1 << 19);
        assert_eq!(next(1 << 20, LAUNCH * 100), 1 << 18);
        assert_eq!(next(100, LAUNCH * 100), FIRST);
    }
}
