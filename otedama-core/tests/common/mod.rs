//! What the engine's tests are made of: scanners that do as they are told, jobs, and patience.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use otedama_core::engine::{Assignment, Event, WorkerConfig};
use otedama_core::epoch::{Depth, Epoch};
use otedama_core::scan::{
    Candidates, ScanEnd, ScanError, Scanned, Scanner, ScannerInfo, Setup, StopFlag, kernel,
};
use otedama_core::target::U256;
use otedama_core::verify::VerifyWorker;
use otedama_core::{
    Algorithm, Job, JobId, NonceRange, SearchSpace, Target, Verifier, VersionMask, VersionRange,
};

/// How long anything may take that should take milliseconds: this machine may be very busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The version bits that may be rolled.
pub(crate) const BIP320: VersionMask = VersionMask::BIP320;

/// What a fake scanner does when it is asked to scan.
pub(crate) type Scan =
    dyn FnMut(&Job, &SearchSpace, &StopFlag, &mut Candidates) -> Result<Scanned, ScanError> + Send;

struct Fake {
    info: ScannerInfo,
    job: Option<Arc<Job>>,
    /// Hears of every load: the job, and how deep its epoch is.
    loads: Option<mpsc::Sender<(JobId, Option<Depth>)>>,
    scan: Box<Scan>,
}

impl Scanner for Fake {
    fn info(&self) -> &ScannerInfo {
        &self.info
    }

    fn load(&mut self, job: &Arc<Job>, epoch: Option<&Arc<Epoch>>) -> Result<(), ScanError> {
        self.job = Some(Arc::clone(job));
        if let Some(loads) = &self.loads {
            let _ = loads.send((job.id(), epoch.map(|epoch| epoch.depth())));
        }
        Ok(())
    }

    fn scan(
        &mut self,
        space: &SearchSpace,
        stop: &StopFlag,
        found: &mut Candidates,
    ) -> Result<Scanned, ScanError> {
        let job = self.job.as_ref().ok_or(ScanError::NoJob)?;
        (self.scan)(job, space, stop, found)
    }
}

/// A worker that scans like this and proves with the real verifier.
pub(crate) fn fake(
    scan: impl FnMut(&Job, &SearchSpace, &StopFlag, &mut Candidates) -> Result<Scanned, ScanError>
    + Send
    + 'static,
) -> WorkerConfig {
    fake_telling(None, scan)
}

/// The same, telling of every job it loads.
pub(crate) fn fake_telling(
    loads: Option<mpsc::Sender<(JobId, Option<Depth>)>>,
    scan: impl FnMut(&Job, &SearchSpace, &StopFlag, &mut Candidates) -> Result<Scanned, ScanError>
    + Send
    + 'static,
) -> WorkerConfig {
    let info = ScannerInfo {
        algorithm: Algorithm::Sha256d,
        kernel: "fake",
        device: "fake".to_owned(),
        lanes: 8,
        max_versions: 16,
        memory: None,
    };
    let mut scanner = Some(Fake { info, job: None, loads, scan: Box::new(scan) });
    let make = move || Ok((Box::new(scanner.take().expect("a fake is made once")) as _, proves()));
    WorkerConfig { cpu: None, make: Box::new(make) }
}

/// All of it, and nothing found.
pub(crate) fn done(space: &SearchSpace) -> Result<Scanned, ScanError> {
    Ok(Scanned { tried: space.attempts(), end: ScanEnd::Done })
}

/// A verify worker that hashes with the oracle.
pub(crate) fn proves() -> VerifyWorker {
    let oracle = kernel(Algorithm::Sha256d, "portable").unwrap();
    Verifier::new(oracle, Setup::detect()).worker().unwrap()
}

/// The target that one hash in `odds` meets.
pub(crate) fn one_in(odds: u64) -> Target {
    Target::new(U256::MAX / U256::from(odds)).unwrap()
}

/// A job on a header that its id tells apart.
pub(crate) fn job(id: u64, roll: Option<VersionMask>, target: Target) -> Arc<Job> {
    Arc::new(Job::blob(JobId(id), Algorithm::Sha256d, &[id as u8; 80], roll, target).unwrap())
}

/// A job that every hash solves and whose version may roll.
pub(crate) fn rolling_job(id: u64) -> Arc<Job> {
    job(id, Some(BIP320), Target::MAX)
}

/// Nonces with one version.
pub(crate) fn nonces(start: u64, count: u64) -> SearchSpace {
    SearchSpace { nonces: NonceRange { start, count }, versions: VersionRange { start: 0, count: 1 } }
}

/// The first `count` nonces of a job that every hash solves.
pub(crate) fn assignment(id: u64, count: u64) -> Assignment {
    Assignment::part(job(id, None, Target::MAX), nonces(0, count)).unwrap()
}

/// An event sink and what it was given.
pub(crate) fn mailbox() -> (impl Fn(Event) + Send + Sync + 'static, mpsc::Receiver<Event>) {
    let (send, receive) = mpsc::channel();
    // Nobody listening any more is no reason for a worker to panic.
    (move |event| drop(send.send(event)), receive)
}

/// The events up to the first of this kind.
pub(crate) fn wait_for(events: &mpsc::Receiver<Event>, last: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut seen = Vec::new();
    loop {
        let event = events.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("only {seen:?} came"));
        seen.push(event);
        if seen.last().is_some_and(&last) {
            return seen;
        }
    }
}

pub(crate) fn is_idle(event: &Event) -> bool {
    matches!(event, Event::Idle)
}

/// The jobs of the shares among these events.
pub(crate) fn share_jobs(events: &[Event]) -> Vec<JobId> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Share { share, .. } => Some(share.job()),
            _ => None,
        })
        .collect()
}

/// Waits until something is so; `false` if patience ran out.
pub(crate) fn wait_until(so: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// What `work` answers, unless it hangs.
pub(crate) fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(work()));
    receive.recv_timeout(PATIENCE).expect("it hangs")
}
