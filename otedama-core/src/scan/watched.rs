//! A scanner whose device is watched: while that is too hot, the scanner asks for a rest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Candidates, ScanError, Scanned, Scanner, ScannerInfo, StopFlag};
use crate::epoch::Epoch;
use crate::gpu::watch::{Sensor, TemperatureLimit};
use crate::job::{Job, SearchSpace};

/// How old a reading may be: chips take seconds to heat, and asking takes up to milliseconds.
const FRESH: Duration = Duration::from_millis(500);

/// The same scanner, with a temperature from which on [`Scanner::rest`] has a reason.
pub fn watched(
    scanner: Box<dyn Scanner>,
    sensor: Arc<dyn Sensor>,
    limit: TemperatureLimit,
) -> Box<dyn Scanner> {
    Box::new(Watched { scanner, sensor, limit, read_at: None, reason: None })
}

struct Watched {
    scanner: Box<dyn Scanner>,
    sensor: Arc<dyn Sensor>,
    limit: TemperatureLimit,
    read_at: Option<Instant>,
    reason: Option<String>,
}

impl Scanner for Watched {
    fn info(&self) -> &ScannerInfo {
        self.scanner.info()
    }

    fn slice(&self) -> Option<Duration> {
        self.scanner.slice()
    }

    fn rest(&mut self) -> Option<String> {
        if self.read_at.is_none_or(|read_at| read_at.elapsed() >= FRESH) {
            let celsius = self.sensor.read().temperature;
            self.read_at = Some(Instant::now());
            self.reason = self.limit.is_too_hot(celsius).then(|| {
                let now = celsius.map_or("unknown".to_owned(), |celsius| format!("{celsius} C"));
                let (device, limit) = (&self.scanner.info().device, self.limit.limit());
                let resumes = limit.saturating_sub(TemperatureLimit::COOLS_BY);
                format!("{device} is too hot: {now}, expected below {limit} C; it goes on at {resumes} C")
            });
        }
        self.reason.clone()
    }

    fn load(&mut self, job: &Arc<Job>, epoch: Option<&Arc<Epoch>>) -> Result<(), ScanError> {
        self.scanner.load(job, epoch)
    }

    fn load_unless(
        &mut self,
        job: &Arc<Job>,
        epoch: Option<&Arc<Epoch>>,
        stop: &StopFlag,
    ) -> Result<bool, ScanError> {
        self.scanner.load_unless(job, epoch, stop)
    }

    fn scan(
        &mut self,
        space: &SearchSpace,
        stop: &StopFlag,
        found: &mut Candidates,
    ) -> Result<Scanned, ScanError> {
        self.scanner.scan(space, stop, found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::engine::{Assignment, Engine, EngineConfig, Event, NoMoreWork, WorkerConfig};
    use crate::gpu::watch::Reading;
    use crate::scan::{Setup, oracle};
    use crate::{Algorithm, JobId, NonceRange, Target, Verifier};

    /// Degrees, or no reading for zero.
    struct MadeUp(AtomicU32);

    impl Sensor for MadeUp {
        fn read(&self) -> Reading {
            let celsius = self.0.load(Ordering::Relaxed);
            Reading { temperature: (celsius > 0).then_some(celsius.into()), ..Reading::default() }
        }
    }

    #[test]
    fn an_engine_pauses_a_hot_device_goes_on_when_it_has_cooled_and_stops_at_once() {
        let (setup, sensor) = (Setup::detect(), Arc::new(MadeUp(AtomicU32::new(85))));
        let kernel = oracle(Algorithm::Sha256d).unwrap();
        let verifier = Verifier::new(kernel, setup.clone());
        let watched_by: Arc<dyn Sensor> = Arc::<MadeUp>::clone(&sensor);
        let make = move || {
            let scanner = kernel.scanner(&setup)?;
            let limit = TemperatureLimit::default();
            Ok((watched(scanner, Arc::clone(&watched_by), limit), verifier.worker()?))
        };
        let (send, events) = mpsc::channel();
        let sink = move |event| {
            let _ = send.send(event);
        };
        let worker = WorkerConfig { cpu: None, make: Box::new(make) };
        let config = EngineConfig { watchdog: Some(Duration::from_millis(300)), ..EngineConfig::default() };
        let engine = Engine::start(config, vec![worker], NoMoreWork, sink).unwrap();
        let target: Target = Target::from_le_bytes({
            let mut hardest = [0; 32];
            hardest[0] = 1;
            hardest
        })
        .unwrap();
        let job = crate::Job::blob(JobId(1), Algorithm::Sha256d, &[7; 80], None, target).unwrap();
        let mut space = job.space();
        space.nonces = NonceRange { start: 0, count: 5000 };
        engine.replace(Assignment::part(Arc::new(job), space).unwrap());

        let wait = Duration::from_secs(30);
        let Ok(Event::WorkerPaused { worker: 0, reason }) = events.recv_timeout(wait) else {
            panic!("it is hot")
        };
        assert_eq!(reason, "cpu is too hot: 85 C, expected below 85 C; it goes on at 80 C");
        // Neither a little less nor no reading at all is cool; and a pause is no hanging.
        for celsius in [81, 0] {
            sensor.0.store(celsius, Ordering::Relaxed);
            assert!(events.recv_timeout(FRESH + FRESH / 2).is_err(), "{celsius}");
        }
        assert_eq!(engine.stats().total_hashes(), 0);
        sensor.0.store(80, Ordering::Relaxed);
        assert!(matches!(events.recv_timeout(wait), Ok(Event::WorkerResumed { worker: 0 })));
        assert!(matches!(events.recv_timeout(wait), Ok(Event::Idle)));
        assert_eq!(engine.stats().total_hashes(), 5000);

        sensor.0.store(99, Ordering::Relaxed);
        std::thread::sleep(FRESH);
        let job = crate::Job::blob(JobId(2), Algorithm::Sha256d, &[8; 80], None, target).unwrap();
        engine.replace(Assignment::whole(Arc::new(job)));
        // The worker was waiting for work with an old reading, so one slice may come first.
        assert!(matches!(events.recv_timeout(wait), Ok(Event::WorkerPaused { .. })));
        let begun = Instant::now();
        engine.stop();
        assert!(begun.elapsed() < Duration::from_millis(90), "{:?}", begun.elapsed());
    }
}
