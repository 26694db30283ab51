//! The proof-of-work algorithms, a module each.

pub mod scrypt;
