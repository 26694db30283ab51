//! A dataset (DAG) on a device: how it lies in buffers, how it is made there, how it is checked.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use crate::algo::ethash::{ITEM_BYTES, Item, Light};
use crate::algo::kawpow::Kiss99;
use crate::epoch::EpochKey;
use crate::gpu::pace::{GoOn, Pace, Upload};
use crate::gpu::{Arg, Buffer, Gpu, GpuError, Kernel, Queue};

/// Items that are computed again on the CPU, beside the first and the last of each part.
const SAMPLES: u32 = 256;

/// How a dataset lies in buffers: 1, 2 or 4, as many rows in each but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Items of a row: what a hash reads at a time.
    row_items: u32,
    /// Rows in all.
    pub(super) rows: u32,
    /// Buffers.
    pub(super) parts: u32,
    /// Rows in each but the last.
    pub(super) part_rows: u32,
}

impl Layout {
    /// The fewest buffers that hold so many bytes, of at most `max_buffer` bytes each; `None` if four do not. What
    /// is left over of a row is left out: nobody reads it.
    pub(super) fn new(row_items: u32, dataset_bytes: u64, max_buffer: u64) -> Option<Layout> {
        let row_bytes = u64::from(row_items) * ITEM_BYTES as u64;
        // Items are numbered by 32 bits up to the last epoch.
        let rows = (dataset_bytes / row_bytes) as u32;
        [1, 2, 4].into_iter().find_map(|parts| {
            let part_rows = rows.div_ceil(parts);
            (u64::from(part_rows) * row_bytes <= max_buffer).then_some(Layout {
                row_items,
                rows,
                parts,
                part_rows,
            })
        })
    }

    /// Bytes in all.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.row_items) * ITEM_BYTES as u64
    }

    /// The first item of a part, and how many it has.
    fn part(&self, part: u32) -> (u32, u32) {
        let first = (part * self.part_rows).min(self.rows);
        let rows = self.part_rows.min(self.rows - first);
        (first * self.row_items, rows * self.row_items)
    }

    /// The part of an item, and its number in there.
    fn place(&self, item: u32) -> (usize, u32) {
        let items = self.part_rows * self.row_items;
        ((item / items) as usize, item % items)
    }

    /// A buffer for each part.
    pub(super) fn allocate(&self, gpu: &dyn Gpu) -> Result<Vec<Buffer>, GpuError> {
        (0..self.parts).map(|part| gpu.buffer(u64::from(self.part(part).1) * ITEM_BYTES as u64)).collect()
    }
}

/// A dataset on a device.
pub(super) struct Dag {
    pub(super) key: EpochKey,
    pub(super) layout: Layout,
    pub(super) parts: Vec<Buffer>,
}

/// A dataset that is being made.
pub(super) struct Making {
    dag: Dag,
    cache: Upload,
    /// Items that are there.
    done: u32,
    pace: Pace,
}

impl Making {
    /// Nothing yet of a dataset, whose parts are there.
    pub(super) fn begin(gpu: &dyn Gpu, empty: Dag, light: &Light<'_>) -> Result<Making, GpuError> {
        let cache = gpu.buffer(light.cache().as_flattened().len() as u64)?;
        Ok(Making { dag: empty, cache: Upload::to(cache), done: 0, pace: Pace::new() })
    }

    /// The epoch whose dataset it is.
    pub(super) fn key(&self) -> &EpochKey {
        &self.dag.key
    }

    /// Computes all items on the device, launch by launch; `light` is the same each time.
    ///
    /// # Errors
    /// The device's, or [`GpuError::Cancelled`]: it can then be called again.
    pub(super) fn run(
        &mut self,
        gpu: &dyn Gpu,
        kernel: &Kernel,
        light: &Light<'_>,
        queue: &mut dyn Queue,
        go_on: &mut GoOn<'_>,
    ) -> Result<(), GpuError> {
        let layout = self.dag.layout;
        let items = layout.rows * layout.row_items;
        let mut go_on = |done: u32| match go_on(u64::from(done) * ITEM_BYTES as u64, layout.bytes()) {
            true => Ok(()),
            false => Err(GpuError::Cancelled { device: gpu.info().id }),
        };
        go_on(self.done)?;
        while self.cache.step(queue, light.cache().as_flattened())? {
            go_on(self.done)?;
        }
        while self.done < items {
            let (part, at) = layout.place(self.done);
            let left = layout.part(part as u32).1 - at;
            let (cache, out, first) = (&self.cache.buffer, &self.dag.parts[part], self.done);
            self.done += self.pace.step(queue, left.into(), |queue, count| {
                let args = [
                    Arg::Buffer(cache),
                    Arg::U32(light.cache().len() as u32),
                    Arg::U32(light.parents()),
                    Arg::Buffer(out),
                    Arg::U32(first),
                    Arg::U32(count),
                    Arg::U32(at),
                ];
                queue.launch(kernel, count.div_ceil(kernel.group()), &args)
            })?;
            go_on(self.done)?;
        }
        Ok(())
    }

    /// The dataset, after [`Making::run`].
    pub(super) fn done(self) -> Dag {
        self.dag
    }
}

impl Dag {
    /// Compares items with the CPU's: the ends of each part, and some at random.
    ///
    /// # Errors
    /// [`GpuError::Wrong`] that names the first wrong item, or the device's.
    pub(super) fn check(
        &self,
        gpu: &dyn Gpu,
        light: &Light<'_>,
        queue: &mut dyn Queue,
    ) -> Result<(), GpuError> {
        let seed = RandomState::new().build_hasher().finish();
        let mut random = Kiss99::of_words(seed as u32, (seed >> 32) as u32);
        let items = self.layout.rows * self.layout.row_items;
        let ends = (0..self.layout.parts).map(|part| self.layout.part(part)).filter(|&(_, count)| count > 0);
        let ends = ends.flat_map(|(first, count)| [first, first + count - 1]);
        for index in ends.chain((0..SAMPLES).map(|_| random.next() % items)) {
            let (part, at) = self.layout.place(index);
            let mut found: Item = [0; ITEM_BYTES];
            queue.read(&self.parts[part], u64::from(at) * ITEM_BYTES as u64, &mut found)?;
            if found != light.item(index) {
                let reason =
                    format!("item {index} of {items} of the dataset of {} is not the CPU's", self.key);
                return Err(GpuError::Wrong { device: gpu.info().id, reason });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_takes_the_fewest_buffers_it_fits() {
        let layout = |max| Layout::new(2, 1000 * 128 + 64, max);
        assert_eq!(layout(128_000), Some(Layout { row_items: 2, rows: 1000, parts: 1, part_rows: 1000 }));
        assert_eq!(layout(127_999).map(|l| (l.parts, l.part_rows)), Some((2, 500)));
        assert_eq!(layout(63_999).map(|l| (l.parts, l.part_rows)), Some((4, 250)));
        assert_eq!(layout(31_999), None);
    }

    #[test]
    fn every_item_lies_in_one_part() {
        for (rows, max) in [(1000, 128_000), (1001, 64_128), (1001, 32_128), (7, 300)] {
            let layout = Layout::new(2, rows * 128, max).unwrap();
            let mut next = 0;
            for part in 0..layout.parts {
                let (first, count) = layout.part(part);
                assert_eq!(first, next, "{layout:?}");
                for item in first..first + count {
                    assert_eq!(layout.place(item), (part as usize, item - first), "{layout:?}");
                }
                next += count;
            }
            assert_eq!(next as u64, 2 * rows, "{layout:?}");
            assert_eq!(layout.bytes(), rows * 128);
        }
    }
}
