//! The proof-of-work algorithms, one folder each.

pub mod sha256d;
