//! `dag`: datasets kept on disk.

use std::time::Instant;

use otedama_core::algo::ethash::Params;
use otedama_core::builders::EthashBuilder;
use otedama_core::epoch::{Depth, EpochFile, EpochKey};
use serde_json::json;

use crate::args::{DagArgs, DagCommand, MachineArgs};
use crate::epochs::Epochs;
use crate::failure::{Failure, Outcome, usage, work};
use crate::machine::Machine;
use crate::{cmd, show};

pub(crate) fn run(command: &DagCommand, machine: &MachineArgs) -> Outcome {
    let machine = Machine::detect(machine);
    match command {
        DagCommand::Build(args) => build(args, &machine),
        DagCommand::Check(args) => check(args),
    }
}

fn build(args: &DagArgs, machine: &Machine) -> Outcome {
    let (key, _) = dataset(args)?;
    let epochs = Epochs::of(args.algorithm, machine).ok_or_else(|| no_dataset(args))?;
    let built = epochs.build(&key, Depth::Full, &*cmd::interrupt_flag()?)?;
    let full = built.epoch.full().ok_or_else(|| no_dataset(args))?;
    let bytes: &[u8] = &full.copies()[0].region;
    let path = EpochFile::write(&args.dir, &key, bytes).map_err(work)?;
    if args.json {
        let (path, seconds) = (path.display().to_string(), built.time.as_secs_f64());
        let report = json!({ "path": path, "bytes": bytes.len(), "seconds": seconds });
        return Ok(show::print_json(&report)?);
    }
    let (size, seconds) = (show::bytes(bytes.len() as u64), built.time.as_secs_f64());
    Ok(show::print_line(&format!("{}: {size}, built in {seconds:.1} s", path.display()))?)
}

fn check(args: &DagArgs) -> Outcome {
    let (key, bytes) = dataset(args)?;
    let begun = Instant::now();
    let path = EpochFile::path(&args.dir, &key);
    let file = EpochFile::open(&args.dir, &key, bytes).map_err(work)?;
    let file = file.ok_or_else(|| work(format!("there is no {}: build it first", path.display())))?;
    file.check().map_err(work)?;
    if args.json {
        return Ok(show::print_json(
            &json!({ "path": path.display().to_string(), "bytes": bytes, "valid": true }),
        )?);
    }
    let (size, seconds) = (show::bytes(bytes as u64), begun.elapsed().as_secs_f64());
    Ok(show::print_line(&format!("{}: {size}, intact, read in {seconds:.1} s", path.display()))?)
}

/// The dataset's key and size.
fn dataset(args: &DagArgs) -> Result<(EpochKey, usize), Failure> {
    let params = Params::of(args.algorithm).ok_or_else(|| no_dataset(args))?;
    let epoch = params.epoch(args.epoch).map_err(usage)?;
    Ok((EthashBuilder::key(&epoch), epoch.dataset_bytes() as usize))
}

fn no_dataset(args: &DagArgs) -> Failure {
    usage(format!("no files are kept for {}: expected ethash, etchash or kawpow", args.algorithm))
}
