//! Kernels: one folder per algorithm, in each a readable oracle and the fast forms tested against it.

pub mod ethash;
pub mod kawpow;
pub mod randomx;
pub mod scrypt;
pub mod sha256d;
