//! The configuration of `mine` and `serve`: what may be said, and how what was said is found wrong.
//!
//! A file in YAML is read into [`Config`]; environment variables (`OTEDAMA__POOL__FEE_PERCENTAGE=2`) and
//! settings from the command line (`--set pool.fee_percentage=2`) are laid over it, in that order. Every
//! problem is told with its place: file, line and column, or the variable or setting. Values check
//! themselves when they are read ([`values`]), so a [`Config`] that exists is one that can be meant; what
//! concerns several keys is checked last ([`Config::check`]).

mod load;
mod sections;
pub mod values;

pub use load::{ConfigError, Overrides, load, parse};
pub use sections::*;
pub use values::Percent;
