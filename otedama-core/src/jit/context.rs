//! What of a machine lies in memory while compiled code runs it.

use super::asm::{Gpr, Mem};
use super::superscalar_x86_64::{SLOT_BYTES, Slot};
use crate::algo::randomx::config::{Params, Revision};
use crate::algo::randomx::float::{FRACTION, SCALE};
use crate::algo::randomx::program::Configuration;

/// What of a machine lies in memory.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Context {
    pub(super) e: [[u64; 2]; 4],
    pub(super) r: [u64; 8],
    pub(super) a: [[u64; 2]; 4],
    pub(super) e_bits: [u64; 2],
    /// The control register for each rounding mode.
    pub(super) mxcsr: [u32; 4],
    /// Where the next iteration reads, masked.
    pub(super) sp_addrs: [u32; 2],
    /// Unmasked.
    pub(super) ma: u32,
    /// Unmasked.
    pub(super) mx: u32,
    /// Four times the rounding mode: an offset into `mxcsr`.
    pub(super) mode: u32,
    /// The caller's control register.
    pub(super) host_mxcsr: u32,
    /// In light mode, the offset in `slots` of the next item; their length if none is left.
    pub(super) next_slot: u32,
    /// Where the last iteration of several machines has left f.
    pub(super) f_at: u32,
    /// With one machine only.
    pub(super) f: [[u64; 2]; 4],
    pub(super) e_keep: [u64; 2],
    pub(super) scale: [u64; 2],
    pub(super) slots: [Slot; 3],
}

/// Flush to zero, denormals are zero, all exceptions masked; bits 13 and 14 are the rounding mode.
const MXCSR: u32 = 0x9fc0;

impl Context {
    pub(super) fn new() -> Context {
        // What specification 4.3.2 leaves of a number: the fraction and four bits of the exponent.
        let e_keep = FRACTION | 0xf << 52;
        Context {
            e: [[0; 2]; 4],
            r: [0; 8],
            a: [[0; 2]; 4],
            e_bits: [0; 2],
            mxcsr: std::array::from_fn(|mode| MXCSR | (mode as u32) << 13),
            sp_addrs: [0; 2],
            ma: 0,
            mx: 0,
            mode: 0,
            host_mxcsr: 0,
            next_slot: 0,
            f_at: 0,
            f: [[0; 2]; 4],
            e_keep: [e_keep; 2],
            scale: [SCALE; 2],
            slots: [Slot::EMPTY; 3],
        }
    }

    /// Specification 4.6.1.
    pub(super) fn start(&mut self, params: &Params, configuration: &Configuration) {
        self.r = [0; 8];
        self.a = configuration.a;
        self.e_bits = configuration.e_bits;
        self.ma = configuration.ma;
        self.mx = configuration.mx;
        self.sp_addrs = [self.mx & params.line_mask(), self.ma & params.line_mask()];
        self.next_slot = slots(params) as u32 * SLOT_BYTES as u32;
    }
}

/// How many items light mode computes at a time: all those whose addresses are known.
pub(super) fn slots(params: &Params) -> usize {
    match params.revision {
        Revision::V1 => 2,
        Revision::V2 => 3,
    }
}

/// rbp points here, so that most of a context is within a byte's reach.
pub(super) const MIDDLE: usize = 128;

/// How far from the middle a field is.
macro_rules! field {
    ($field:ident) => {
        std::mem::offset_of!($crate::jit::context::Context, $field) as i32
            - $crate::jit::context::MIDDLE as i32
    };
}

/// A field of the context, or what is `disp` bytes behind.
pub(super) const fn context(field: i32, disp: usize) -> Mem {
    Mem::at(Gpr::Rbp, field + disp as i32)
}

pub(super) use field;
