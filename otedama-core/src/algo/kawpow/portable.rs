//! The oracle as a kernel.

use super::{Attempt, Kernel, L1Cache, hash};
use crate::algo::ethash::{Dataset, Full, Light, Outcome};

/// The interpreter, one hash at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Portable;

impl Kernel for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn lanes(&self) -> usize {
        1
    }

    fn prepare(&mut self, _: u64) {}

    fn hash_light(
        &mut self,
        light: &Light<'_>,
        l1: &L1Cache,
        attempts: &[Attempt],
        outcomes: &mut [Outcome],
    ) {
        hash_each(light, l1, attempts, outcomes);
    }

    fn hash_full(&mut self, full: &Full<'_>, l1: &L1Cache, attempts: &[Attempt], outcomes: &mut [Outcome]) {
        hash_each(full, l1, attempts, outcomes);
    }
}

fn hash_each(dataset: &impl Dataset, l1: &L1Cache, attempts: &[Attempt], outcomes: &mut [Outcome]) {
    assert_eq!(attempts.len(), outcomes.len(), "an outcome for each attempt");
    for (attempt, outcome) in attempts.iter().zip(outcomes) {
        *outcome = hash(dataset, l1, attempt);
    }
}
