//! Any line as either end's message of Bitcoin-style stratum: nothing panics, and what is read is written
//! so that it reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otedama_fuzz::reads_again;
use otedama_pool::stratum::Frame;
use otedama_pool::stratum::bitcoin::{Configured, MinerMessage, PoolMessage, Subscribed};

fuzz_target!(|line: &str| {
    reads_again::<MinerMessage>(line);
    reads_again::<PoolMessage>(line);
    if let Ok(Frame::Answer(answer)) = Frame::parse(line)
        && let Ok(result) = answer.outcome
    {
        if let Ok(subscribed) = Subscribed::read(&result) {
            let back = Subscribed::read(&subscribed.to_value());
            assert_eq!(back.map(|back| back.extranonce), Ok(subscribed.extranonce));
        }
        let _ = Configured::read(&result);
    }
});
