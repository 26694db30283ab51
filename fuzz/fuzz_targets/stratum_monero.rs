//! Any line as either end's message of Monero's stratum, and any blob as work: nothing panics, what is read
//! is written so that it reads the same, and a target means the same in both its forms.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otedama_core::{Algorithm, Hash256, JobId};
use otedama_fuzz::reads_again;
use otedama_pool::stratum::Frame;
use otedama_pool::stratum::monero::{LoggedIn, MinerMessage, PoolMessage};
use otedama_pool::work::monero;

fuzz_target!(|line: &str| {
    reads_again::<MinerMessage>(line);
    reads_again::<PoolMessage>(line);
    if let Ok(Frame::Answer(answer)) = Frame::parse(line)
        && let Ok(result) = answer.outcome
        && let Ok(logged_in) = LoggedIn::read(&result)
    {
        assert_eq!(LoggedIn::read(&logged_in.to_value()).as_ref(), Ok(&logged_in));
        let (job, seed) = (&logged_in.job, Hash256::from_raw([0; 32]));
        let target = job.target.to_target();
        assert_eq!(target.to_be_bytes()[..8], (job.target.target64() - 1).to_be_bytes());
        let made = monero::job(JobId(0), Algorithm::RandomXV1, &job.blob, &seed, target);
        assert!(made.is_err() || monero::nonce_in(&job.blob).is_ok());
    }
});
