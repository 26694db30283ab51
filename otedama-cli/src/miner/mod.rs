//! What `mine` is made of.
//!
//! `plan` says what was asked for, `network` speaks to pools, `tally` counts, `status` is what the miner shows, `sensors` reads
//! devices, `api` answers programs that `guard` lets in, `view` is drawn on the `terminal`. The loop that holds them together is `cmd::mine`.

pub(crate) mod api;
mod guard;
pub(crate) mod network;
pub(crate) mod plan;
pub(crate) mod sensors;
pub(crate) mod status;
pub(crate) mod tally;
pub(crate) mod terminal;
mod view;
