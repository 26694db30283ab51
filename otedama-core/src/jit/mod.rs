//! Programs made into machine code at run time.

mod asm;
mod machines;
mod randomx_x86_64;
mod superscalar_x86_64;

pub use machines::{DatasetSource, Machines, MachinesError};
pub use superscalar_x86_64::ItemCode;
