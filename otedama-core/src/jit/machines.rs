//! Machines that run compiled programs: one thread's share of RandomX.

use std::fmt;

use super::ItemCode;
use super::context::Context;
use super::randomx_x86_64::{Compiler, Items, MachineSpec, most_bytes};
use crate::algo::randomx::config::Params;
use crate::algo::randomx::interpret::Registers;
use crate::algo::randomx::program::Configuration;
use crate::algo::randomx::{aes, aes_ni, finish};
use crate::cpu::AesNi;
use crate::mem::exec::{CodeMemory, ExecError};
use crate::mem::{MemError, Region, Request};
use crate::primitive::blake2b;

/// Where machines find dataset items.
#[derive(Clone, Copy, Debug)]
pub enum DatasetSource<'a> {
    /// All of them in memory: [`Params::dataset_bytes`].
    Full(&'a [u8]),
    /// Computed when they are needed, from a cache of [`Params::cache_bytes`] and the functions of the
    /// same key.
    Light {
        /// The cache.
        cache: &'a [u8],
        /// The functions.
        items: &'a ItemCode,
    },
}

/// Why there are no machines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MachinesError {
    /// No memory for scratchpads.
    #[error("no scratchpad: {0}")]
    Scratchpad(#[from] MemError),
    /// No memory for code, or not allowed.
    #[error(transparent)]
    Code(#[from] ExecError),
}

/// A few machines in step with one another, on one thread: each runs a program of its own, and their
/// iterations take turns, so that one works while another waits for memory.
pub struct Machines<'p> {
    params: &'p Params,
    aes: AesNi,
    machines: Vec<Machine>,
    /// Apart from the machines because the code reads and writes it behind the compiler's back.
    contexts: Box<[Context]>,
    code: CodeMemory,
    compiler: Compiler,
}

struct Machine {
    scratchpad: Region,
    /// What fills the programs.
    generator: aes::State,
    program: Vec<u8>,
    configuration: Configuration,
    registers: Registers,
}

/// What [`Compiler::compile`] writes.
type Entry = unsafe extern "sysv64" fn();

impl<'p> Machines<'p> {
    /// `k` machines, 1 to [`Machines::MOST`], with scratchpads as requested. The token is needed because the
    /// code of version 2 has AES rounds in it, and because nobody would want to wait without.
    ///
    /// # Errors
    /// [`MachinesError`], if there is no memory or code is forbidden.
    ///
    /// # Panics
    /// If `k` is out of range.
    pub fn new(
        params: &'p Params,
        k: usize,
        request: &Request,
        aes: AesNi,
    ) -> Result<Machines<'p>, MachinesError> {
        assert!((1..=Machines::MOST).contains(&k), "{k} machines on a thread: expected 1 to 8");
        let code = CodeMemory::new(most_bytes(params, k))?;
        let machine = || {
            let scratchpad = Region::new(params.scratchpad_bytes(), request)?;
            let program = vec![0; params.program_bytes()];
            let configuration = Configuration::decode(params, &[0; 128]);
            let (generator, registers) = (aes::State::default(), Registers::default());
            Ok(Machine { scratchpad, generator, program, configuration, registers })
        };
        let machines = (0..k).map(|_| machine()).collect::<Result<_, MemError>>()?;
        let contexts = vec![Context::new(); k].into_boxed_slice();
        Ok(Machines { params, aes, machines, contexts, code, compiler: Compiler::default() })
    }

    /// More machines than that were never of use: their scratchpads drive each other out of the caches.
    pub const MOST: usize = 8;

    /// How many machines there are.
    pub fn count(&self) -> usize {
        self.machines.len()
    }

    /// The variant they are of.
    pub fn params(&self) -> &'p Params {
        self.params
    }

    /// The scratchpads, to see what pages they got.
    pub fn scratchpads(&self) -> impl Iterator<Item = &Region> {
        self.machines.iter().map(|machine| &machine.scratchpad)
    }

    /// Hashes each input into its place: any number of them, as many at a time as there are machines.
    ///
    /// The pass that fingerprints a scratchpad fills it for the next input as well. So one call with many
    /// inputs is faster than many calls, by a twentieth or so.
    ///
    /// # Panics
    /// If there are not as many outputs as inputs, or the dataset has the wrong size.
    pub fn hash(&mut self, dataset: DatasetSource<'_>, inputs: &[&[u8]], hashes: &mut [[u8; 32]]) {
        assert_eq!(inputs.len(), hashes.len(), "one hash per input");
        let (k, aes) = (self.count(), self.aes);
        for (machine, input) in self.machines.iter_mut().zip(inputs) {
            machine.generator = aes::state_from_bytes(&blake2b::digest(input));
            aes_ni::fill_1r(aes, &mut machine.generator, &mut machine.scratchpad);
        }
        for (hashes, i) in hashes.chunks_mut(k).zip((0..).step_by(k)) {
            self.run_programs(dataset, hashes.len());
            let mut coming = inputs[i + hashes.len()..].iter();
            for (machine, hash) in self.machines.iter_mut().zip(hashes) {
                let fingerprint = match coming.next() {
                    Some(input) => {
                        machine.generator = aes::state_from_bytes(&blake2b::digest(input));
                        aes_ni::hash_and_fill_1r(aes, &mut machine.generator, &mut machine.scratchpad)
                    }
                    None => aes_ni::hash_1r(aes, &machine.scratchpad),
                };
                *hash = finish(&machine.registers, &fingerprint);
            }
        }
    }

    /// Runs the programs of a hash on the first `count` machines, whose scratchpads are filled.
    fn run_programs(&mut self, dataset: DatasetSource<'_>, count: usize) {
        for context in &mut self.contexts[..count] {
            context.mode = 0;
        }
        for program in 0..self.params.program_count {
            for machine in &mut self.machines[..count] {
                if program > 0 {
                    let seed = blake2b::digest(&machine.registers.to_bytes());
                    machine.generator = aes::state_from_bytes(&seed);
                }
                aes_ni::fill_4r(self.aes, self.params, &mut machine.generator, &mut machine.program);
            }
            self.run(dataset, count);
        }
    }

    /// Compiles the programs of the first `count` machines and runs them to their end.
    fn run(&mut self, dataset: DatasetSource<'_>, count: usize) {
        let params = self.params;
        if count == 0 {
            return;
        }
        let items = match dataset {
            DatasetSource::Full(memory) => {
                assert_eq!(memory.len(), params.dataset_bytes(), "a dataset of another size");
                Items::Full(memory.as_ptr() as u64)
            }
            DatasetSource::Light { cache, items } => {
                items.check(cache);
                Items::Light { function: items.entry() as usize as u64, cache: cache.as_ptr() as u64 }
            }
        };
        for (machine, context) in self.machines[..count].iter_mut().zip(&mut self.contexts) {
            let configuration = machine.program.first_chunk().expect("a program starts with 128 bytes");
            machine.configuration = Configuration::decode(params, configuration);
            context.start(params, &machine.configuration);
        }
        let contexts = self.contexts.as_mut_ptr();
        let mut specs = Vec::with_capacity(count);
        for (i, machine) in self.machines[..count].iter_mut().enumerate() {
            specs.push(MachineSpec {
                context: contexts.wrapping_add(i) as u64,
                scratchpad: machine.scratchpad.as_mut_ptr() as u64,
                configuration: &machine.configuration,
                code: machine.program[128..].as_chunks().0,
            });
        }
        self.compiler.compile(self.code.bytes_mut(), params, &specs, items);
        // SAFETY: the compiler has just written a function of this type to the start of the memory. It
        // reads and writes contexts and scratchpads, which belong to `self` and are borrowed mutably, at
        // addresses that masks keep inside them; it reads the dataset or cache, whose size was compared
        // with what the masks are made for, and calls the function of `items`, which is borrowed. It
        // restores MXCSR and the registers that the convention says, serializes before it comes to code
        // that was not there before, and returns.
        unsafe {
            let entry = std::mem::transmute::<*const u8, Entry>(self.code.start().as_ptr());
            entry();
        }
        for (machine, context) in self.machines[..count].iter_mut().zip(&self.contexts) {
            let f = if count == 1 {
                context.f
            } else {
                let line = &machine.scratchpad[context.f_at as usize..][..64];
                let words: &[[u8; 8]] = line.as_chunks().0;
                std::array::from_fn(|i| [words[2 * i], words[2 * i + 1]].map(u64::from_le_bytes))
            };
            machine.registers = Registers { r: context.r, f, e: context.e, a: context.a };
        }
    }
}

impl fmt::Debug for Machines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Machines({} of {})", self.machines.len(), self.params.name)
    }
}

#[cfg(test)]
#[path = "machines_tests.rs"]
mod tests;
