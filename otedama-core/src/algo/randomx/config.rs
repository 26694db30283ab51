//! The parameters of RandomX (specification 1.2) as data: one row for each variant that chains use.

use super::program::Opcode;
use crate::Algorithm;

/// The longest key in bytes: what the BlakeGenerator has room for (specification 3.5.1).
pub const MAX_KEY_BYTES: usize = 60;

/// One variant of RandomX. Sizes are in bytes and powers of two unless they say otherwise.
#[derive(Clone, Debug)]
pub struct Params {
    /// What miners call it, such as `rx/0`.
    pub name: &'static str,
    /// Which rules its virtual machine follows.
    pub revision: Revision,
    /// How the cache is filled.
    pub argon: ArgonParams,
    /// Cache items, and SuperscalarHash functions, that go into a dataset item.
    pub cache_accesses: usize,
    /// Cycles of the imagined CPU for which a SuperscalarHash function is made.
    pub superscalar_latency: usize,
    /// The part of the dataset that one program can reach.
    pub dataset_base_bytes: usize,
    /// How much further programs' parts may start: a multiple of 64.
    pub dataset_extra_bytes: usize,
    /// Instructions in a program: a multiple of 8, for the generator fills 64 bytes at a time.
    pub program_size: usize,
    /// How often a program's loop runs: any number.
    pub program_iterations: usize,
    /// Programs in a hash: any number.
    pub program_count: usize,
    /// The scratchpad's levels L1, L2 and L3; L3 is all of it.
    pub scratchpad: [usize; 3],
    /// Bits of a register that decide a branch: at least 1, or a branch would be taken forever.
    pub jump_bits: u32,
    /// The lowest bit that may be among them.
    pub jump_offset: u32,
    /// The round keys of AesGenerator4R (specification 3.3): four for columns 0 and 1, four for 2 and 3.
    pub generator_4r_keys: [[u128; 4]; 2],
    /// Which instruction each of the 256 opcodes is.
    pub opcodes: [Opcode; 256],
}

/// The rules that are more than a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// 2019: the dataset is prefetched one iteration ahead, CFROUND always acts, F and E are mixed by xor.
    V1,
    /// 2026: two iterations ahead, CFROUND acts one time in sixteen, F and E are mixed by AES rounds.
    V2,
}

/// How Argon2d fills the cache (specification 7.1).
#[derive(Clone, Copy, Debug)]
pub struct ArgonParams {
    /// Blocks of 1024 bytes.
    pub memory_kib: u32,
    /// Passes over them.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
    /// The salt; the key is the password.
    pub salt: &'static [u8],
}

/// A level of the scratchpad, each of which contains those before it (specification 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The first 16 KiB.
    L1 = 0,
    /// The first 128 or 256 KiB.
    L2 = 1,
    /// The whole.
    L3 = 2,
}

impl Params {
    /// All variants.
    pub const ALL: [&'static Params; 7] = [&RX_0, &RX_2, &RX_WOW, &RX_ARQ, &RX_XEQ, &RX_GRAFT, &RX_KEVA];

    /// The variant behind an algorithm of the library, if that is RandomX at all.
    pub fn of(algorithm: Algorithm) -> Option<&'static Params> {
        match algorithm {
            Algorithm::RandomXV1 => Some(&RX_0),
            Algorithm::RandomXV2 => Some(&RX_2),
            _ => None,
        }
    }

    /// The variant of a name such as `rx/0`.
    pub fn named(name: &str) -> Option<&'static Params> {
        Params::ALL.into_iter().find(|params| params.name == name)
    }

    /// A variant of the same rules whose dataset and scratchpad are small and whose loop is short: no chain
    /// uses it, but machines can be tried on it in no time.
    pub fn sample(&self) -> &'static Params {
        match self.revision {
            Revision::V1 => &SAMPLE_V1,
            Revision::V2 => &SAMPLE_V2,
        }
    }

    /// The size of the cache.
    pub const fn cache_bytes(&self) -> usize {
        self.argon.memory_kib as usize * 1024
    }

    /// The size of the dataset.
    pub const fn dataset_bytes(&self) -> usize {
        self.dataset_base_bytes + self.dataset_extra_bytes
    }

    /// How many items the dataset has.
    pub const fn dataset_items(&self) -> u64 {
        self.dataset_bytes() as u64 / 64
    }

    /// The size of the scratchpad.
    pub const fn scratchpad_bytes(&self) -> usize {
        self.scratchpad[Level::L3 as usize]
    }

    /// The bits of an address that choose one of a level's aligned 8-byte words (specification, 4.2.1).
    pub const fn word_mask(&self, level: Level) -> u32 {
        (self.scratchpad[level as usize] as u32 - 1) & !7
    }

    /// The bits of an address that choose one of the scratchpad's aligned 64-byte lines.
    pub const fn line_mask(&self) -> u32 {
        (self.scratchpad_bytes() as u32 - 1) & !63
    }

    /// The bits of `ma` or `mx` that choose one of the lines that a program can reach in the dataset.
    pub const fn dataset_mask(&self) -> u32 {
        (self.dataset_base_bytes as u32 - 1) & !63
    }

    /// How many lines into the dataset a program's part may start, plus one.
    pub const fn dataset_starts(&self) -> u64 {
        self.dataset_extra_bytes as u64 / 64 + 1
    }

    /// The bytes that make a program: its configuration and its instructions (specification 4.5).
    pub const fn program_bytes(&self) -> usize {
        128 + 8 * self.program_size
    }

    /// What the code takes for granted of any row.
    const fn check(&self) {
        let [l1, l2, l3] = self.scratchpad;
        assert!(l1.is_power_of_two() && l2.is_power_of_two() && l3.is_power_of_two());
        assert!(64 <= l1 && l1 <= l2 && l2 <= l3 && l3 <= 1 << 31);
        assert!(self.dataset_base_bytes.is_power_of_two() && self.dataset_base_bytes <= 1 << 31);
        assert!(self.dataset_extra_bytes.is_multiple_of(64));
        assert!((self.cache_bytes() / 64).is_power_of_two());
        assert!(self.program_size <= 1 << 15 && self.program_size.is_multiple_of(8));
        assert!(self.jump_bits > 0 && self.jump_offset + 15 + self.jump_bits <= 64);
    }
}

const _: () = {
    let mut i = 0;
    while i < Params::ALL.len() {
        Params::ALL[i].check();
        i += 1;
    }
};

/// Monero since 2019: the specification's defaults, and what the other rows are told apart from.
const DEFAULTS: Params = Params {
    name: "rx/0",
    revision: Revision::V1,
    argon: ArgonParams { memory_kib: 262144, passes: 3, lanes: 1, salt: b"RandomX\x03" },
    cache_accesses: 8,
    superscalar_latency: 170,
    dataset_base_bytes: 1 << 31,
    dataset_extra_bytes: 33554368,
    program_size: 256,
    program_iterations: 2048,
    program_count: 8,
    scratchpad: [16 << 10, 256 << 10, 2 << 20],
    jump_bits: 8,
    jump_offset: 8,
    generator_4r_keys: [
        [
            0xddaa2164_db3d83d1_2b6d542f_3fd2e599_u128.swap_bytes(),
            0x50340eb2_553f91b6_539df706_e5cddfa5_u128.swap_bytes(),
            0x04d93e5c_af7b5e51_9f67a40a_bf021c17_u128.swap_bytes(),
            0x63376285_085d8fe7_853767cd_91d2ded8_u128.swap_bytes(),
        ],
        [
            0x736f82b5_a6a7d6e3_6d8b513d_b4ff9e22_u128.swap_bytes(),
            0xf36b56c7_d9b3109c_4e4d02e9_d2b772b2_u128.swap_bytes(),
            0xe7c973f2_8ba365f7_0a66a92b_a7ef3bf6_u128.swap_bytes(),
            0x09d67c7a_de395891_fdd1060c_2d76b0c0_u128.swap_bytes(),
        ],
    ],
    opcodes: opcodes(&FREQUENCIES),
};

/// Monero since 2019.
pub static RX_0: Params = DEFAULTS;

/// The revision of 2026 (design_v2 of the specification).
pub static RX_2: Params = Params { name: "rx/2", revision: Revision::V2, program_size: 384, ..DEFAULTS };

const SAMPLE: Params = Params {
    name: "sample",
    argon: ArgonParams { memory_kib: 64, ..DEFAULTS.argon },
    dataset_base_bytes: 64 << 10,
    dataset_extra_bytes: 64 * 3,
    program_iterations: 64,
    program_count: 4,
    scratchpad: [16 << 10, 32 << 10, 64 << 10],
    ..DEFAULTS
};

static SAMPLE_V1: Params = SAMPLE;

static SAMPLE_V2: Params = Params { revision: Revision::V2, program_size: RX_2.program_size, ..SAMPLE };

/// Wownero's RandomWOW.
pub static RX_WOW: Params = Params {
    name: "rx/wow",
    argon: ArgonParams { salt: b"RandomWOW\x01", ..DEFAULTS.argon },
    program_iterations: 1024,
    program_count: 16,
    scratchpad: [16 << 10, 128 << 10, 1 << 20],
    generator_4r_keys: [WOW_KEYS, WOW_KEYS],
    opcodes: opcodes(&[
        (Opcode::IaddRs, 25),
        (Opcode::IaddM, 7),
        (Opcode::IsubR, 16),
        (Opcode::IsubM, 7),
        (Opcode::ImulR, 16),
        (Opcode::ImulM, 4),
        (Opcode::ImulhR, 4),
        (Opcode::ImulhM, 1),
        (Opcode::IsmulhR, 4),
        (Opcode::IsmulhM, 1),
        (Opcode::ImulRcp, 8),
        (Opcode::InegR, 2),
        (Opcode::IxorR, 15),
        (Opcode::IxorM, 5),
        (Opcode::IrorR, 10),
        (Opcode::IrolR, 0),
        (Opcode::IswapR, 4),
        (Opcode::FswapR, 8),
        (Opcode::FaddR, 20),
        (Opcode::FaddM, 5),
        (Opcode::FsubR, 20),
        (Opcode::FsubM, 5),
        (Opcode::FscalR, 6),
        (Opcode::FmulR, 20),
        (Opcode::FdivM, 4),
        (Opcode::FsqrtR, 6),
        (Opcode::Cbranch, 16),
        (Opcode::Cfround, 1),
        (Opcode::Istore, 16),
    ]),
    ..DEFAULTS
};

const WOW_KEYS: [u128; 4] = [
    0xcf359e95_141f82b7_7ffbe4a6_f890465d,
    0x6741ffdc_bd5c5ac3_fee8278a_6a55c450,
    0x3d324aac_a7279ad2_d524fde4_114c47a4,
    0x76f6db08_42d3dbd9_99a9aeff_810c3a2a,
];

/// ArQmA's RandomARQ.
pub static RX_ARQ: Params = ARQ;

/// Equilibria's: RandomARQ with another salt.
pub static RX_XEQ: Params =
    Params { name: "rx/xeq", argon: ArgonParams { salt: b"RandomXEQ\x01", ..ARQ.argon }, ..ARQ };

const ARQ: Params = Params {
    name: "rx/arq",
    argon: ArgonParams { passes: 1, salt: b"RandomARQ\x01", ..DEFAULTS.argon },
    program_iterations: 1024,
    program_count: 4,
    scratchpad: [16 << 10, 128 << 10, 256 << 10],
    ..DEFAULTS
};

/// Graft's.
pub static RX_GRAFT: Params = Params {
    name: "rx/graft",
    argon: ArgonParams { lanes: 2, salt: b"RandomX-Graft\x01", ..DEFAULTS.argon },
    program_size: 280,
    opcodes: {
        let mut frequencies = FREQUENCIES;
        frequencies[Opcode::IrorR as usize].1 = 7;
        frequencies[Opcode::IrolR as usize].1 = 3;
        opcodes(&frequencies)
    },
    ..DEFAULTS
};

/// Kevacoin's RandomKEVA.
pub static RX_KEVA: Params = Params {
    name: "rx/keva",
    argon: ArgonParams { salt: b"RandomKV\x01", ..DEFAULTS.argon },
    scratchpad: [16 << 10, 128 << 10, 1 << 20],
    ..DEFAULTS
};

/// How many of the 256 opcodes each instruction has, in the order of its opcodes (specification,
/// tables 5.2.1, 5.3.1, 5.4.1 and 5.5.1).
const FREQUENCIES: [(Opcode, usize); 29] = [
    (Opcode::IaddRs, 16),
    (Opcode::IaddM, 7),
    (Opcode::IsubR, 16),
    (Opcode::IsubM, 7),
    (Opcode::ImulR, 16),
    (Opcode::ImulM, 4),
    (Opcode::ImulhR, 4),
    (Opcode::ImulhM, 1),
    (Opcode::IsmulhR, 4),
    (Opcode::IsmulhM, 1),
    (Opcode::ImulRcp, 8),
    (Opcode::InegR, 2),
    (Opcode::IxorR, 15),
    (Opcode::IxorM, 5),
    (Opcode::IrorR, 8),
    (Opcode::IrolR, 2),
    (Opcode::IswapR, 4),
    (Opcode::FswapR, 4),
    (Opcode::FaddR, 16),
    (Opcode::FaddM, 5),
    (Opcode::FsubR, 16),
    (Opcode::FsubM, 5),
    (Opcode::FscalR, 6),
    (Opcode::FmulR, 32),
    (Opcode::FdivM, 4),
    (Opcode::FsqrtR, 6),
    (Opcode::Cbranch, 25),
    (Opcode::Cfround, 1),
    (Opcode::Istore, 16),
];

/// Deals out the opcodes from 0 on. That they are 256 is checked when the crate is compiled.
const fn opcodes(frequencies: &[(Opcode, usize); 29]) -> [Opcode; 256] {
    let mut table = [Opcode::IaddRs; 256];
    let (mut next, mut row) = (0, 0);
    while row < frequencies.len() {
        let mut left = frequencies[row].1;
        while left > 0 {
            table[next] = frequencies[row].0;
            next += 1;
            left -= 1;
        }
        row += 1;
    }
    assert!(next == 256, "the frequencies must add up to 256");
    table
}
