//! Any line as either end's message of the three Ethash dialects: nothing panics, and what is read is
//! written so that it reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otedama_fuzz::reads_again;
use otedama_pool::stratum::Frame;
use otedama_pool::stratum::ethereum::{detect, eip1571, nicehash, proxy};

fuzz_target!(|line: &str| {
    reads_again::<proxy::MinerMessage>(line);
    reads_again::<nicehash::MinerMessage>(line);
    reads_again::<nicehash::PoolMessage>(line);
    reads_again::<eip1571::MinerMessage>(line);
    reads_again::<eip1571::PoolMessage>(line);
    match Frame::parse(line) {
        Ok(Frame::Call(call)) => {
            let _ = detect(&call);
        }
        Ok(Frame::Answer(answer)) => {
            let Ok(result) = answer.outcome else { return };
            if let Ok(work) = proxy::Work::read(&result) {
                assert_eq!(proxy::Work::read(&work.to_value()), Ok(work));
            }
            if let Ok(subscribed) = nicehash::Subscribed::read(&result) {
                assert_eq!(nicehash::Subscribed::read(&subscribed.to_value()), Ok(subscribed));
            }
            let _ = eip1571::Welcome::read(&result);
        }
        Err(_) => {}
    }
});
