//! otedama-core
pub mod algo;
pub mod algorithm;
pub mod cpu;
pub mod epoch;
pub mod mem;
pub mod primitive;
pub mod simd;
pub mod topology;
