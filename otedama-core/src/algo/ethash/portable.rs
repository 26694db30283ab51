//! The oracle as a kernel: everything in the words of the specification, one at a time.

use std::ops::ControlFlow;

use super::{Attempt, Full, Item, Kernel, Light, Outcome, Report, build_cache, hash};

/// The oracle.
#[derive(Clone, Copy, Debug, Default)]
pub struct Portable;

impl Kernel for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn lanes(&self) -> usize {
        1
    }

    fn build_cache(&self, seed: &[u8; 32], cache: &mut [u8], report: Report<'_>) -> ControlFlow<()> {
        build_cache(seed, cache, report)
    }

    fn items(&self, light: &Light<'_>, first: u32, out: &mut [Item]) {
        for (index, out) in (first..).zip(out) {
            *out = light.item(index);
        }
    }

    fn items_at(&self, light: &Light<'_>, indices: &[u32], out: &mut [Item]) {
        assert_eq!(indices.len(), out.len(), "a place for each index");
        for (&index, out) in indices.iter().zip(out) {
            *out = light.item(index);
        }
    }

    fn hash_light(&self, light: &Light<'_>, attempts: &[Attempt], out: &mut [Outcome]) {
        assert_eq!(attempts.len(), out.len(), "an outcome for each attempt");
        for (attempt, out) in attempts.iter().zip(out) {
            *out = hash(light, attempt);
        }
    }

    fn hash_full(&self, full: &Full<'_>, attempts: &[Attempt], out: &mut [Outcome]) {
        assert_eq!(attempts.len(), out.len(), "an outcome for each attempt");
        for (attempt, out) in attempts.iter().zip(out) {
            *out = hash(full, attempt);
        }
    }
}
