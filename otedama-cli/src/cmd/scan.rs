//! `scan`: the nonces of a header whose hashes meet a target.

use std::io::{self, IsTerminal};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use otedama_core::algorithm::Input;
use otedama_core::engine::{Assignment, Event, NoMoreWork};
use otedama_core::epoch::Depth;
use otedama_core::job::JobError;
use otedama_core::{Engine, HashRate, Job, JobId, NonceRange, Share, Target};
use serde_json::{Value, json};

use crate::args::{MachineArgs, ScanArgs, ScanMode};
use crate::crew::{Crew, Wanted};
use crate::epochs::{self, Aside, Epochs};
use crate::failure::{Failure, Outcome, usage, work};
use crate::machine::Machine;
use crate::{cmd, show};

/// How many events the workers may be ahead of what is printed.
const EVENTS_AHEAD: usize = 1024;

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
    let wanted = Wanted::new(
        cpus,
        args.kernel.clone(),
        #[cfg(feature = "gpu")]
        &args.devices,
    )?;
    let interrupted = cmd::interrupt_flag()?;
    let epochs = job.epoch().and_then(|key| Epochs::of(key.algorithm, &machine)).map(Arc::new);
    let mut assignment = assignment;
    let mut epoch = None;
    if let (Some(key), Some(epochs)) = (job.epoch(), &epochs) {
        let depth = if args.mode == ScanMode::Full { Depth::Full } else { Depth::Light };
        let built = epochs.build_or_lighter(key, depth, &interrupted)?;
        assignment = assignment.with_epoch(Arc::clone(&built));
        epoch = Some(built);
    }
    let Crew { workers, names, config, .. } =
        Crew::gather(&machine, args.algorithm, &wanted, epoch.as_ref())?;
    // Bounded: where nearly everything is found, workers wait for the printer.
    let (events, inbox) = mpsc::sync_channel(EVENTS_AHEAD);
    let sink = move |event| {
        let _ = events.send(event);
    };
    let engine = Engine::start(config, workers, NoMoreWork, sink)?;
    let begun = Instant::now();
    engine.replace(assignment);
    // The dataset is built while the search is under way with the cache alone.
    let dataset = match (&epochs, job.epoch(), args.mode) {
        (Some(epochs), Some(&key), ScanMode::Auto) => Some(epochs.build_aside(key, Depth::Full)),
        _ => None,
    };
    let mut dataset = dataset.transpose()?;

    let bar = show::progress_bar(space.attempts(), names.clone());
    let mut finds = 0;
    let mut ending = loop {
        if interrupted.load(Ordering::Relaxed) {
            break Err(work("interrupted"));
        }
        match inbox.recv_timeout(Duration::from_millis(100)) {
            Ok(Event::Share { share, .. }) => {
                finds += 1;
                if let Err(failure) = bar.suspend(|| print_find(&share, &job, args)) {
                    break Err(failure);
                }
                if args.first {
                    break Ok(());
                }
            }
            Ok(Event::Refused { candidate, reason, .. }) => {
                break Err(work(format!("{names} claimed nonce {} wrongly: {reason}", candidate.nonce)));
            }
            Ok(Event::WorkerLost { reason, .. }) => {
                bar.suspend(|| eprintln!("a worker was lost: {reason}"));
            }
            Ok(Event::AllWorkersLost) => break Err(work("no worker is left")),
            Ok(Event::WorkerFailed { reason, pause, .. }) => {
                bar.suspend(|| eprintln!("{reason}; tried again in {} s", pause.as_secs()));
            }
            Ok(Event::WorkerHangs { .. }) => break Err(work("a worker hangs: its device does not answer")),
            Ok(Event::Idle) => match engine.stats().abandoned {
                0 => break Ok(()),
                left => break Err(work(format!("{left} attempts were lost with a worker: search again"))),
            },
            Ok(_) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            // The sink lives as long as the engine.
            Err(mpsc::RecvTimeoutError::Disconnected) => break Err(work("the engine ended early")),
        }
        if let Some(outcome) = dataset.as_ref().and_then(Aside::outcome) {
            dataset = None;
            match outcome {
                Ok(epoch) => engine.deepen(&epoch),
                Err(error) => bar.suspend(|| {
                    if let Some(epochs) = &epochs {
                        epochs.say_short(&error);
                    }
                }),
            }
        }
        let hashes = engine.stats().total_hashes();
        bar.set_position(hashes);
        let making = wanted.making();
        bar.set_message(match making.is_empty() {
            true => HashRate::new(hashes, begun.elapsed().as_secs_f64()).to_string(),
            false => making,
        });
    };
    bar.finish_and_clear();
    drop(dataset);
    let reader_left = |ending: &Outcome| ending.as_ref().is_err_and(Failure::is_broken_pipe);
    // The engine reports what it found while it comes to rest, and waits where the inbox is full; the
    // sink goes with the engine, which ends the loop.
    let stopping = thread::spawn(move || engine.stop());
    for event in inbox {
        if let Event::Share { share, .. } = event
            && !(args.first && finds > 0)
            && !reader_left(&ending)
        {
            finds += 1;
            ending = print_find(&share, &job, args).and(ending);
        }
    }
    let stats = stopping.join().map_err(|_| work("the engine panicked while it stopped"))?;
    if (io::stderr().is_terminal() || ending.is_err()) && !reader_left(&ending) {
        let (hashes, seconds) = (stats.total_hashes(), begun.elapsed().as_secs_f64());
        let rate = HashRate::new(hashes, seconds);
        eprintln!("{finds} found in {hashes} attempts, {seconds:.1} s, {rate} ({names})");
    }
    ending
}

fn job(args: &ScanArgs) -> Result<Job, Failure> {
    let target = match (args.target, args.difficulty) {
        (Some(target), _) => target,
        (None, Some(difficulty)) => Target::from_difficulty(args.algorithm, difficulty),
        (None, None) => return Err(usage("no target: expected --target HEX or --difficulty D")),
    };
    let (id, algorithm) = (JobId(0), args.algorithm);
    let (key, height) = epochs::era(algorithm, &args.era)?;
    let job = match algorithm.spec().input {
        Input::Sealed if args.version_mask.is_some() => Err(JobError::NothingToRoll { algorithm }),
        Input::Sealed => {
            Job::sealed(id, algorithm, cmd::hash256("header hash", &args.header)?, height, target)
        }
        _ => Job::blob(id, algorithm, &cmd::header(algorithm, &args.header)?, args.version_mask, target),
    };
    let job = job.map_err(usage)?;
    Ok(match key {
        Some(key) => job.with_epoch(key),
        None => job,
    })
}

fn print_find(share: &Share, job: &Job, args: &ScanArgs) -> Outcome {
    let version = share.version().or_else(|| job.version());
    let digest = share.digest().pow.to_raw_hex();
    if args.json {
        let mix = share.digest().mix.map(|mix| mix.to_raw_hex());
        let find = json!({ "nonce": share.nonce(), "version": version, "digest": digest });
        show::print_json(&with(find, "mix", mix))?;
    } else {
        let version = version.map_or(String::new(), |version| format!("  version {version:#010x}"));
        show::print_line(&format!("nonce {}{version}  digest {digest}", share.nonce()))?;
    }
    Ok(())
}

/// An object with one more field, if there is a value for it.
fn with(mut object: Value, name: &str, value: Option<String>) -> Value {
    if let Some(value) = value {
        object[name] = value.into();
    }
    object
}
