//! A mining pool and the miner's side of it.
#![forbid(unsafe_code)]

pub mod config;
