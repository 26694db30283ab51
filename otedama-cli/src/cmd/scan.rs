//! `scan`: the nonces of a header whose hashes meet a target.

use std::io::{self, IsTerminal};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use otedama_core::engine::{Assignment, EngineConfig, Event, NoMoreWork, WorkerConfig};
use otedama_core::{Engine, HashRate, Job, JobId, NonceRange, Share, Target, Verifier, scan};
use serde_json::json;

use crate::args::{MachineArgs, ScanArgs};
use crate::failure::{Failure, Outcome, usage, work};
use crate::machine::Machine;
use crate::{cmd, show};

pub(crate) fn run(args: &ScanArgs, machine: &MachineArgs) -> Outcome {
    let machine = Machine::detect(machine);
    let job = Arc::new(job(args)?);
    let mut space = job.space();
    space.nonces = NonceRange {
        start: args.start,
        count: args.count.unwrap_or(space.nonces.count.saturating_sub(args.start).max(1)),
    };
    let assignment = Assignment::part(Arc::clone(&job), space).map_err(usage)?;
    let cpus = machine.worker_cpus(args.threads, &args.cpus)?;
    let kernel = machine.kernel(args.algorithm, args.kernel.as_deref())?;

    let workers = cpus.iter().map(|&cpu| {
        let setup = machine.setup.clone();
        let verifier = Verifier::new(kernel, setup.clone());
        WorkerConfig { cpu, make: Box::new(move || Ok((kernel.scanner(&setup)?, verifier.worker()?))) }
    });
    let (events, inbox) = mpsc::channel();
    let interrupts = events.clone();
    cmd::on_interrupt(move || {
        // The receiver is gone only when the scan is over.
        let _ = interrupts.send(Message::Interrupted);
    })?;
    let sink = move |event| {
        let _ = events.send(Message::Engine(event));
    };
    let engine = Engine::start(EngineConfig::default(), workers.collect(), NoMoreWork, sink)?;
    let begun = Instant::now();
    engine.replace(assignment);

    let bar = show::progress_bar(space.attempts(), kernel.name().to_owned());
    let mut finds = 0;
    let ending = loop {
        match inbox.recv_timeout(Duration::from_millis(100)) {
            Ok(Message::Engine(Event::Share { share, .. })) => {
                finds += 1;
                bar.suspend(|| print_find(&share, &job, args))?;
                if args.first {
                    break Ok(());
                }
            }
            Ok(Message::Engine(Event::Refused { candidate, reason, .. })) => {
                break Err(work(format!(
                    "kernel {} claimed nonce {} wrongly: {reason}",
                    kernel.name(),
                    candidate.nonce
                )));
            }
            Ok(Message::Engine(Event::WorkerLost { reason, .. })) => {
                break Err(work(format!("a worker was lost: {reason}")));
            }
            Ok(Message::Engine(Event::Idle)) => break Ok(()),
            Ok(Message::Interrupted) => break Err(work("interrupted")),
            Ok(Message::Engine(_)) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            // The sink lives as long as the engine.
            Err(mpsc::RecvTimeoutError::Disconnected) => break Err(work("the engine ended early")),
        }
        let hashes = engine.stats().total_hashes();
        bar.set_position(hashes);
        bar.set_message(HashRate::new(hashes, begun.elapsed().as_secs_f64()).to_string());
    };
    bar.finish_and_clear();
    let stats = engine.stop();
    // What was found while the engine came to rest.
    if !args.first || finds == 0 {
        for message in inbox.try_iter() {
            if let Message::Engine(Event::Share { share, .. }) = message {
                finds += 1;
                print_find(&share, &job, args)?;
            }
        }
    }
    if io::stderr().is_terminal() || ending.is_err() {
        let (hashes, seconds) = (stats.total_hashes(), begun.elapsed().as_secs_f64());
        let rate = HashRate::new(hashes, seconds);
        eprintln!("{finds} found in {hashes} attempts, {seconds:.1} s, {rate} ({})", kernel.name());
    }
    ending
}

enum Message {
    Engine(Event),
    Interrupted,
}

fn job(args: &ScanArgs) -> Result<Job, Failure> {
    if scan::kernels(args.algorithm).next().is_none() {
        return Err(usage(format!("cannot scan {}: this version has no kernel for it", args.algorithm)));
    }
    let header = hex::decode(&args.header).map_err(|error| match error {
        hex::FromHexError::OddLength => {
            usage(format!("header has {} digits: expected 160", args.header.len()))
        }
        error => usage(format!("header is not hexadecimal: {error}; expected 160 hex digits")),
    })?;
    let target = match (args.target, args.difficulty) {
        (Some(target), _) => target,
        (None, Some(difficulty)) => Target::from_difficulty(args.algorithm, difficulty),
        (None, None) => return Err(usage("no target: expected --target HEX or --difficulty D")),
    };
    Job::blob(JobId(0), args.algorithm, &header, args.version_mask, target).map_err(usage)
}

fn print_find(share: &Share, job: &Job, args: &ScanArgs) -> Outcome {
    let version = share.version().or_else(|| job.version());
    let digest = share.digest().pow.to_raw_hex();
    if args.json {
        show::print_json(&json!({ "nonce": share.nonce(), "version": version, "digest": digest }))?;
    } else {
        show::print_line(&format!(
            "nonce {}  version {:#010x}  digest {digest}",
            share.nonce(),
            version.unwrap_or(0)
        ))?;
    }
    Ok(())
}
