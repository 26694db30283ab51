//! What machines on a device read items from: made there launch by launch, and compared with the CPU's.

use super::{Depth, Kernels, function_words};
use crate::algo::randomx::dataset::{Dataset as _, Light};
use crate::algo::randomx::superscalar::Program;
use crate::gpu::pace::{GoOn, Pace, Upload};
use crate::gpu::{Arg, Buffer, GpuError, Queue};

/// Dataset items that are compared with the CPU's after the device made them.
const SAMPLES: u64 = 32;

/// Bytes of an item.
const ITEM: u64 = 64;

/// What machines read items from, for one key: with [`Depth::Full`] the dataset in two parts, with
/// [`Depth::Light`] the cache and the functions.
pub struct Items {
    pub(super) first: Buffer,
    /// `None` where the first part is all.
    pub(super) second: Option<Buffer>,
}

/// Items that are being made.
pub(super) struct Making {
    functions: Vec<Program>,
    functions_there: Buffer,
    cache: Upload,
    /// The dataset, unless items are computed when they are asked for.
    dataset: Option<Items>,
    /// Items that are there.
    done: u64,
    pace: Pace,
}

impl Kernels {
    /// Makes what items come from for a key whose cache is given, waits for it, and compares a sample of the
    /// dataset with the CPU's.
    ///
    /// # Errors
    /// The device's failure; [`GpuError::Wrong`] if an item differs.
    pub fn items(&self, queue: &mut dyn Queue, key: &[u8], cache: &[u8]) -> Result<Items, GpuError> {
        let mut making = self.begin(queue, key)?;
        self.make(&mut making, queue, cache, &mut |_, _| true)?;
        self.check(making, queue, cache)
    }

    /// Room for what items come from, and the key's functions in it.
    pub(super) fn begin(&self, queue: &mut dyn Queue, key: &[u8]) -> Result<Making, GpuError> {
        let functions = Program::of_key(self.params, key);
        let bytes: Vec<u8> = function_words(&functions).iter().flat_map(|word| word.to_le_bytes()).collect();
        let functions_there = self.device.buffer(bytes.len() as u64)?;
        queue.write(&functions_there, 0, &bytes)?;
        let cache = Upload::to(self.device.buffer(self.params.cache_bytes() as u64)?);
        let rest = self.params.dataset_items() - self.part;
        let dataset = match self.depth {
            Depth::Light => None,
            Depth::Full => Some(Items {
                first: self.device.buffer(ITEM * self.part)?,
                second: if rest > 0 { Some(self.device.buffer(ITEM * rest)?) } else { None },
            }),
        };
        Ok(Making { functions, functions_there, cache, dataset, done: 0, pace: Pace::new() })
    }

    /// Copies the cache and computes all items; the cache is the key's, the same each time.
    ///
    /// # Errors
    /// The device's failure, or [`GpuError::Cancelled`]: it can then be called again.
    pub(super) fn make(
        &self,
        making: &mut Making,
        queue: &mut dyn Queue,
        cache: &[u8],
        go_on: &mut GoOn<'_>,
    ) -> Result<(), GpuError> {
        let items = if making.dataset.is_some() { self.params.dataset_items() } else { 0 };
        let mut go_on = |done: u64| match go_on(ITEM * done, ITEM * items) {
            true => Ok(()),
            false => Err(GpuError::Cancelled { device: self.device.info().id }),
        };
        go_on(making.done)?;
        while making.cache.step(queue, cache)? {
            go_on(making.done)?;
        }
        let Some(dataset) = &making.dataset else { return queue.finish() };
        while making.done < items {
            let at = making.done;
            let (part, begin, end) = match &dataset.second {
                Some(second) if at >= self.part => (second, self.part, items),
                _ => (&dataset.first, 0, self.part),
            };
            let (cache, functions) = (&making.cache.buffer, &making.functions_there);
            making.done += u64::from(making.pace.step(queue, end - at, |queue, count| {
                let args = [
                    Arg::Buffer(cache),
                    Arg::Buffer(functions),
                    Arg::Buffer(part),
                    Arg::U64(begin),
                    Arg::U64(at),
                    Arg::U64(at + u64::from(count)),
                ];
                queue.launch(&self.items, count.div_ceil(self.group), &args)
            })?);
            go_on(making.done)?;
        }
        Ok(())
    }

    /// What was made, after a sample of the dataset was compared with the CPU's.
    ///
    /// # Errors
    /// The device's failure; [`GpuError::Wrong`] if an item differs.
    pub(super) fn check(
        &self,
        making: Making,
        queue: &mut dyn Queue,
        cache: &[u8],
    ) -> Result<Items, GpuError> {
        let Some(made) = making.dataset else {
            return Ok(Items { first: making.cache.buffer, second: Some(making.functions_there) });
        };
        let items = self.params.dataset_items();
        let light = Light::new(self.params, cache, &making.functions);
        for i in 0..SAMPLES {
            // Those beside the seam of the two parts, then from the first to the last.
            let index = match i {
                0 => self.part - 1,
                1 => self.part.min(items - 1),
                _ => (items - 1) * (i - 2) / (SAMPLES - 3),
            };
            if self.item(queue, &made, index)? != light.item(index) {
                return Err(GpuError::Wrong {
                    device: self.device.info().id,
                    reason: format!("item {index} of its RandomX dataset differs from the CPU's"),
                });
            }
        }
        Ok(made)
    }

    /// An item of a dataset, as the device holds it.
    fn item(&self, queue: &mut dyn Queue, items: &Items, index: u64) -> Result<[u64; 8], GpuError> {
        let (part, at) = match &items.second {
            Some(second) if index >= self.part => (second, index - self.part),
            _ => (&items.first, index),
        };
        let mut bytes = [0; 64];
        queue.read(part, 64 * at, &mut bytes)?;
        Ok(std::array::from_fn(|i| u64::from_le_bytes(bytes.as_chunks().0[i])))
    }
}
