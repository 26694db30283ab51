//! otedama-core
pub mod algo;
pub mod cpu;
pub mod primitive;
pub mod simd;
