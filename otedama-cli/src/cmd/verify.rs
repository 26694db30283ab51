//! `verify`: whether one claim is a share.

use std::sync::Arc;

use otedama_core::algorithm::Input;
use otedama_core::epoch::Depth;
use otedama_core::verify::{Claim, Reject};
use otedama_core::{Candidate, Hash256, Job, JobId, Target, Verifier, scan};
use serde_json::json;

use crate::args::{MachineArgs, VerifyArgs};
use crate::epochs::{self, Epochs};
use crate::failure::{Failure, Outcome, usage, work};
use crate::machine::Machine;
use crate::{cmd, show};

pub(crate) fn run(args: &VerifyArgs, machine: &MachineArgs) -> Outcome {
    let machine = Machine::detect(machine);
    let (job, candidate) = claimed(args)?;
    let mix = args.mix.as_deref().map(|digits| cmd::hash256("mix hash", digits)).transpose()?;
    let pow = args.hash.as_deref().map(|digits| cmd::hash256("hash", digits)).transpose()?;
    let claim = Claim { job: &job, candidate, mix: mix.as_ref(), pow: pow.as_ref() };

    let kernel = scan::prover(args.algorithm, &machine.setup)?;
    let mut worker = Verifier::new(kernel, machine.setup.clone()).worker()?;
    // Without the epoch's memory first: a claim that refutes itself needs none.
    let mut verdict = worker.check(&claim, None);
    if let (Err(Reject::Hash(_)), Some(key)) = (&verdict, job.epoch())
        && let Some(epochs) = Epochs::of(key.algorithm, &machine)
    {
        let epoch = epochs.build(key, Depth::Light, &*cmd::interrupt_flag()?)?.epoch;
        verdict = worker.check(&claim, Some(&epoch));
    }
    let digest = verdict.as_ref().ok().map(|share| share.digest());
    if args.json {
        show::print_json(&json!({
            "algorithm": args.algorithm.name(),
            "valid": verdict.is_ok(),
            "digest": digest.map(|digest| digest.pow.to_raw_hex()),
            "mix": digest.and_then(|digest| digest.mix).map(|mix| mix.to_raw_hex()),
            "reason": verdict.as_ref().err().map(ToString::to_string),
        }))?;
    } else if let Some(digest) = digest {
        show::print_line(&format!("valid: digest {}", digest.pow.to_raw_hex()))?;
    }
    verdict.map(|_| ()).map_err(|reason| work(format!("not a share: {reason}")))
}

/// The job and the candidate that the arguments claim.
fn claimed(args: &VerifyArgs) -> Result<(Arc<Job>, Candidate), Failure> {
    let algorithm = args.algorithm;
    let target = match (args.target, args.difficulty) {
        (Some(target), _) => target,
        (None, Some(difficulty)) => Target::from_difficulty(algorithm, difficulty),
        (None, None) => return Err(usage("no target: expected --target HEX or --difficulty D")),
    };
    let (key, height) = epochs::era(algorithm, &args.era)?;
    let (job, nonce) = match (algorithm.spec().input, args.nonce) {
        (Input::Sealed, Some(nonce)) => {
            let header_hash: Hash256 = cmd::hash256("header hash", &args.header)?;
            (Job::sealed(JobId(0), algorithm, header_hash, height, target).map_err(usage)?, nonce)
        }
        (Input::Sealed, None) => {
            return Err(usage(format!("{algorithm} needs --nonce HEX beside the header's hash")));
        }
        (_, Some(_)) => {
            return Err(usage(format!("{algorithm} has its nonce in the header: leave --nonce out")));
        }
        (input, None) => {
            let header = cmd::header(algorithm, &args.header)?;
            let job = Job::blob(JobId(0), algorithm, &header, None, target).map_err(usage)?;
            // A job was made of it, so the nonce is there.
            let nonce = input.nonce_slot().map_or(0, |slot| {
                let mut bytes = [0; 8];
                bytes[..slot.width].copy_from_slice(&header[slot.offset..][..slot.width]);
                u64::from_le_bytes(bytes)
            });
            (job, nonce)
        }
    };
    let job = match key {
        Some(key) => job.with_epoch(key),
        None => job,
    };
    Ok((Arc::new(job), Candidate { nonce, version: None }))
}
