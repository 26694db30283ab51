//! otedama-core
pub mod cpu;
pub mod primitive;
pub mod simd;
