//! KawPow with compiled programs: one thread's share.
//!
//! A hash reads its 64 rows one after the other, and which comes next is known only when the program has run.
//! So a few hashes take turns, a run each:
//!
//! ```text
//! for loop in 0..64:
//!     for each hash in flight:  run the program with the row asked for before
//!     for each hash in flight:  next row = register 0 of one lane mod rows;  prefetch its four cache lines
//! ```
//!
//! A prefetch waits until its address is translated, which with gigabytes takes a walk through page tables;
//! asked for one right after the other, walks overlap. (Each hash asking right after its run took 2 to 3 us a
//! hash longer where this was measured, of 14.) A program needs its row at its end only.
//!
//! With the light cache a row is four items of the dataset, and all rows of a round are computed together.

use std::fmt;

use super::KawPowCode;
use crate::algo::ethash::{self, Dataset, Full, Item, Light, Outcome, Remainder};
use crate::algo::kawpow::{
    Attempt, Kernel, L1Cache, LANES, LOOPS, Mix, Program, Row,
    lanes::{BATCH, Finish, Start, Started},
    period_of,
};
use crate::cpu::{Avx2, Avx512, Avx512BitCounts};
use crate::mem::exec::ExecError;
use crate::simd::{Token, prefetch};

/// Programs kept: of the period that is mined, the next one, and those of late shares.
const PROGRAMS: usize = 4;

/// Most hashes that take turns.
const MOST_IN_FLIGHT: usize = BATCH;

/// Hashes in flight with the light cache: their rows are as many items as are computed at a time.
const LIGHT_IN_FLIGHT: usize = BATCH;

/// Items of a row.
const ROW_ITEMS: usize = size_of::<Row>() / size_of::<Item>();

/// KawPow on `T`'s vectors.
pub struct KawPowKernel<T: Token> {
    name: &'static str,
    token: T,
    items: ethash::LanesKernel<T>,
    compiler: Compiler,
    in_flight: usize,
    /// By period, the one used last in front.
    programs: Vec<(u64, Runner)>,
    hashes: Box<[Started]>,
}

#[derive(Clone, Copy, Debug)]
enum Compiler {
    Avx512(Avx512, Option<Avx512BitCounts>),
    Avx2(Avx2),
}

/// A period's program.
enum Runner {
    Compiled(KawPowCode),
    /// Where memory for code was to be had at first, and then no more.
    Interpreted(Program),
}

impl KawPowKernel<Avx512> {
    /// With AVX-512, and with the second token a little faster.
    ///
    /// # Errors
    /// [`ExecError`], where executable memory is not to be had: [`Portable`](crate::algo::kawpow::Portable)
    /// needs none.
    pub fn avx512(token: Avx512, counts: Option<Avx512BitCounts>) -> Result<Self, ExecError> {
        let items = ethash::LanesKernel::avx512(token);
        KawPowKernel::new("avx512", token, items, Compiler::Avx512(token, counts))
    }
}

impl KawPowKernel<Avx2> {
    /// With AVX2.
    ///
    /// # Errors
    /// [`ExecError`], where executable memory is not to be had: [`Portable`](crate::algo::kawpow::Portable)
    /// needs none.
    pub fn avx2(token: Avx2) -> Result<Self, ExecError> {
        KawPowKernel::new("avx2", token, ethash::LanesKernel::avx2(token), Compiler::Avx2(token))
    }
}

impl<T: Token> KawPowKernel<T> {
    /// Hashes in flight with the DAG in memory, if nobody says otherwise. Fewer are slower, more are not faster
    /// where this was measured.
    const IN_FLIGHT: usize = 4;

    fn new(
        name: &'static str,
        token: T,
        items: ethash::LanesKernel<T>,
        compiler: Compiler,
    ) -> Result<Self, ExecError> {
        let mut programs = Vec::with_capacity(PROGRAMS + 1);
        programs.push((0, Runner::Compiled(compiler.compile(&Program::of_period(0))?)));
        let hashes = vec![Started::EMPTY; BATCH].into_boxed_slice();
        Ok(KawPowKernel { name, token, items, compiler, in_flight: Self::IN_FLIGHT, programs, hashes })
    }

    /// The same with so many hashes in flight, 1 to 16, when the DAG is in memory.
    ///
    /// # Panics
    /// If the number is out of range.
    #[must_use]
    pub fn with_in_flight(mut self, hashes: usize) -> Self {
        assert!((1..=MOST_IN_FLIGHT).contains(&hashes), "{hashes} hashes in flight: expected 1 to 16");
        self.in_flight = hashes;
        self
    }

    fn hash<R: Rows>(
        &mut self,
        rows: &mut R,
        l1: &L1Cache,
        in_flight: usize,
        attempts: &[Attempt],
        outcomes: &mut [Outcome],
    ) {
        assert_eq!(attempts.len(), outcomes.len(), "an outcome for each attempt");
        let mut left = outcomes;
        for attempts in attempts.chunk_by(|a, b| period_of(a.height) == period_of(b.height)) {
            self.prepare(period_of(attempts[0].height));
            let (_, runner) = &self.programs[0];
            for attempts in attempts.chunks(BATCH) {
                let outcomes = left.split_off_mut(..attempts.len()).expect("as many as attempts");
                let hashes = &mut self.hashes[..attempts.len()];
                self.token.run(Start { attempts, hashes });
                for hashes in hashes.chunks_mut(in_flight) {
                    run_in_turn(runner, rows, l1, hashes);
                }
                self.token.run(Finish { hashes, outcomes });
            }
        }
    }
}

impl<T: Token> Kernel for KawPowKernel<T>
where
    ethash::LanesKernel<T>: ethash::Kernel,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn lanes(&self) -> usize {
        BATCH
    }

    fn prepare(&mut self, period: u64) {
        KawPowKernel::prepare(self, period);
    }

    fn hash_light(
        &mut self,
        light: &Light<'_>,
        l1: &L1Cache,
        attempts: &[Attempt],
        outcomes: &mut [Outcome],
    ) {
        let mut rows = LightRows {
            light,
            kernel: self.items,
            indices: [0; LIGHT_IN_FLIGHT * ROW_ITEMS],
            rows: [EMPTY_ROW; LIGHT_IN_FLIGHT],
        };
        self.hash(&mut rows, l1, LIGHT_IN_FLIGHT, attempts, outcomes);
    }

    fn hash_full(&mut self, full: &Full<'_>, l1: &L1Cache, attempts: &[Attempt], outcomes: &mut [Outcome]) {
        let (rows, _) = full.as_pages().as_chunks();
        let mut rows = FullRows { rows, places: [0; MOST_IN_FLIGHT] };
        self.hash(&mut rows, l1, self.in_flight, attempts, outcomes);
    }
}

impl<T: Token> KawPowKernel<T> {
    /// Brings the program of a period to the front, compiled.
    fn prepare(&mut self, period: u64) {
        if let Some(found) = self.programs.iter().position(|&(kept, _)| kept == period) {
            self.programs[..=found].rotate_right(1);
            return;
        }
        let program = Program::of_period(period);
        let runner = match self.compiler.compile(&program) {
            Ok(code) => Runner::Compiled(code),
            Err(_) => Runner::Interpreted(program),
        };
        self.programs.insert(0, (period, runner));
        self.programs.truncate(PROGRAMS);
    }
}

impl<T: Token> fmt::Debug for KawPowKernel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KawPowKernel({}, {} in flight)", self.name, self.in_flight)
    }
}

impl Compiler {
    fn compile(self, program: &Program) -> Result<KawPowCode, ExecError> {
        match self {
            Compiler::Avx512(token, counts) => KawPowCode::avx512(token, counts, program),
            Compiler::Avx2(token) => KawPowCode::avx2(token, program),
        }
    }
}

impl Runner {
    #[inline(always)]
    fn run(&self, mix: &mut Mix, l1: &L1Cache, row: &Row, number: usize) {
        match self {
            Runner::Compiled(code) => code.run(mix, l1, row, number),
            Runner::Interpreted(program) => mix.run(program, l1, row, number),
        }
    }
}

/// All loops of a few hashes.
fn run_in_turn(runner: &Runner, rows: &mut impl Rows, l1: &L1Cache, hashes: &mut [Started]) {
    let remainder = Remainder::by(rows.count());
    for (slot, hash) in hashes.iter().enumerate() {
        rows.ask(slot, remainder.of(hash.mix.0[0][0]));
    }
    for number in 0..LOOPS {
        rows.fetch(hashes.len());
        for (slot, hash) in hashes.iter_mut().enumerate() {
            runner.run(&mut hash.mix, l1, rows.row(slot), number);
        }
        if number + 1 < LOOPS {
            for (slot, hash) in hashes.iter().enumerate() {
                rows.ask(slot, remainder.of(hash.mix.0[0][(number + 1) % LANES]));
            }
        }
    }
}

/// Where rows of the DAG come from, one for each hash in flight.
trait Rows {
    /// How many there are.
    fn count(&self) -> u32;

    /// Says which one a hash wants next.
    fn ask(&mut self, slot: usize, index: usize);

    /// Gets what the first `slots` hashes asked for.
    fn fetch(&mut self, slots: usize);

    /// What a hash asked for.
    fn row(&self, slot: usize) -> &Row;
}

struct FullRows<'a> {
    rows: &'a [Row],
    places: [usize; MOST_IN_FLIGHT],
}

impl Rows for FullRows<'_> {
    fn count(&self) -> u32 {
        self.rows.len() as u32
    }

    #[inline(always)]
    fn ask(&mut self, slot: usize, index: usize) {
        self.places[slot] = index;
        for line in self.rows[index].as_flattened().as_chunks::<64>().0 {
            prefetch(line);
        }
    }

    #[inline(always)]
    fn fetch(&mut self, _: usize) {}

    #[inline(always)]
    fn row(&self, slot: usize) -> &Row {
        &self.rows[self.places[slot]]
    }
}

const EMPTY_ROW: Row = [[0; 128]; 2];

struct LightRows<'a, K> {
    light: &'a Light<'a>,
    kernel: K,
    indices: [u32; LIGHT_IN_FLIGHT * ROW_ITEMS],
    rows: [Row; LIGHT_IN_FLIGHT],
}

impl<K: ethash::Kernel> Rows for LightRows<'_, K> {
    fn count(&self) -> u32 {
        self.light.pages() / 2
    }

    fn ask(&mut self, slot: usize, index: usize) {
        for (i, item) in self.indices[slot * ROW_ITEMS..][..ROW_ITEMS].iter_mut().enumerate() {
            *item = (index * ROW_ITEMS + i) as u32;
        }
    }

    fn fetch(&mut self, slots: usize) {
        let (items, _) = self.rows[..slots].as_flattened_mut().as_flattened_mut().as_chunks_mut();
        self.kernel.items_at(self.light, &self.indices[..slots * ROW_ITEMS], items);
    }

    fn row(&self, slot: usize) -> &Row {
        &self.rows[slot]
    }
}
