//! What devices tell of themselves, read on a thread of its own: a driver may take its time, or never answer.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "gpu")]
use otedama_core::gpu::watch::Sensor;
use otedama_core::power::EnergyMeter;
use serde::Serialize;

use crate::failure::Failure;

/// How often devices are read.
const PERIOD: Duration = Duration::from_secs(1);

/// What a device tells; nothing where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Reading {
    /// Degrees Celsius.
    pub(crate) temperature_c: Option<f64>,
    pub(crate) watts: Option<f64>,
    pub(crate) fan_percent: Option<u32>,
}

/// The last readings of all devices.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readings {
    /// The processor packages' power.
    pub(crate) cpu_watts: Option<f64>,
    /// By worker.
    pub(crate) workers: Vec<Reading>,
}

/// Something that can be read, if a worker has it.
#[cfg(feature = "gpu")]
pub(crate) type Gauge = Option<Arc<dyn Sensor>>;

/// Nothing can be read.
#[cfg(not(feature = "gpu"))]
pub(crate) type Gauge = Option<std::convert::Infallible>;

/// Reads devices until it is dropped.
pub(crate) struct Sensors {
    last: Arc<Mutex<Readings>>,
    /// Its end tells the thread to end; nobody waits for that.
    _running: Option<mpsc::Sender<()>>,
}

impl Sensors {
    /// Reads these, one for each worker, and the processor's power. No thread is started where nothing can be read.
    pub(crate) fn start(gauges: Vec<Gauge>) -> Result<Sensors, Failure> {
        let last = Arc::new(Mutex::new(Readings::default()));
        let meter = EnergyMeter::start();
        if meter.is_none() && gauges.iter().all(Option::is_none) {
            return Ok(Sensors { last, _running: None });
        }
        let (running, ended) = mpsc::channel();
        let written = Arc::clone(&last);
        let read = move || {
            let mut package = Package { since: Instant::now(), meter };
            loop {
                let workers = gauges.iter().map(read).collect();
                let readings = Readings { cpu_watts: package.watts(), workers };
                *written.lock().unwrap_or_else(PoisonError::into_inner) = readings;
                if ended.recv_timeout(PERIOD) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        thread::Builder::new().name("sensors".to_owned()).spawn(read)?;
        Ok(Sensors { last, _running: Some(running) })
    }

    /// What was read last.
    pub(crate) fn last(&self) -> Readings {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(feature = "gpu")]
fn read(gauge: &Gauge) -> Reading {
    let Some(sensor) = gauge else { return Reading::default() };
    let reading = sensor.read();
    Reading { temperature_c: reading.temperature, watts: reading.power, fan_percent: reading.fan_percent }
}

#[cfg(not(feature = "gpu"))]
fn read(_: &Gauge) -> Reading {
    Reading::default()
}

/// The processor's energy since the last look.
struct Package {
    since: Instant,
    meter: Option<EnergyMeter>,
}

impl Package {
    /// The mean power since the last call; nothing at first, and where no counter can be read.
    fn watts(&mut self) -> Option<f64> {
        let seconds = self.since.elapsed().as_secs_f64();
        // Counters are renewed about every millisecond: a shorter look tells nothing.
        if seconds < 0.1 {
            return None;
        }
        let joules = self.meter.take()?.stop();
        (self.since, self.meter) = (Instant::now(), EnergyMeter::start());
        Some(joules? / seconds)
    }
}

#[cfg(all(test, feature = "gpu"))]
mod tests {
    use super::*;
    use otedama_core::gpu::watch;

    struct Steady;

    impl Sensor for Steady {
        fn read(&self) -> watch::Reading {
            watch::Reading { temperature: Some(61.5), power: Some(300.0), ..watch::Reading::default() }
        }
    }

    #[test]
    fn each_worker_is_read_by_its_own_sensor() {
        let sensors = Sensors::start(vec![None, Some(Arc::new(Steady))]).unwrap();
        let begun = Instant::now();
        let readings = loop {
            let readings = sensors.last();
            if !readings.workers.is_empty() {
                break readings;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "nothing was read");
            thread::sleep(Duration::from_millis(5));
        };
        let hot = Reading { temperature_c: Some(61.5), watts: Some(300.0), fan_percent: None };
        assert_eq!(readings.workers, [Reading::default(), hot]);
    }
}
