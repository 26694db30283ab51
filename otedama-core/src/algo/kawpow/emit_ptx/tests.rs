//! The text is run here, instruction by instruction as the PTX ISA describes them, and compared with the program's
//! own interpreter. What runs it shares nothing with what prints it.

use std::collections::HashMap;

use super::*;
use crate::algo::ethash::Full;
use crate::algo::kawpow::{Kiss99, L1Cache, LANES, Mix};

/// A template whose registers are named so that no two are mixed up.
fn template(copies: usize) -> String {
    let mix: String = (0..REGISTERS).map(|i| format!("%m{i} ")).collect();
    format!("before\n\tOTD_PERIOD {mix}%cache %copy %row0 %row1 %row2 %row3 {copies};\nafter\n")
}

/// A lane of a machine that knows the instructions of a period's block.
struct Lane<'a> {
    registers: HashMap<String, u32>,
    /// Shared memory from address 0.
    shared: &'a [u32],
}

impl Lane<'_> {
    fn value(&self, operand: &str) -> u32 {
        match operand.parse() {
            Ok(number) => number,
            Err(_) => *self
                .registers
                .get(operand)
                .unwrap_or_else(|| panic!("{operand} is read before it is written")),
        }
    }

    fn run(&mut self, block: &str) {
        for line in block.lines().map(str::trim) {
            let Some(instruction) = line.strip_suffix(';') else {
                assert!(["{", "}", ""].contains(&line), "not an instruction: {line}");
                continue;
            };
            let (name, operands) = instruction.split_once(' ').unwrap();
            let operands: Vec<&str> = operands.split(", ").collect();
            if name == ".reg" {
                assert_eq!(operands, [".b32 %otd_t", "%otd_u"]);
                continue;
            }
            let address = |text: &str| text.trim_start_matches('[').trim_end_matches(']').to_owned();
            let of = |i: usize| self.value(operands[i]);
            let count = operands.len();
            let result = match (name, count) {
                ("add.u32", 3) => of(1).wrapping_add(of(2)),
                ("mul.lo.u32", 3) => of(1).wrapping_mul(of(2)),
                ("mul.hi.u32", 3) => u32::try_from((u64::from(of(1)) * u64::from(of(2))) >> 32).unwrap(),
                // d = a * b + c, the low half of the product.
                ("mad.lo.u32", 4) => of(1).wrapping_mul(of(2)).wrapping_add(of(3)),
                ("min.u32", 3) => of(1).min(of(2)),
                ("and.b32", 3) => of(1) & of(2),
                ("or.b32", 3) => of(1) | of(2),
                ("xor.b32", 3) => of(1) ^ of(2),
                ("shl.b32", 3) => of(1).checked_shl(of(2)).unwrap_or(0),
                // The 64 bits b:a shifted by the count's low five bits: left, the upper half; right, the lower.
                ("shf.l.wrap.b32", 4) => {
                    let both = u64::from(of(2)) << 32 | u64::from(of(1));
                    (both << (of(3) & 31) >> 32) as u32
                }
                ("shf.r.wrap.b32", 4) => {
                    let both = u64::from(of(2)) << 32 | u64::from(of(1));
                    (both >> (of(3) & 31)) as u32
                }
                ("popc.b32", 2) => (0..32).filter(|bit| of(1) >> bit & 1 == 1).count() as u32,
                ("clz.b32", 2) => (0..32).rev().take_while(|bit| of(1) >> bit & 1 == 0).count() as u32,
                ("ld.shared.u32", 2) => {
                    let address = self.value(&address(operands[1]));
                    assert_eq!(address % 4, 0, "a word's address");
                    self.shared[address as usize / 4]
                }
                _ => panic!("not in this machine: {line}"),
            };
            let known = operands[0].starts_with("%m") || operands[0].starts_with("%otd_");
            assert!(known, "{line}: writes what is not its own");
            self.registers.insert(operands[0].to_owned(), result);
        }
    }
}

/// Runs a program once in all lanes, both ways.
fn compare(program: &Program, name: &str, l1: &L1Cache, copies: usize, random: &mut Kiss99) {
    // The cache starts some way into shared memory; word w of copy c stands at w * copies + c.
    const START: usize = 52;
    let mut shared = vec![0xdead_beef; START + L1_WORDS * copies];
    for (place, word) in shared[START..].iter_mut().enumerate() {
        *word = l1.words()[place / copies] ^ (place % copies) as u32;
    }
    let text = ptx_text(&template(copies), program).unwrap();
    let block = text.strip_prefix("before\n\t").unwrap().strip_suffix("\nafter\n").unwrap();

    let mut before = Mix([[0; LANES]; REGISTERS]);
    for word in before.0.iter_mut().flatten() {
        // Zeros and all ones among them: clz and shifts by multiples of 32 have their corners there.
        *word = match random.next() % 8 {
            0 => 0,
            1 => u32::MAX,
            2 => 1 << (random.next() % 32),
            _ => random.next(),
        };
    }
    let row: [[u8; 128]; 2] = std::array::from_fn(|_| std::array::from_fn(|_| random.next() as u8));
    let number = random.next() as usize % 64;
    let (words, _) = row.as_flattened().as_chunks::<4>();
    for lane in 0..LANES {
        // Each copy is another cache here, so that reading from the wrong one shows.
        let copy = lane % copies;
        let bytes: Vec<u8> = l1.words().iter().flat_map(|word| (word ^ copy as u32).to_le_bytes()).collect();
        let mut expected = before.clone();
        expected.run(program, &L1Cache::of(&Full::new(&bytes)), &row, number);

        let mut machine = Lane { registers: HashMap::new(), shared: &shared };
        for (i, register) in before.0.iter().enumerate() {
            machine.registers.insert(format!("%m{i}"), register[lane]);
        }
        machine.registers.insert("%cache".to_owned(), 4 * START as u32);
        machine.registers.insert("%copy".to_owned(), 4 * copy as u32);
        for i in 0..DAG_WORDS {
            let word = u32::from_le_bytes(words[(lane ^ number) % LANES * DAG_WORDS + i]);
            machine.registers.insert(format!("%row{i}"), word);
        }
        machine.run(block);
        for (i, register) in expected.0.iter().enumerate() {
            assert_eq!(
                machine.registers[&format!("%m{i}")],
                register[lane],
                "{name}: register {i}, lane {lane}"
            );
        }
    }
}

fn cache(random: &mut Kiss99) -> Box<L1Cache> {
    let memory: Vec<u8> = (0..4 * L1_WORDS).map(|_| random.next() as u8).collect();
    L1Cache::of(&Full::new(&memory))
}

#[test]
fn the_text_does_what_the_interpreter_does() {
    let mut random = Kiss99::of_words(7, 9);
    let l1 = cache(&mut random);
    let periods = (0..1000).chain([406_800, u64::from(u32::MAX), u64::MAX]);
    for (i, period) in periods.enumerate() {
        let copies = [1, 4, 8][i % 3];
        compare(&Program::of_period(period), &format!("period {period}"), &l1, copies, &mut random);
    }
}

#[test]
fn a_template_without_its_place_is_refused() {
    let program = Program::of_period(1);
    assert_eq!(ptx_text("ret;", &program), Err(TemplateError::Marks { found: 0 }));
    let twice = template(1) + &template(1);
    assert_eq!(ptx_text(&twice, &program), Err(TemplateError::Marks { found: 2 }));
    let short = template(1).replace("%row3 ", "");
    assert_eq!(ptx_text(&short, &program), Err(TemplateError::Operands { found: OPERANDS }));
    let number = template(1).replace("%m5 ", "5 ");
    assert_eq!(ptx_text(&number, &program), Err(TemplateError::Operands { found: OPERANDS + 1 }));
    assert!(ptx_text(&template(3), &program).is_err());
    assert!(ptx_text("OTD_PERIOD %r1", &program).is_err());
}
