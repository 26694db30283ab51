//! RandomX on a device: the host's side of `kernels/randomx.cl`.
//!
//! ```text
//! cache (256 MiB, from the epoch) -- rx_items --> dataset (2 GiB), kept until the key changes
//! a batch: rx_seed, rx_fill, 8 x [rx_program, rx_execute in pieces], rx_fingerprint, rx_finish or rx_commit --> hits
//! ```
//!
//! [`Kernels`] are the compiled kernels of a variant, [`Items`] what they read in place of a dataset or the dataset
//! itself, [`Memory`] the hashes in flight. A device without room for a dataset computes items when they are asked
//! for, from the cache alone: a hash takes far longer then, but is the same.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::{Arg, Batch, Buffer, GoOn, Gpu, GpuError, Kernel, Queue, Search, target_top};
use crate::algo::randomx::config::{Params, Revision};
use crate::algo::randomx::superscalar::{Kind, Program};
use crate::epoch::{Epoch, EpochKey, EpochSeed};
use crate::job::{Job, Work};
use crate::topology::NodeId;
use items::Making;

pub use items::Items;

mod items;

/// How many lanes a group has on a GPU: one warp, for warps wait for their slowest lane anyway.
const GROUP: u32 = 32;

/// How many on a CPU, whose threads take a group each.
const GROUP_OF_A_CPU: u32 = 4;

/// Words of a hash's state: `RX_STATE` of the kernels.
pub const STATE_WORDS: u64 = 44;

/// Iterations of a program in one launch. A full H200 does 64 of them in some 15 ms; a launch costs microseconds.
const ITERATIONS: u32 = 64;

/// Hashes in flight for each multiprocessor, in both queues together: as many warps as its registers hold.
const HASHES_PER_UNIT: u64 = 512;

/// Device memory left to others: the display, the driver, small buffers.
const RESERVE: u64 = 512 << 20;

/// The macros of a variant, in the order in which `otedama_kernels::BUILDS` has them; [`Kernels`] adds how many lanes
/// there are and where items come from.
pub fn defines(params: &Params) -> Vec<(&'static str, u64)> {
    let [l1, l2, l3] = params.scratchpad;
    vec![
        ("RX_SIZE", params.program_size as u64),
        ("RX_L1", l1 as u64),
        ("RX_L2", l2 as u64),
        ("RX_L3", l3 as u64),
        ("RX_DATASET_MASK", params.dataset_mask().into()),
        ("RX_DATASET_STARTS", params.dataset_starts()),
        ("RX_CACHE_LINES", params.cache_bytes() as u64 / 64),
        ("RX_CACHE_ACCESSES", params.cache_accesses as u64),
        ("RX_JUMP_BITS", params.jump_bits.into()),
        ("RX_JUMP_OFFSET", params.jump_offset.into()),
        ("RX_V2", (params.revision == Revision::V2).into()),
    ]
}

/// All macros: `part` items are in the dataset's first part.
fn all_defines(params: &Params, depth: Depth, group: u32, part: u64) -> Vec<(&'static str, u64)> {
    let mut macros = defines(params);
    macros.extend([
        ("RX_GROUP", group.into()),
        ("RX_PART", part),
        ("RX_LIGHT", (depth == Depth::Light).into()),
    ]);
    macros
}

/// What is no number among a variant's parameters, as the kernels read it: AesGenerator4R's keys, then what each
/// opcode is.
pub fn variant_words(params: &Params) -> Vec<u32> {
    let keys = params.generator_4r_keys.as_flattened();
    let keys = keys.iter().flat_map(|key| (0..4).map(move |i| (key >> (32 * i)) as u32));
    keys.chain(params.opcodes.iter().map(|opcode| *opcode as u32)).collect()
}

/// SuperscalarHash functions as the kernels read them: see `rx_item` in `randomx.cl`.
pub fn function_words(functions: &[Program]) -> Vec<u64> {
    let mut words = Vec::new();
    for function in functions {
        words.push(function.instructions.len() as u64 | u64::from(function.address_register) << 32);
        for instruction in &function.instructions {
            // The operation (RX_ADD and so on), and whether the constant is its operand.
            let (operation, constant) = match instruction.kind {
                Kind::IaddRs => (0, false),
                Kind::IaddC7 | Kind::IaddC8 | Kind::IaddC9 => (0, true),
                Kind::IsubR => (1, false),
                Kind::ImulR => (2, false),
                Kind::ImulRcp => (2, true),
                Kind::ImulhR => (3, false),
                Kind::IsmulhR => (4, false),
                Kind::IxorR => (5, false),
                Kind::IxorC7 | Kind::IxorC8 | Kind::IxorC9 => (5, true),
                Kind::IrorC => (6, true),
            };
            let shift = if instruction.kind == Kind::IaddRs { instruction.shift() } else { 0 };
            let registers = u64::from(instruction.dst) << 8 | u64::from(instruction.src) << 16;
            words.push(operation | registers | u64::from(shift) << 24 | u64::from(constant) << 32);
            words.push(instruction.constant);
        }
    }
    words
}

/// Where the machines on a device find dataset items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// All are computed beforehand: 2 GiB.
    Full,
    /// Each is computed from the cache when it is asked for: 256 MiB.
    Light,
}

/// The kernels of a variant, compiled for a device.
pub struct Kernels {
    device: Arc<dyn Gpu>,
    params: &'static Params,
    depth: Depth,
    group: u32,
    /// Items in the dataset's first part.
    part: u64,
    variant: Buffer,
    seed: Kernel,
    fill: Kernel,
    program: Kernel,
    execute: Kernel,
    fingerprint: Kernel,
    /// Compares hashes with the target, or, in version 2, the commitments to them.
    finish: Kernel,
    items: Kernel,
}

/// Memory for hashes in flight.
pub struct Memory {
    hashes: u32,
    /// The state of each hash: word w of hash h at `w * hashes + h` (listed in `randomx.cl`).
    pub states: Buffer,
    /// The scratchpads, one after the other.
    pub scratchpads: Buffer,
    programs: Buffer,
    reciprocals: Buffer,
}

impl Memory {
    /// How many hashes there is room for.
    pub fn hashes(&self) -> u32 {
        self.hashes
    }
}

/// What is hashed, on the device.
pub struct Input {
    blob: Buffer,
    blob_bytes: u32,
    nonce_at: u32,
    target_top: u64,
}

/// Where hits go: the buffer (layout: `otd_hit` of the kernels) and how many it has room for.
#[derive(Clone, Copy, Debug)]
pub struct Hits<'a> {
    /// Zeroed by whoever searches.
    pub buffer: &'a Buffer,
    /// In nonces.
    pub room: u32,
}

impl Kernels {
    /// Compiles the kernels for groups of `group` lanes, a power of two.
    ///
    /// # Errors
    /// As [`Gpu::compile`], or if the device's buffers are too small for half a dataset.
    pub fn new(
        device: &Arc<dyn Gpu>,
        params: &'static Params,
        depth: Depth,
        group: u32,
        queue: &mut dyn Queue,
    ) -> Result<Kernels, GpuError> {
        let part = params.dataset_items().min(device.info().max_buffer / 64);
        let mut macros = all_defines(params, depth, group, part);
        if device.info().is_cpu {
            macros.push(("OTD_ROLLED", 1));
        }
        let source = otedama_kernels::RANDOMX;
        let program = device.compile(source.name, &source.text(), &macros)?;
        let words = variant_words(params);
        let variant = device.buffer(4 * words.len() as u64)?;
        queue.write(
            &variant,
            0,
            words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>().as_slice(),
        )?;
        let kernel = |name| program.kernel(name, group);
        Ok(Kernels {
            device: Arc::clone(device),
            params,
            depth,
            group,
            part,
            variant,
            seed: kernel("rx_seed")?,
            fill: kernel("rx_fill")?,
            program: kernel("rx_program")?,
            execute: kernel("rx_execute")?,
            fingerprint: kernel("rx_fingerprint")?,
            finish: kernel(if params.revision == Revision::V2 { "rx_commit" } else { "rx_finish" })?,
            items: kernel("rx_items")?,
        })
    }

    /// Bytes of device memory for a hash in flight.
    pub fn bytes_per_hash(params: &Params) -> u64 {
        params.scratchpad_bytes() as u64 + 8 * STATE_WORDS + 16 * params.program_size as u64
    }

    /// Memory for `hashes` in flight, rounded up to whole groups.
    ///
    /// # Errors
    /// [`GpuError::Memory`] or [`GpuError::BufferTooLarge`].
    pub fn memory(&self, hashes: u32) -> Result<Memory, GpuError> {
        let hashes = hashes.next_multiple_of(self.group);
        let words = |words: u64| self.device.buffer(8 * words * u64::from(hashes));
        Ok(Memory {
            hashes,
            states: words(STATE_WORDS)?,
            scratchpads: words(self.params.scratchpad_bytes() as u64 / 8)?,
            programs: words(self.params.program_size as u64)?,
            reciprocals: words(self.params.program_size as u64)?,
        })
    }

    /// Puts a blob on the device, whose nonce lies at bytes `nonce`; hits are hashes (in version 2 the commitments to
    /// them) whose top 64 bits are at most `target_top`.
    ///
    /// # Errors
    /// The device's failure.
    pub fn input(
        &self,
        queue: &mut dyn Queue,
        blob: &[u8],
        nonce: std::ops::Range<usize>,
        target_top: u64,
    ) -> Result<Input, GpuError> {
        let mut bytes = blob.to_vec();
        let nonce_at = nonce.start as u32;
        bytes[nonce].fill(0);
        bytes.resize(bytes.len().next_multiple_of(128).max(128), 0);
        let there = self.device.buffer(bytes.len() as u64)?;
        queue.write(&there, 0, &bytes)?;
        Ok(Input { blob: there, blob_bytes: blob.len() as u32, nonce_at, target_top })
    }

    /// Enqueues the hashes of `count` nonces from `first` on; nonces that meet the target go to `hits`.
    ///
    /// # Errors
    /// [`GpuError::Unsuited`] if the memory has no room for so many, or the device's failure.
    pub fn enqueue(
        &self,
        queue: &mut dyn Queue,
        on: (&Items, &Memory, &Input),
        first: u64,
        count: u32,
        hits: Hits<'_>,
    ) -> Result<(), GpuError> {
        (0..self.steps()).try_for_each(|step| self.enqueue_step(queue, on, step, first, count, hits))
    }

    /// Launches of `rx_execute` for a program.
    fn pieces(&self) -> u32 {
        (self.params.program_iterations as u32).div_ceil(ITERATIONS)
    }

    /// How many steps a batch has: each is a piece of a program.
    fn steps(&self) -> u32 {
        self.params.program_count as u32 * self.pieces()
    }

    /// Enqueues a step of [`Kernels::enqueue`].
    fn enqueue_step(
        &self,
        queue: &mut dyn Queue,
        (items, memory, input): (&Items, &Memory, &Input),
        step: u32,
        first: u64,
        count: u32,
        hits: Hits<'_>,
    ) -> Result<(), GpuError> {
        if count > memory.hashes {
            let reason = format!("{count} hashes at a time: there is memory for {}", memory.hashes);
            return Err(GpuError::Unsuited { device: self.device.info().id, reason });
        }
        let groups = count.div_ceil(self.group);
        let stride = Arg::U32(memory.hashes);
        let [states, scratchpads, programs, reciprocals] =
            [&memory.states, &memory.scratchpads, &memory.programs, &memory.reciprocals].map(Arg::Buffer);
        let blob = [Arg::Buffer(&input.blob), Arg::U32(input.blob_bytes), Arg::U32(input.nonce_at)];
        if step == 0 {
            let [bytes, len, nonce_at] = blob;
            let seed = [bytes, len, nonce_at, Arg::U64(first), states, stride];
            queue.launch(&self.seed, groups, &seed)?;
            queue.launch(&self.fill, 4 * groups, &[states, stride, scratchpads])?;
        }
        let (number, piece) = (step / self.pieces(), step % self.pieces());
        if piece == 0 {
            let variant = Arg::Buffer(&self.variant);
            let program = [states, stride, programs, reciprocals, variant, Arg::U32(number)];
            queue.launch(&self.program, groups, &program)?;
        }
        let [dataset, rest] = [&items.first, items.second.as_ref().unwrap_or(&items.first)].map(Arg::Buffer);
        let from = piece * ITERATIONS;
        let to = Arg::U32((from + ITERATIONS).min(self.params.program_iterations as u32));
        let from = Arg::U32(from);
        let execute = [states, stride, programs, reciprocals, scratchpads, dataset, rest, from, to];
        queue.launch(&self.execute, groups, &execute)?;
        if step + 1 < self.steps() {
            return Ok(());
        }
        queue.launch(&self.fingerprint, 4 * groups, &[states, stride, scratchpads])?;
        let mut finish = vec![states, stride];
        if self.params.revision == Revision::V2 {
            finish.extend(blob);
        }
        finish.extend([Arg::U64(first), Arg::U32(count), Arg::U64(input.target_top)]);
        finish.extend([Arg::Buffer(hits.buffer), Arg::U32(hits.room)]);
        queue.launch(&self.finish, groups, &finish)
    }
}

/// The search for nonces of a variant on a device.
///
/// # Errors
/// As [`Kernels::new`] and [`Kernels::memory`].
pub(super) fn search(device: &Arc<dyn Gpu>, params: &'static Params) -> Result<Box<dyn Search>, GpuError> {
    let mut queue = device.queue()?;
    Ok(Box::new(RandomX::new(device, params, queue.as_mut())?))
}

/// As the scanner over all families wants it. A batch takes seconds, in launches of milliseconds.
struct RandomX {
    kernels: Kernels,
    memory: [Memory; 2],
    /// The items of the last key.
    items: Option<(EpochKey, Items)>,
    /// Items whose making was given up, as far as they are.
    making: Option<(EpochKey, Making)>,
    input: Option<Input>,
}

impl RandomX {
    /// Kernels and memory for a variant on a device: with a dataset if that and some hashes fit, unless the device
    /// is a CPU, which would take minutes to make one.
    fn new(
        device: &Arc<dyn Gpu>,
        params: &'static Params,
        queue: &mut dyn Queue,
    ) -> Result<RandomX, GpuError> {
        let info = device.info();
        let cache = params.cache_bytes() as u64;
        let dataset = params.dataset_bytes() as u64 + cache;
        let full = !info.is_cpu && info.memory >= RESERVE + dataset + (256 << 20);
        let depth = if full { Depth::Full } else { Depth::Light };
        let free = info.memory.saturating_sub(RESERVE + if full { dataset } else { cache });
        let group = if info.is_cpu { GROUP_OF_A_CPU } else { GROUP };
        let hashes = if info.is_cpu {
            u64::from(info.units) * u64::from(group)
        } else {
            let by_memory = free / Kernels::bytes_per_hash(params) / 2;
            let by_buffer = info.max_buffer / params.scratchpad_bytes() as u64;
            by_memory.min(by_buffer).min(u64::from(info.units) * HASHES_PER_UNIT / 2)
        };
        let mut hashes = (hashes as u32 / group * group).max(group);
        let kernels = Kernels::new(device, params, depth, group, queue)?;
        queue.finish()?;
        let both = |hashes| Ok([kernels.memory(hashes)?, kernels.memory(hashes)?]);
        let memory = loop {
            match both(hashes) {
                // Others hold memory too: with less, as long as that is a group.
                Err(GpuError::Memory { .. }) if hashes > group => {
                    hashes = (hashes / 2).next_multiple_of(group)
                }
                done => break done?,
            }
        };
        Ok(RandomX { kernels, memory, items: None, making: None, input: None })
    }

    fn unsuited(&self, reason: String) -> GpuError {
        GpuError::Unsuited { device: self.kernels.device.info().id, reason }
    }

    /// Has the items of an epoch on the device, or goes on where making them was given up.
    fn take_up(
        &mut self,
        epoch: &Epoch,
        queue: &mut dyn Queue,
        go_on: &mut GoOn<'_>,
    ) -> Result<(), GpuError> {
        let key = epoch.key();
        if self.items.as_ref().is_some_and(|(made, _)| made == key) {
            return Ok(());
        }
        let EpochSeed::Bytes(seed) = &key.seed else {
            return Err(self.unsuited("an epoch with a number in place of a key".to_owned()));
        };
        // The old ones go first: there may be no room for two datasets.
        self.items = None;
        let mut making = match self.making.take().filter(|(begun, _)| begun == key) {
            Some((_, making)) => making,
            None => self.kernels.begin(queue, seed)?,
        };
        let cache = epoch.light().view(NodeId(0));
        match self.kernels.make(&mut making, queue, cache, go_on) {
            Ok(()) => {
                self.items = Some((*key, self.kernels.check(making, queue, cache)?));
                Ok(())
            }
            Err(error) => {
                self.making = matches!(error, GpuError::Cancelled { .. }).then_some((*key, making));
                Err(error)
            }
        }
    }
}

impl Search for RandomX {
    fn load(
        &mut self,
        job: &Arc<Job>,
        epoch: Option<&Arc<Epoch>>,
        queue: &mut dyn Queue,
        go_on: &mut GoOn<'_>,
    ) -> Result<(), GpuError> {
        let same = Params::of(job.algorithm()).is_some_and(|params| params.name == self.kernels.params.name);
        let (true, Work::Blob { bytes, .. }, Some(slot)) =
            (same, job.work(), job.algorithm().spec().input.nonce_slot())
        else {
            return Err(self.unsuited(format!(
                "{} on kernels of {}",
                job.algorithm(),
                self.kernels.params.name
            )));
        };
        let epoch = epoch.ok_or_else(|| self.unsuited(format!("{} without an epoch", job.algorithm())))?;
        self.input = None;
        self.take_up(epoch, queue, go_on)?;
        let nonce = slot.offset..slot.offset + slot.width;
        self.input = Some(self.kernels.input(queue, bytes, nonce, target_top(job))?);
        queue.finish()
    }

    /// All there is memory for: a hash takes as long alone as among thousands.
    fn granule(&self) -> u32 {
        self.memory[0].hashes
    }

    fn least(&self) -> u32 {
        self.kernels.group
    }

    fn max_batch(&self) -> u32 {
        self.memory[0].hashes
    }

    fn steps(&self) -> u32 {
        self.kernels.steps()
    }

    fn enqueue(
        &mut self,
        slot: usize,
        queue: &mut dyn Queue,
        step: u32,
        &Batch { first, count, hits, room }: &Batch<'_>,
    ) -> Result<(), GpuError> {
        let (Some((_, items)), Some(input)) = (&self.items, &self.input) else {
            return Err(self.unsuited("a search before a job".to_owned()));
        };
        let on = (items, &self.memory[slot], input);
        self.kernels.enqueue_step(queue, on, step, first, count, Hits { buffer: hits, room })
    }
}

#[cfg(test)]
mod tests;
