//! The engine under scanners that behave and scanners that do not: nothing is lost, nothing is done
//! twice, and nothing that happens to one worker stops the others.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use common::*;
use otedama_core::engine::{
    Assignment, Engine, EngineConfig, EngineError, Event, NoMoreWork, WorkSource, WorkerConfig,
};
use otedama_core::epoch::{
    Cancelled, Chunks, Depth, EpochBuilder, EpochKey, EpochStore, Placement, Progress, StoreConfig,
};
use otedama_core::mem::PageSet;
use otedama_core::scan::{ScanEnd, ScanError, Scanned, Setup, kernels};
use otedama_core::topology::CpuId;
use otedama_core::{Algorithm, Candidate, JobId, NonceRange, SearchSpace, VersionRange};

/// Hands out these, one after the other.
struct Queue(Vec<Assignment>, Arc<AtomicU64>);

impl WorkSource for Queue {
    fn next(&mut self) -> Option<Assignment> {
        self.1.fetch_add(1, Ordering::Relaxed);
        if self.0.is_empty() { None } else { Some(self.0.remove(0)) }
    }
}

/// Slices of as few attempts as possible.
fn tiny_slices() -> EngineConfig {
    EngineConfig { slice: Duration::ZERO, versions_per_slice: 3, retries: 0, ..EngineConfig::default() }
}

#[test]
fn every_attempt_is_handed_out_exactly_once_whatever_the_number_of_workers() {
    let space = SearchSpace {
        nonces: NonceRange { start: (1 << 32) - 1003, count: 1003 },
        versions: VersionRange { start: 5, count: 7 },
    };
    for workers in [1, 2, 5] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let workers = (0..workers).map(|_| {
            let seen = Arc::clone(&seen);
            fake(move |_, space, _, _| {
                seen.lock().unwrap().push(*space);
                done(space)
            })
        });
        let (sink, events) = mailbox();
        let engine = Engine::start(tiny_slices(), workers.collect(), NoMoreWork, sink).unwrap();
        engine.replace(Assignment::part(rolling_job(1), space).unwrap());
        wait_for(&events, is_idle);
        let stats = engine.stop();
        assert_eq!(stats.total_hashes(), space.attempts());
        assert_eq!(stats.abandoned, 0);

        let mut times = vec![0; 1003 * 7];
        for slice in seen.lock().unwrap().iter() {
            assert!(slice.versions.count <= 3);
            for nonce in slice.nonces.start..slice.nonces.start + slice.nonces.count {
                for version in slice.versions.start..slice.versions.start + slice.versions.count {
                    times[(nonce - space.nonces.start) as usize * 7 + (version - 5) as usize] += 1;
                }
            }
        }
        assert!(times.iter().all(|&times| times == 1));
    }
}

#[test]
fn real_kernels_count_exactly_and_their_shares_are_proven() {
    let setup = Setup::detect();
    let space = SearchSpace {
        nonces: NonceRange { start: (1 << 32) - 20_011, count: 20_011 },
        versions: VersionRange { start: 0, count: 70 },
    };
    let job = job(7, Some(BIP320), one_in(1 << 14));
    let mut shares = Vec::new();
    for kernel in kernels(Algorithm::Sha256d).filter(|kernel| kernel.runs_on(&setup.cpu)) {
        let workers = (0..2).map(|_| {
            let setup = setup.clone();
            WorkerConfig { cpu: None, make: Box::new(move || Ok((kernel.scanner(&setup)?, proves()))) }
        });
        let (sink, events) = mailbox();
        let engine = Engine::start(EngineConfig::default(), workers.collect(), NoMoreWork, sink).unwrap();
        engine.replace(Assignment::part(Arc::clone(&job), space).unwrap());
        let mut found: Vec<_> = wait_for(&events, is_idle)
            .into_iter()
            .filter_map(|event| match event {
                Event::Share { share, .. } => Some((share.nonce(), share.version())),
                other => {
                    assert!(matches!(other, Event::Idle), "{other:?}");
                    None
                }
            })
            .collect();
        let stats = engine.stop();
        assert_eq!(stats.total_hashes(), space.attempts(), "{}", kernel.name());
        assert_eq!(stats.shares, found.len() as u64);
        assert_eq!((stats.refused, stats.stale, stats.abandoned), (0, 0, 0));
        found.sort_unstable();
        shares.push(found);
    }
    assert!(shares[0].len() > 20);
    assert!(shares.iter().all(|found| *found == shares[0]), "kernels differ in what they find");
}

#[test]
fn a_source_is_asked_when_work_is_used_up_and_idleness_is_reported_once() {
    let asked = Arc::new(AtomicU64::new(0));
    let queue = (1..=3).map(|id| assignment(id, 1000)).collect();
    let (sink, events) = mailbox();
    let workers = (0..3).map(|_| fake(|_, space, _, _| done(space))).collect();
    let engine =
        Engine::start(EngineConfig::default(), workers, Queue(queue, Arc::clone(&asked)), sink).unwrap();
    wait_for(&events, is_idle);
    assert_eq!(engine.stats().total_hashes(), 3000);
    assert!(asked.load(Ordering::Relaxed) >= 4, "the source was not asked after it ran dry");
    assert!(events.recv_timeout(Duration::from_millis(100)).is_err(), "more than one report");

    // New work ends the idleness; using it up is reported again.
    engine.update(assignment(4, 500));
    wait_for(&events, is_idle);
    assert!(events.recv_timeout(Duration::from_millis(100)).is_err(), "more than one report");
    assert_eq!(engine.stop().total_hashes(), 3500);
}

#[test]
fn replaced_work_stops_and_what_it_found_is_stale() {
    let (begun, has_begun) = mpsc::channel();
    let worker = fake(move |job, space, stop, found| {
        found.push(Candidate { nonce: space.nonces.start, version: None }).unwrap();
        if job.id() == JobId(2) {
            return done(space);
        }
        begun.send(()).unwrap();
        while !stop.is_raised() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Scanned { tried: 1, end: ScanEnd::Stopped })
    });
    let (sink, events) = mailbox();
    let engine = Engine::start(tiny_slices(), vec![worker], NoMoreWork, sink).unwrap();
    engine.replace(assignment(1, 1 << 32));
    has_begun.recv_timeout(PATIENCE).unwrap();
    engine.replace(assignment(2, 8));
    let events = wait_for(&events, is_idle);
    let stats = engine.stop();
    assert_eq!((stats.stale, stats.shares, stats.refused), (1, 1, 0));
    assert_eq!(stats.total_hashes(), 1 + 8);
    assert_eq!(share_jobs(&events), [JobId(2)]);
}

#[test]
fn updated_work_lets_the_shares_of_the_old_count() {
    let (begun, has_begun) = mpsc::channel();
    let go_on = Arc::new(AtomicBool::new(false));
    let worker = fake({
        let go_on = Arc::clone(&go_on);
        move |job, space, stop, found| {
            begun.send(()).unwrap();
            while job.id() == JobId(1) && !go_on.load(Ordering::Relaxed) {
                assert!(!stop.is_raised(), "an update must not stop old work");
                std::thread::sleep(Duration::from_millis(1));
            }
            found.push(Candidate { nonce: space.nonces.start, version: None }).unwrap();
            done(space)
        }
    });
    let (sink, events) = mailbox();
    let engine = Engine::start(tiny_slices(), vec![worker], NoMoreWork, sink).unwrap();
    engine.replace(assignment(1, 1 << 32));
    has_begun.recv_timeout(PATIENCE).unwrap();
    engine.update(assignment(2, 8));
    go_on.store(true, Ordering::Relaxed);
    let events = wait_for(&events, is_idle);
    let stats = engine.stop();
    assert_eq!(share_jobs(&events), [JobId(1), JobId(2)]);
    assert_eq!((stats.stale, stats.shares), (0, 2));
}

#[test]
fn a_paused_engine_keeps_its_work_and_what_it_found_counts() {
    let (begun, has_begun) = mpsc::channel();
    let first = AtomicBool::new(true);
    let worker = fake(move |_, space, stop, found| {
        found.push(Candidate { nonce: space.nonces.start, version: None }).unwrap();
        if !first.swap(false, Ordering::Relaxed) {
            return done(space);
        }
        begun.send(()).unwrap();
        while !stop.is_raised() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Scanned { tried: 1, end: ScanEnd::Stopped })
    });
    let (sink, events) = mailbox();
    let engine = Engine::start(tiny_slices(), vec![worker], NoMoreWork, sink).unwrap();
    engine.replace(assignment(1, 8));
    has_begun.recv_timeout(PATIENCE).unwrap();
    engine.pause();
    assert!(wait_until(|| engine.stats().shares == 1), "what was found is lost");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(engine.stats().total_hashes(), 1, "it works on");
    // New work waits as well.
    engine.update(assignment(2, 8));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(engine.stats().total_hashes(), 1, "it begins new work");
    engine.resume();
    let events = wait_for(&events, is_idle);
    let stats = engine.stop();
    assert_eq!((stats.total_hashes(), stats.stale), (1 + 8, 0));
    assert_eq!(share_jobs(&events)[..2], [JobId(1), JobId(2)]);
}

#[test]
fn work_that_was_paused_is_done_to_its_end() {
    let (sink, events) = mailbox();
    let workers = (0..3).map(|_| fake(|_, space, _, _| done(space))).collect();
    let engine = Engine::start(tiny_slices(), workers, NoMoreWork, sink).unwrap();
    engine.pause();
    engine.replace(assignment(1, 1000));
    assert!(events.recv_timeout(Duration::from_millis(100)).is_err(), "something happened in a pause");
    engine.resume();
    wait_for(&events, is_idle);
    assert_eq!(engine.stats().total_hashes(), 1000);
    // A paused engine stops like any other.
    engine.pause();
    in_time(move || engine.stop());
}

#[test]
fn full_candidates_are_proven_and_the_scan_goes_on_where_it_ended() {
    // Claims every nonce, four at a time.
    let worker = fake(|_, space, _, found| {
        let count = space.nonces.count.min(4);
        for nonce in space.nonces.start..space.nonces.start + count {
            found.push(Candidate { nonce, version: None }).unwrap();
        }
        let end = if count == space.nonces.count { ScanEnd::Done } else { ScanEnd::Full };
        Ok(Scanned { tried: count, end })
    });
    let (sink, events) = mailbox();
    let config = EngineConfig { candidates: 4, versions_per_slice: 1, retries: 0, ..EngineConfig::default() };
    let engine = Engine::start(config, vec![worker], NoMoreWork, sink).unwrap();
    engine.replace(assignment(1, 1001));
    let mut nonces: Vec<_> = wait_for(&events, is_idle)
        .iter()
        .filter_map(|event| match event {
            Event::Share { share, .. } => Some(share.nonce()),
            _ => None,
        })
        .collect();
    nonces.sort_unstable();
    assert_eq!(nonces, (0..1001).collect::<Vec<_>>());
    assert_eq!(engine.stop().total_hashes(), 1001);
}

#[test]
fn a_panicking_scanner_is_reported_and_the_others_do_the_rest() {
    let panics = fake(|_, _, _, _| panic!("lane 3 burnt"));
    // The others wait until it has taken its slice and is gone.
    let lost = Arc::new(AtomicBool::new(false));
    let others = (0..2).map(|_| {
        let lost = Arc::clone(&lost);
        fake(move |_, space, _, _| {
            assert!(wait_until(|| lost.load(Ordering::Relaxed)));
            done(space)
        })
    });
    let workers = std::iter::once(panics).chain(others).collect();
    let (send, events) = mpsc::channel();
    let sink = move |event| {
        if matches!(event, Event::WorkerLost { .. }) {
            lost.store(true, Ordering::Relaxed);
        }
        let _ = send.send(event);
    };
    let engine = Engine::start(tiny_slices(), workers, NoMoreWork, sink).unwrap();
    engine.replace(assignment(1, 4000));
    let events = wait_for(&events, is_idle);
    let stats = engine.stop();
    assert!(
        events.iter().any(|event| matches!(event, Event::WorkerLost { worker: 0, reason } if reason == "panicked: lane 3 burnt")),
        "{events:?}"
    );
    assert_eq!(stats.alive, 2);
    assert!(stats.abandoned > 0);
    assert_eq!(stats.total_hashes() + stats.abandoned, 4000);
}

#[test]
fn what_a_scanner_counted_before_it_failed_stays_counted() {
    let mut calls = 0;
    let worker = fake(move |_, _, _, _| {
        calls += 1;
        match calls {
            1 => Ok(Scanned { tried: 3, end: ScanEnd::Full }),
            _ => Err(ScanError::Device("it is on fire".to_owned())),
        }
    });
    let (sink, events) = mailbox();
    let config = EngineConfig { retries: 0, ..EngineConfig::default() };
    let engine = Engine::start(config, vec![worker], NoMoreWork, sink).unwrap();
    engine.replace(assignment(1, 8));
    let events = wait_for(&events, |event| matches!(event, Event::AllWorkersLost));
    assert!(
        matches!(&events[0], Event::WorkerLost { reason, .. } if reason == "device failed: it is on fire"),
        "{events:?}"
    );
    let stats = engine.stop();
    assert_eq!((stats.total_hashes(), stats.abandoned, stats.alive), (3, 5, 0));
}

/// Made again and again, each time as `scan` says for the number of times it was made before.
fn remade(
    scan: impl Fn(u32, &SearchSpace) -> Result<Scanned, ScanError> + Clone + Send + 'static,
) -> WorkerConfig {
    let mut times = 0;
    let make = move || {
        let (made, scan) = (times, scan.clone());
        times += 1;
        let mut inner = fake(move |_, space, _, _| scan(made, space));
        (inner.make)()
    };
    WorkerConfig { cpu: None, make: Box::new(make) }
}

fn retrying() -> EngineConfig {
    EngineConfig { retries: 2, retry_pause: Duration::from_millis(10), ..tiny_slices() }
}

#[test]
fn a_device_that_fails_is_made_anew_after_growing_pauses() {
    let worker = remade(|made, space| match made {
        0 | 1 => Err(ScanError::Device(format!("number {made} fell off"))),
        _ => done(space),
    });
    let (sink, events) = mailbox();
    let engine = Engine::start(retrying(), vec![worker], NoMoreWork, sink).unwrap();
    engine.replace(assignment(1, 800));
    let mut events = wait_for(&events, is_idle);
    // While the worker rests, all that was handed out is done: it may find itself idle in between.
    events.retain(|event| !is_idle(event));
    let told: Vec<_> = events.iter().map(|event| format!("{event:?}")).collect();
    assert_eq!(
        told,
        [
            r#"WorkerFailed { worker: 0, reason: "device failed: number 0 fell off", pause: 10ms }"#,
            "WorkerBack { worker: 0 }",
            r#"WorkerFailed { worker: 0, reason: "device failed: number 1 fell off", pause: 20ms }"#,
            "WorkerBack { worker: 0 }",
        ]
    );
    let stats = engine.stop();
    assert_eq!((stats.alive, stats.total_hashes() + stats.abandoned), (1, 800));
    assert!(stats.abandoned > 0);
}

#[test]
fn a_device_that_keeps_failing_is_given_up_and_the_others_do_the_rest() {
    let gone = Arc::new(AtomicBool::new(false));
    let other = {
        let gone = Arc::clone(&gone);
        fake(move |_, space, _, _| {
            assert!(wait_until(|| gone.load(Ordering::Relaxed)));
            done(space)
        })
    };
    let broken = remade(|_, _| Err(ScanError::Device("no answer".to_owned())));
    let (send, events) = mpsc::channel();
    let sink = move |event| {
        if matches!(event, Event::WorkerLost { .. }) {
            gone.store(true, Ordering::Relaxed);
        }
        let _ = send.send(event);
    };
    let engine = Engine::start(retrying(), vec![broken, other], NoMoreWork, sink).unwrap();
    engine.replace(assignment(1, 4000));
    let events = wait_for(&events, is_idle);
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, Event::WorkerFailed { worker: 0, .. })), 2);
    assert_eq!(count(|event| matches!(event, Event::WorkerLost { worker: 0, .. })), 1);
    let stats = engine.stop();
    assert_eq!((stats.alive, stats.total_hashes() + stats.abandoned), (1, 4000));
}

#[cfg(feature = "gpu")]
#[test]
fn a_gpu_that_cannot_be_used_is_told_and_the_others_do_the_work() {
    use otedama_core::gpu::{DeviceId, GpuError};

    let wrong = |ordinal| {
        let make = move || {
            let reason = "two and two make five".to_owned();
            Err(GpuError::Wrong { device: DeviceId::Cuda(ordinal), reason }.into())
        };
        WorkerConfig { cpu: None, make: Box::new(make) }
    };
    let (sink, events) = mailbox();
    let workers = vec![wrong(0), fake(|_, space, _, _| done(space)), wrong(1)];
    let engine = Engine::start(tiny_slices(), workers, NoMoreWork, sink).unwrap();
    engine.replace(assignment(1, 800));
    let events = wait_for(&events, is_idle);
    let lost = events.iter().filter_map(|event| match event {
        Event::WorkerLost { worker, reason } => Some((*worker, reason.as_str())),
        _ => None,
    });
    let mut lost: Vec<_> = lost.collect();
    lost.sort_unstable();
    assert_eq!(
        lost,
        [
            (0, "cuda:0 computes wrongly and is not used: two and two make five"),
            (2, "cuda:1 computes wrongly and is not used: two and two make five"),
        ]
    );
    let stats = engine.stop();
    assert_eq!((stats.alive, stats.total_hashes()), (1, 800));
    // With no other worker there is nothing to start.
    let error = Engine::start(tiny_slices(), vec![wrong(3)], NoMoreWork, |_| ()).err().unwrap();
    assert_eq!(error.to_string(), "cuda:3 computes wrongly and is not used: two and two make five");
}

#[test]
fn a_hanging_worker_is_reported_and_does_not_keep_the_engine_from_stopping() {
    // Ends when the test does.
    let (hold, held) = mpsc::channel::<()>();
    let worker = fake(move |_, space, _, _| {
        let _ = held.recv();
        done(space)
    });
    let (sink, events) = mailbox();
    let config = EngineConfig { watchdog: Some(Duration::from_millis(40)), ..tiny_slices() };
    let engine = Engine::start(config, vec![worker], NoMoreWork, sink).unwrap();
    engine.replace(assignment(1, 800));
    wait_for(&events, |event| matches!(event, Event::WorkerHangs { worker: 0 }));
    assert_eq!(engine.stop().total_hashes(), 0);
    drop(hold);
}

#[test]
fn a_watched_engine_whose_workers_return_reports_nothing() {
    let workers = (0..2).map(|_| fake(|_, space, _, _| done(space))).collect();
    let (sink, events) = mailbox();
    let config = EngineConfig { watchdog: Some(Duration::from_secs(5)), ..tiny_slices() };
    let engine = Engine::start(config, workers, NoMoreWork, sink).unwrap();
    engine.replace(assignment(1, 800));
    assert_eq!(wait_for(&events, is_idle).len(), 1);
    assert_eq!(engine.stop().total_hashes(), 800);
}

#[test]
fn a_lost_worker_is_reported_before_idleness() {
    // One takes the only slice and panics; the other has nothing left to do.
    let workers = (0..2).map(|_| fake(|_, _, _, _| panic!("gone")));
    let (sink, events) = mailbox();
    let engine = Engine::start(EngineConfig::default(), workers.collect(), NoMoreWork, sink).unwrap();
    engine.replace(assignment(1, 1));
    let events = wait_for(&events, is_idle);
    assert!(matches!(events[0], Event::WorkerLost { .. }), "{events:?}");
    drop(engine);
}

#[test]
fn the_loss_of_all_workers_is_reported_last() {
    let workers = (0..3).map(|_| fake(|_, _, _, _| panic!("gone")));
    let (sink, events) = mailbox();
    let engine = Engine::start(tiny_slices(), workers.collect(), NoMoreWork, sink).unwrap();
    engine.replace(assignment(1, 1 << 32));
    let events = wait_for(&events, |event| matches!(event, Event::AllWorkersLost));
    assert_eq!(events.len(), 4, "{events:?}");
    let stats = engine.stop();
    assert_eq!((stats.alive, stats.total_hashes()), (0, 0));
    assert!(stats.abandoned > 0);
}

#[test]
fn a_scanner_that_lies_is_refused_and_goes_on() {
    let worker = fake(|_, space, _, found| {
        found.push(Candidate { nonce: space.nonces.start, version: Some(1 << 31) }).unwrap();
        found.push(Candidate { nonce: space.nonces.start, version: None }).unwrap();
        done(space)
    });
    let (sink, events) = mailbox();
    let engine = Engine::start(EngineConfig::default(), vec![worker], NoMoreWork, sink).unwrap();
    // One hash in 2^64 would meet this target.
    engine.replace(Assignment::part(job(1, None, one_in(u64::MAX)), nonces(5, 1)).unwrap());
    let events = wait_for(&events, is_idle);
    let reasons: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Refused { worker: 0, candidate, reason } => Some((candidate.nonce, reason.to_string())),
            _ => None,
        })
        .collect();
    assert_eq!(reasons.len(), 2);
    assert_eq!(reasons[0], (5, "nonce or version is not one the job allows".to_owned()));
    assert!(reasons[1].1.contains("is above the target"), "{reasons:?}");
    let stats = engine.stop();
    assert_eq!((stats.refused, stats.shares, stats.alive), (2, 0, 1));
}

#[test]
fn an_engine_that_cannot_start_says_why_and_leaves_nothing_running() {
    let start = |last: WorkerConfig| {
        let alive = Arc::new(());
        let mut workers: Vec<_> = (0..2)
            .map(|_| {
                let alive = Arc::clone(&alive);
                fake(move |_, space, _, _| {
                    let _ = &alive;
                    done(space)
                })
            })
            .collect();
        workers.push(last);
        let error = Engine::start(tiny_slices(), workers, NoMoreWork, |_| ()).err().unwrap();
        assert_eq!(Arc::strong_count(&alive), 1, "a scanner is still held");
        error
    };
    let panics = WorkerConfig { cpu: None, make: Box::new(|| panic!("no such device")) };
    assert_eq!(start(panics).to_string(), "worker 2 panicked while it was made: no such device");

    let pinned = WorkerConfig { cpu: Some(CpuId(100_000)), ..fake(|_, space, _, _| done(space)) };
    let error = start(pinned);
    assert!(matches!(error, EngineError::Pin { cpu: CpuId(100_000), .. }), "{error}");

    let nobody = Engine::start(tiny_slices(), Vec::new(), NoMoreWork, |_| ()).err().unwrap();
    assert_eq!(nobody.to_string(), "engine has no workers: expected at least one");
}

#[test]
fn stopping_and_dropping_are_prompt_and_leave_nothing_running() {
    for by_drop in [false, true] {
        let alive = Arc::new(());
        let workers = (0..3).map(|_| {
            let alive = Arc::clone(&alive);
            fake(move |_, _, stop, _| {
                let _ = &alive;
                while !stop.is_raised() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(Scanned { tried: 0, end: ScanEnd::Stopped })
            })
        });
        let engine = Engine::start(tiny_slices(), workers.collect(), NoMoreWork, |_| ()).unwrap();
        engine.replace(assignment(1, 1 << 32));
        std::thread::sleep(Duration::from_millis(20));
        let begun = Instant::now();
        if by_drop {
            drop(engine);
        } else {
            assert_eq!(engine.stop().alive, 3);
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "took {:?}", begun.elapsed());
        assert_eq!(Arc::strong_count(&alive), 1, "a scanner is still held");
    }
}

#[test]
fn a_panicking_sink_hangs_nothing_and_does_not_hide_the_last_report() {
    let last_words = Arc::new(AtomicU64::new(0));
    let sink = {
        let last_words = Arc::clone(&last_words);
        move |event: Event| {
            if matches!(event, Event::AllWorkersLost) {
                last_words.fetch_add(1, Ordering::Relaxed);
            }
            panic!("the sink is full")
        }
    };
    let workers = (0..2).map(|_| {
        fake(|_, space, _, found| {
            found.push(Candidate { nonce: space.nonces.start, version: None }).unwrap();
            done(space)
        })
    });
    let engine = Engine::start(tiny_slices(), workers.collect(), NoMoreWork, sink).unwrap();
    engine.replace(assignment(1, 1 << 32));
    assert!(wait_until(|| engine.stats().alive == 0), "{:?}", engine.stats());
    assert!(wait_until(|| last_words.load(Ordering::Relaxed) == 1));
    let stopped = in_time(move || engine.stop());
    assert_eq!(stopped.alive, 0);
}

/// An epoch of a few bytes.
struct SmallEpoch;

impl EpochBuilder for SmallEpoch {
    fn light_bytes(&self, _: &EpochKey) -> usize {
        64
    }

    fn full_bytes(&self, _: &EpochKey) -> Option<usize> {
        Some(128)
    }

    fn build_light(&self, _: &EpochKey, _: &mut [u8], _: &Progress) -> Result<(), Cancelled> {
        Ok(())
    }

    fn build_full(&self, _: &EpochKey, _: &[u8], chunks: &Chunks<'_>, _: &Progress) -> Result<(), Cancelled> {
        while chunks.take().is_some() {}
        Ok(())
    }
}

#[test]
fn a_deeper_epoch_is_taken_up_in_the_middle_and_no_attempt_is_lost_or_made_twice() {
    let store = EpochStore::new(StoreConfig {
        byte_budget: 1 << 20,
        placement: Placement::default(),
        nodes: Vec::new(),
        pages: PageSet::PLAIN,
        threads: 1,
    });
    let builder: Arc<dyn EpochBuilder> = Arc::new(SmallEpoch);
    let get = |key: &EpochKey, depth| store.get(&builder, key, depth, &Progress::new()).unwrap();
    let (key, other) = (EpochKey::number(Algorithm::Sha256d, 1), EpochKey::number(Algorithm::Sha256d, 2));

    let seen = Arc::new(Mutex::new(Vec::new()));
    let (loads, loaded) = mpsc::channel();
    let (step, steps) = mpsc::channel::<()>();
    let steps = Arc::new(Mutex::new(steps));
    let workers = (0..2).map(|_| {
        let (seen, steps) = (Arc::clone(&seen), Arc::clone(&steps));
        fake_telling(Some(loads.clone()), move |_, space, _, _| {
            // Every slice waits for its permission, so that the change comes in the middle.
            steps.lock().unwrap().recv().unwrap();
            seen.lock().unwrap().push(space.nonces);
            done(space)
        })
    });
    let (sink, events) = mailbox();
    let engine = Engine::start(tiny_slices(), workers.collect(), NoMoreWork, sink).unwrap();
    let part = SearchSpace {
        nonces: NonceRange { start: 0, count: 8 * 40 },
        versions: VersionRange { start: 0, count: 1 },
    };
    let job = job(1, None, one_in(1 << 40));
    let assignment = Assignment::part(job, part).unwrap().with_epoch(get(&key, Depth::Light));
    engine.replace(assignment);
    let first: Vec<_> = (0..2).map(|_| loaded.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(first, [(JobId(1), Some(Depth::Light)); 2]);
    (0..5).for_each(|_| step.send(()).unwrap());

    // Another epoch's depths concern nobody.
    engine.deepen(&get(&other, Depth::Full));
    engine.deepen(&get(&key, Depth::Full));
    (0..60).for_each(|_| step.send(()).unwrap());
    wait_for(&events, is_idle);
    assert_eq!(engine.stop().total_hashes(), 8 * 40);
    // One worker may have been kept waiting until nothing was left to do.
    let second: Vec<_> = loaded.try_iter().collect();
    assert!((1..=2).contains(&second.len()), "{second:?}");
    assert!(second.iter().all(|load| *load == (JobId(1), Some(Depth::Full))), "{second:?}");
    let mut nonces: Vec<u64> =
        seen.lock().unwrap().iter().flat_map(|range| range.start..range.start + range.count).collect();
    nonces.sort_unstable();
    assert!(nonces.into_iter().eq(0..8 * 40));
}
