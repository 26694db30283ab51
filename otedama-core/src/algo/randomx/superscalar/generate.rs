//! Generating a SuperscalarHash program (specification 6.2 and 6.3): an imagined CPU decodes, schedules
//! and runs instructions that are drawn so as to keep its three ports busy.
//!
//! ```text
//! every cycle, 16 bytes are decoded:  a group of 3 or 4 slots       | 4 bytes | 8 bytes | 4 bytes |
//! every slot takes one macro-op:      of the instruction under way, or the first of a new one
//! every macro-op is issued:           when ports P0, P1, P5 are free and its operands are ready
//! ```
//!
//! The specification leaves open in which order random choices are drawn and what happens when no
//! operand is ready. All nodes must agree on that too; it is written down at the functions below.

use super::{Instruction, Kind};
use crate::algo::randomx::{BlakeGenerator, reciprocal};

/// A program for a target latency in cycles (specification 6.3: both of its ends are here).
pub(super) fn generate(latency: usize, random: &mut BlakeGenerator) -> Vec<Instruction> {
    let mut generator = Generator {
        random,
        latency,
        ports: Ports { busy: vec![[false; 3]; latency + SPARE_CYCLES] },
        registers: [Register { ready: 0, last: None }; 8],
        cycle: 0,
        previous_done: 0,
        under_way: None,
        thrown_away: 0,
        multiplications: 0,
        saturated: false,
        instructions: Vec::with_capacity(max_instructions(latency)),
    };
    for decode_cycle in 0..latency {
        if generator.finished() {
            break;
        }
        let group = generator.choose_group(decode_cycle);
        generator.decode(group);
        generator.cycle += 1;
    }
    generator.instructions
}

/// Cycles past the target in which a macro-op may still find its ports.
const SPARE_CYCLES: usize = 4;

/// How many cycles an operand is waited for.
const PATIENCE: usize = 4;

/// How many instructions in a row may be thrown away because no operand was ready in time.
const MAX_THROWN_AWAY: usize = 256;

const fn max_instructions(latency: usize) -> usize {
    3 * latency + 2
}

/// The register that cannot be the destination of IADD_RS.
const R5: u8 = 5;

/// The ports P0, P1 and P5, in the order of the table of busy ones.
const P0: usize = 0;
const P1: usize = 1;
const P5: usize = 2;

/// The ports a micro-op can go to, in the order in which they are tried.
type PortChoice = &'static [usize];

const P015: PortChoice = &[P5, P0, P1];
const P01: PortChoice = &[P0, P1];
const P05: PortChoice = &[P5, P0];
const ONLY_P1: PortChoice = &[P1];
const ONLY_P5: PortChoice = &[P5];

/// A macro-op (specification, table 6.2.1).
struct MacroOp {
    latency: usize,
    /// None, one or two of them, which must start in the same cycle.
    micro_ops: &'static [PortChoice],
    /// Whether it waits for the macro-op before it.
    chained: bool,
}

/// An instruction's macro-ops, and at which of them the instruction needs its operands and changes its
/// destination.
struct Recipe {
    macro_ops: &'static [MacroOp],
    source_at: Option<usize>,
    destination_at: usize,
    result_at: usize,
}

const fn op(latency: usize, micro_ops: &'static [PortChoice]) -> MacroOp {
    MacroOp { latency, micro_ops, chained: false }
}

const fn single(macro_ops: &'static [MacroOp], has_source: bool) -> Recipe {
    let source_at = if has_source { Some(0) } else { None };
    Recipe { macro_ops, source_at, destination_at: 0, result_at: 0 }
}

static ADD: Recipe = single(&[op(1, &[P015])], true);
static LEA: Recipe = single(&[op(1, &[P01])], true);
static MULTIPLY: Recipe = single(&[op(3, &[ONLY_P1])], true);
static ROTATE: Recipe = single(&[op(1, &[P05])], false);
static IMMEDIATE: Recipe = single(&[op(1, &[P015])], false);
/// `mov` from dst, `mul` by src, `mov` to dst.
static MULTIPLY_HIGH: Recipe = Recipe {
    macro_ops: &[op(0, &[]), op(4, &[ONLY_P1, ONLY_P5]), op(0, &[])],
    source_at: Some(1),
    destination_at: 0,
    result_at: 1,
};
/// `mov` of the reciprocal, `imul` by it.
static RECIPROCAL: Recipe = Recipe {
    macro_ops: &[op(1, &[P015]), MacroOp { latency: 3, micro_ops: &[ONLY_P1], chained: true }],
    source_at: None,
    destination_at: 1,
    result_at: 1,
};

impl Kind {
    fn recipe(self) -> &'static Recipe {
        match self {
            Kind::IsubR | Kind::IxorR => &ADD,
            Kind::IaddRs => &LEA,
            Kind::ImulR => &MULTIPLY,
            Kind::IrorC => &ROTATE,
            Kind::IaddC7 | Kind::IaddC8 | Kind::IaddC9 => &IMMEDIATE,
            Kind::IxorC7 | Kind::IxorC8 | Kind::IxorC9 => &IMMEDIATE,
            Kind::ImulhR | Kind::IsmulhR => &MULTIPLY_HIGH,
            Kind::ImulRcp => &RECIPROCAL,
        }
    }

    /// Instructions of one family on one register, with the same operand, could be made one.
    fn family(self) -> Kind {
        match self {
            Kind::IsubR => Kind::IaddRs,
            Kind::IaddC8 | Kind::IaddC9 => Kind::IaddC7,
            Kind::IxorC8 | Kind::IxorC9 => Kind::IxorC7,
            other => other,
        }
    }
}

/// A decoder group (specification, table 6.3.1): the sizes of its slots.
type Group = &'static [u8];

const GROUPS: [Group; 6] = [&[4, 8, 4], &[7, 3, 3, 3], &[3, 7, 3, 3], &[4, 9, 3], &[4, 4, 4, 4], &[3, 3, 10]];
const MULTIPLICATIONS: Group = GROUPS[4];

/// An instruction that is being put together.
#[derive(Clone, Copy)]
struct Draft {
    kind: Kind,
    modifier: u8,
    imm32: u32,
    src: Option<u8>,
    dst: Option<u8>,
    /// What, besides the family, makes two instructions on one register the same: the source register,
    /// a random number that makes any two differ, or nothing.
    operand: Option<u32>,
    /// How many of its macro-ops were issued.
    issued: usize,
}

impl Draft {
    /// Draws an instruction's kind for a slot (specification, table 6.3.2), then its fields.
    fn for_slot(random: &mut BlakeGenerator, group: Group, slot: usize) -> Draft {
        let is_last = slot + 1 == group.len();
        let choices: &[Kind] = match group[slot] {
            3 if is_last => &[Kind::IsubR, Kind::IxorR, Kind::ImulhR, Kind::IsmulhR],
            3 => &[Kind::IsubR, Kind::IxorR],
            4 if group == MULTIPLICATIONS && !is_last => &[Kind::ImulR],
            4 => &[Kind::IrorC, Kind::IaddRs],
            7 => &[Kind::IxorC7, Kind::IaddC7],
            8 => &[Kind::IxorC8, Kind::IaddC8],
            9 => &[Kind::IxorC9, Kind::IaddC9],
            _ => &[Kind::ImulRcp],
        };
        let kind = match choices {
            [only] => *only,
            // Two or four: no choice is likelier than another.
            several => several[usize::from(random.byte()) % several.len()],
        };
        let mut draft = Draft { kind, modifier: 0, imm32: 0, src: None, dst: None, operand: None, issued: 0 };
        match kind {
            Kind::IaddRs => draft.modifier = random.byte(),
            Kind::IrorC => {
                draft.imm32 = draw(|| u32::from(random.byte() & 63), |rotation| *rotation != 0);
            }
            Kind::ImulRcp => {
                draft.imm32 = draw(|| random.word(), |divisor| reciprocal(*divisor).is_some());
            }
            Kind::IaddC7 | Kind::IaddC8 | Kind::IaddC9 => draft.imm32 = random.word(),
            Kind::IxorC7 | Kind::IxorC8 | Kind::IxorC9 => draft.imm32 = random.word(),
            Kind::ImulhR | Kind::IsmulhR => draft.operand = Some(random.word()),
            Kind::IsubR | Kind::IxorR | Kind::ImulR => {}
        }
        draft
    }

    fn is_complete(&self) -> bool {
        self.issued == self.kind.recipe().macro_ops.len()
    }

    /// Whether dst may be src: a square is no waste where only the high half is kept.
    fn may_square(&self) -> bool {
        matches!(self.kind, Kind::ImulhR | Kind::IsmulhR)
    }
}

/// Draws until the draw will do.
fn draw(mut next: impl FnMut() -> u32, will_do: impl Fn(&u32) -> bool) -> u32 {
    loop {
        let drawn = next();
        if will_do(&drawn) {
            return drawn;
        }
    }
}

#[derive(Clone, Copy)]
struct Register {
    /// The cycle from which on its value can be used.
    ready: usize,
    /// Family and operand of the instruction that changed it last.
    last: Option<(Kind, Option<u32>)>,
}

/// Which ports are taken in which cycle.
struct Ports {
    busy: Vec<[bool; 3]>,
}

impl Ports {
    /// The first cycle, `from` or later, in which all micro-ops find a free port, and these ports; `None`
    /// if there is no such cycle left.
    fn find(&self, macro_op: &MacroOp, from: usize) -> Option<(usize, [Option<usize>; 2])> {
        if macro_op.micro_ops.is_empty() {
            return Some((from, [None; 2]));
        }
        let later = self.busy.iter().enumerate().skip(from);
        later.into_iter().find_map(|(cycle, busy)| {
            let mut ports = [None; 2];
            for (port, choice) in ports.iter_mut().zip(macro_op.micro_ops) {
                *port = Some(*choice.iter().find(|&&port| !busy[port])?);
            }
            Some((cycle, ports))
        })
    }
}

/// What became of a slot.
enum Issue {
    /// A macro-op took it.
    Done,
    /// The instruction was thrown away; another may have the slot.
    ThrownAway,
    /// The rest of the group stays empty.
    Stuck,
}

struct Generator<'a> {
    random: &'a mut BlakeGenerator,
    latency: usize,
    ports: Ports,
    registers: [Register; 8],
    /// The cycle in which the present group is decoded.
    cycle: usize,
    /// When the result of the last macro-op is there.
    previous_done: usize,
    /// Kept when complete, until the next one starts: the choice of a group looks at it.
    under_way: Option<Draft>,
    thrown_away: usize,
    multiplications: usize,
    /// Whether the target latency was reached or the ports are full until then.
    saturated: bool,
    instructions: Vec<Instruction>,
}

impl Generator<'_> {
    fn finished(&self) -> bool {
        self.saturated || self.instructions.len() >= max_instructions(self.latency)
    }

    /// The rules of specification 6.3.1.
    fn choose_group(&mut self, decode_cycle: usize) -> Group {
        let kind = self.under_way.map(|draft| draft.kind);
        if matches!(kind, Some(Kind::ImulhR | Kind::IsmulhR)) {
            GROUPS[5]
        } else if self.multiplications <= decode_cycle {
            MULTIPLICATIONS
        } else if kind == Some(Kind::ImulRcp) {
            if self.random.byte() & 1 == 1 { GROUPS[0] } else { GROUPS[3] }
        } else {
            GROUPS[usize::from(self.random.byte() & 3)]
        }
    }

    fn decode(&mut self, group: Group) {
        let mut slot = 0;
        while slot < group.len() {
            let mut draft = match self.under_way {
                Some(draft) if !draft.is_complete() => draft,
                _ if self.finished() => return,
                _ => Draft::for_slot(self.random, group, slot),
            };
            let issue = self.issue(&mut draft);
            self.under_way = Some(draft);
            match issue {
                Issue::Done => slot += 1,
                Issue::ThrownAway => {
                    // As good as complete, but it does not become part of the program.
                    draft.issued = draft.kind.recipe().macro_ops.len();
                    self.under_way = Some(draft);
                }
                Issue::Stuck => {
                    if !self.saturated {
                        self.under_way = None;
                    }
                    return;
                }
            }
        }
    }

    /// Issues the next macro-op of an instruction: finds a cycle for it, then operands that are ready by
    /// then or a little later, then a cycle again from there on. Waiting in vain takes the decoder's time;
    /// waiting with success does not.
    fn issue(&mut self, draft: &mut Draft) -> Issue {
        let recipe = draft.kind.recipe();
        let macro_op = &recipe.macro_ops[draft.issued];
        let decoded_in = self.cycle;
        let from = if macro_op.chained { self.cycle.max(self.previous_done) } else { self.cycle };
        let Some((mut start, _)) = self.ports.find(macro_op, from) else {
            self.saturated = true;
            return Issue::Stuck;
        };
        let needs_source = recipe.source_at == Some(draft.issued);
        if needs_source && !self.wait(&mut start, |generator, at| generator.choose_source(draft, at)) {
            return self.throw_away();
        }
        let needs_destination = recipe.destination_at == draft.issued;
        if needs_destination
            && !self.wait(&mut start, |generator, at| generator.choose_destination(draft, at))
        {
            return self.throw_away();
        }
        self.thrown_away = 0;

        let Some((start, ports)) = self.ports.find(macro_op, start) else {
            self.saturated = true;
            return Issue::Stuck;
        };
        for port in ports.into_iter().flatten() {
            self.ports.busy[start][port] = true;
        }
        self.previous_done = start + macro_op.latency;
        if recipe.result_at == draft.issued {
            let dst = draft.dst.expect("a destination is chosen no later than it is changed");
            self.registers[usize::from(dst)] =
                Register { ready: self.previous_done, last: Some((draft.kind.family(), draft.operand)) };
        }
        draft.issued += 1;
        self.cycle = decoded_in;
        if start >= self.latency {
            self.saturated = true;
        }
        if draft.is_complete() {
            self.finish(draft);
        }
        Issue::Done
    }

    /// Adds a complete instruction to the program.
    fn finish(&mut self, draft: &Draft) {
        let dst = draft.dst.expect("a complete instruction has a destination");
        let src = draft.src.unwrap_or(dst);
        let instruction = Instruction::new(draft.kind, dst, src, draft.modifier, draft.imm32);
        self.instructions.push(instruction);
        self.multiplications += usize::from(draft.kind.multiplies());
    }

    /// Tries `choose` at cycle `start`, then up to three cycles later; every failure moves both the
    /// macro-op and the decoder on by a cycle. Answers whether it succeeded.
    fn wait(&mut self, start: &mut usize, mut choose: impl FnMut(&mut Self, usize) -> bool) -> bool {
        for _ in 0..PATIENCE {
            if choose(self, *start) {
                return true;
            }
            *start += 1;
            self.cycle += 1;
        }
        false
    }

    fn throw_away(&mut self) -> Issue {
        if self.thrown_away < MAX_THROWN_AWAY {
            self.thrown_away += 1;
            Issue::ThrownAway
        } else {
            Issue::Stuck
        }
    }

    /// Any register whose value is ready. If an IADD_RS finds two, one of which is r5, that one is
    /// taken without a draw, because it cannot be the destination.
    fn choose_source(&mut self, draft: &mut Draft, cycle: usize) -> bool {
        let ready = self.registers_where(|_, register| register.ready <= cycle);
        draft.src = match ready.as_slice() {
            [a, b] if draft.kind == Kind::IaddRs && (*a == R5 || *b == R5) => Some(R5),
            _ => self.pick(&ready),
        };
        if draft.src.is_some() && !draft.may_square() {
            draft.operand = draft.src.map(u32::from);
        }
        draft.src.is_some()
    }

    /// The rules of specification 6.3.4. A second product in a row is allowed while instructions are
    /// being thrown away.
    fn choose_destination(&mut self, draft: &mut Draft, cycle: usize) -> bool {
        let family = draft.kind.family();
        let chained_products = self.thrown_away > 0;
        let fit = self.registers_where(|i, register| {
            register.ready <= cycle
                && (draft.may_square() || draft.src != Some(i))
                && (chained_products
                    || family != Kind::ImulR
                    || register.last.is_none_or(|(last, _)| last != Kind::ImulR))
                && register.last != Some((family, draft.operand))
                && (draft.kind != Kind::IaddRs || i != R5)
        });
        draft.dst = self.pick(&fit);
        draft.dst.is_some()
    }

    fn registers_where(&self, fits: impl Fn(u8, &Register) -> bool) -> Vec<u8> {
        (0..8).filter(|i| fits(*i, &self.registers[usize::from(*i)])).collect()
    }

    /// Draws one of several; takes an only one without a draw.
    fn pick(&mut self, registers: &[u8]) -> Option<u8> {
        match registers {
            [] => None,
            [only] => Some(*only),
            several => Some(several[self.random.word() as usize % several.len()]),
        }
    }
}
