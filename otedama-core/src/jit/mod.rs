//! Programs made into machine code at run time.
//!
//! ```text
//!   asm ---> superscalar_x86_64   a key's dataset item functions        ItemCode
//!    `-----> randomx_x86_64       a hash's programs                     Machines
//!
//!   vex ---> kawpow, kawpow_avx2, kawpow_avx512   a period's program    KawPowCode, KawPowKernel
//! ```
//!
//! Code is never writable and executable at one address ([`mem::exec`](crate::mem::exec)). Where such
//! memory or the AES instructions are not to be had, [`algo::randomx`](crate::algo::randomx) interprets:
//! it is also the oracle that everything here is tested against. A compiler for another processor would
//! be two more files beside the two here.

mod asm;
mod context;
mod kawpow;
mod kawpow_avx2;
mod kawpow_avx512;
mod kawpow_kernel;
mod machines;
mod randomx_x86_64;
mod superscalar_x86_64;
mod vex;

pub use kawpow::KawPowCode;
pub use kawpow_kernel::KawPowKernel;
pub use machines::{DatasetSource, Machines, MachinesError};
pub use superscalar_x86_64::ItemCode;
