//! What a card tells of itself (temperature, power, fan, clocks), and when it is too hot to work. Nothing here changes
//! a card.
//!
//! NVIDIA's cards are asked through NVML, AMD's by files of the kernel's (`hwmon`), both found by the card's PCI
//! address. Where there is neither, there is no sensor, and that is no error.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};

use super::{DeviceInfo, PciAddress};

/// What a card tells; `None` is what it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Degrees Celsius of the chip.
    pub temperature: Option<f64>,
    /// Watts.
    pub power: Option<f64>,
    /// The fan's speed in percent of its highest.
    pub fan_percent: Option<u32>,
    /// The fan's turns per minute.
    pub fan_rpm: Option<u32>,
    /// The multiprocessors' clock in MHz.
    pub core_mhz: Option<u32>,
    /// The memory's clock in MHz.
    pub memory_mhz: Option<u32>,
    /// Percent of the time in which a kernel ran.
    pub utilisation: Option<u32>,
    /// Joules taken since the driver was loaded.
    pub energy: Option<f64>,
}

/// Somebody who can read a card.
pub trait Sensor: Send + Sync {
    /// What the card tells now. Takes up to some milliseconds.
    fn read(&self) -> Reading;
}

/// The sensor of a device, if it has one.
pub fn sensor(info: &DeviceInfo) -> Option<Arc<dyn Sensor>> {
    let pci = info.pci?;
    nvidia(pci).or_else(|| Some(Arc::new(Hwmon::find(Path::new("/sys"), pci)?)))
}

fn nvidia(pci: PciAddress) -> Option<Arc<dyn Sensor>> {
    static NVML: OnceLock<Option<Nvml>> = OnceLock::new();
    let nvml = NVML.get_or_init(|| Nvml::init().ok()).as_ref()?;
    let card = nvml.device_by_pci_bus_id(format!("{pci}.0")).ok()?;
    Some(Arc::new(Nvidia(card)))
}

struct Nvidia(nvml_wrapper::Device<'static>);

impl Sensor for Nvidia {
    fn read(&self) -> Reading {
        let card = &self.0;
        Reading {
            temperature: card.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
            // Milliwatts, and millijoules.
            power: card.power_usage().ok().map(|power| f64::from(power) / 1e3),
            energy: card.total_energy_consumption().ok().map(|energy| energy as f64 / 1e3),
            fan_percent: card.fan_speed(0).ok(),
            fan_rpm: card.fan_speed_rpm(0).ok(),
            core_mhz: card.clock_info(Clock::SM).ok(),
            memory_mhz: card.clock_info(Clock::Memory).ok(),
            utilisation: card.utilization_rates().ok().map(|rates| rates.gpu),
        }
    }
}

/// A card that the Linux kernel watches.
struct Hwmon {
    /// The folder with its files.
    folder: PathBuf,
}

impl Hwmon {
    /// The card at an address, below the root of a tree like `/sys`.
    fn find(root: &Path, pci: PciAddress) -> Option<Hwmon> {
        let all = root.join("bus/pci/devices").join(format!("{pci}.0")).join("hwmon");
        let mut folders = fs::read_dir(all).ok()?.flatten().map(|entry| entry.path());
        let folder = folders.find(|folder| folder.join("temp1_input").exists())?;
        Some(Hwmon { folder })
    }

    fn number(&self, file: &str) -> Option<f64> {
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }
}

impl Sensor for Hwmon {
    fn read(&self) -> Reading {
        Reading {
            // Thousandths of a degree, and millionths of a watt.
            temperature: self.number("temp1_input").map(|value| value / 1e3),
            power: self.number("power1_average").map(|value| value / 1e6),
            fan_rpm: self.number("fan1_input").map(|value| value as u32),
            ..Reading::default()
        }
    }
}

/// The watts a card takes, averaged over a time: from its energy counter where it has one, else from readings of its
/// power, each of which stands for the time since the one before.
///
/// Whoever owns it calls [`PowerMeter::look`] now and then, and [`PowerMeter::watts`] at the end or whenever a figure
/// is wanted.
pub struct PowerMeter {
    sensor: Arc<dyn Sensor>,
    first: (Instant, Reading),
    last: (Instant, Reading),
    /// Of the readings: joules, and the seconds they were summed over.
    joules: f64,
    seconds: f64,
}

impl PowerMeter {
    /// Begins with a reading.
    pub fn start(sensor: Arc<dyn Sensor>) -> PowerMeter {
        let first = (Instant::now(), sensor.read());
        PowerMeter { sensor, first, last: first, joules: 0.0, seconds: 0.0 }
    }

    /// Takes a reading, unless the last is fresh. Takes up to some milliseconds; for a card without an energy counter
    /// the average is as good as this is often called, up to four times a second.
    pub fn look(&mut self) {
        if self.last.0.elapsed() >= LOOK {
            self.take(Instant::now(), self.sensor.read());
        }
    }

    /// Watts on the average since the start, after a last reading; `None` if the card does not tell.
    pub fn watts(&mut self) -> Option<f64> {
        self.take(Instant::now(), self.sensor.read());
        self.average()
    }

    fn take(&mut self, now: Instant, reading: Reading) {
        if let Some(watts) = reading.power {
            let seconds = now.duration_since(self.last.0).as_secs_f64();
            self.joules += watts * seconds;
            self.seconds += seconds;
        }
        self.last = (now, reading);
    }

    fn average(&self) -> Option<f64> {
        let ((begun, first), (now, last)) = (&self.first, &self.last);
        let seconds = now.duration_since(*begun).as_secs_f64();
        // A counter that starts again (a driver was loaded anew) says nothing.
        let counted = first.energy.zip(last.energy).map(|(first, last)| last - first);
        let (joules, seconds) = match counted.filter(|joules| *joules > 0.0) {
            Some(joules) => (joules, seconds),
            None => (self.joules, self.seconds),
        };
        (seconds > 0.0).then(|| joules / seconds)
    }
}

/// How old a reading of a [`PowerMeter`] may be.
const LOOK: Duration = Duration::from_millis(250);

/// When a card is too hot to work: from some temperature on, until it has cooled by a few degrees, so that it does not
/// go on and off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemperatureLimit {
    /// Degrees Celsius.
    limit: u32,
    hot: bool,
}

impl TemperatureLimit {
    /// Degrees below the limit at which work goes on.
    pub const COOLS_BY: u32 = 5;

    /// Work pauses at so many degrees Celsius.
    pub const fn at(limit: u32) -> TemperatureLimit {
        TemperatureLimit { limit, hot: false }
    }

    /// Degrees Celsius at which work pauses.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Takes a reading and says whether the card is too hot. No reading is unknown, never cold: what was, stays.
    pub fn is_too_hot(&mut self, celsius: Option<f64>) -> bool {
        let limit = f64::from(self.limit);
        match celsius {
            Some(celsius) if celsius >= limit => self.hot = true,
            Some(celsius) if celsius <= limit - f64::from(Self::COOLS_BY) => self.hot = false,
            _ => {}
        }
        self.hot
    }
}

impl Default for TemperatureLimit {
    /// 85 degrees.
    fn default() -> TemperatureLimit {
        TemperatureLimit::at(85)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_pauses_at_the_limit_and_goes_on_five_degrees_below() {
        let mut limit = TemperatureLimit::default();
        for (celsius, hot) in [
            (None, false),
            (Some(84.9), false),
            (Some(85.0), true),
            (Some(84.0), true),
            (None, true),
            (Some(f64::NAN), true),
            (Some(80.1), true),
            (Some(80.0), false),
            (Some(84.9), false),
            (None, false),
            (Some(120.0), true),
            (Some(-3.0), false),
        ] {
            assert_eq!(limit.is_too_hot(celsius), hot, "{celsius:?}");
        }
        assert_eq!(limit.limit(), 85);
    }

    /// A card's files, below a folder of the test's.
    fn hwmon(name: &str) -> (PathBuf, PathBuf, PciAddress) {
        let root = std::env::temp_dir().join(format!("otedama-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let pci = PciAddress { domain: 0, bus: 0x0a, device: 3 };
        let folder = root.join("bus/pci/devices/0000:0a:03.0/hwmon/hwmon7");
        (root, folder, pci)
    }

    #[test]
    fn power_is_averaged_over_the_readings() {
        let (root, folder, pci) = hwmon("watts");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("temp1_input"), "50000\n").unwrap();
        let mut meter = PowerMeter::start(Arc::new(Hwmon::find(&root, pci).unwrap()));
        let begun = meter.first.0;
        let mut at = |seconds: u64, microwatts: Option<u64>| {
            match microwatts {
                Some(microwatts) => fs::write(folder.join("power1_average"), microwatts.to_string()).unwrap(),
                None => drop(fs::remove_file(folder.join("power1_average"))),
            }
            let reading = meter.sensor.read();
            meter.take(begun + Duration::from_secs(seconds), reading);
            meter.average()
        };
        // It tells nothing yet; then 100 W for a second and 250 W for two.
        assert_eq!(at(10, None), None);
        assert_eq!(at(11, Some(100_000_000)), Some(100.0));
        assert_eq!(at(13, Some(250_000_000)), Some(200.0));
        // Time without a reading does not count.
        assert_eq!(at(99, None), Some(200.0));
        let now = meter.watts();
        assert_eq!(now, Some(200.0), "{now:?}");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_counter_of_energy_is_better_than_readings() {
        struct Counter;
        impl Sensor for Counter {
            fn read(&self) -> Reading {
                Reading { energy: Some(5000.0), power: Some(1.0), ..Reading::default() }
            }
        }
        let mut meter = PowerMeter::start(Arc::new(Counter));
        let begun = meter.first.0;
        let mut at = |seconds: u64, joules: f64| {
            let reading = Reading { energy: Some(joules), power: Some(90.0), ..Reading::default() };
            meter.take(begun + Duration::from_secs(seconds), reading);
            meter.average()
        };
        assert_eq!(at(2, 5300.0), Some(150.0));
        assert_eq!(at(4, 5400.0), Some(100.0));
        // Its driver was loaded anew.
        assert_eq!(at(5, 10.0), Some(90.0));
    }

    #[test]
    fn a_card_of_the_kernels_is_read_from_its_files() {
        let (root, folder, pci) = hwmon("hwmon");
        assert!(Hwmon::find(&root, pci).is_none());
        fs::create_dir_all(&folder).unwrap();
        assert!(Hwmon::find(&root, pci).is_none(), "nothing to read");
        fs::write(folder.join("temp1_input"), "61500\n").unwrap();
        let card = Hwmon::find(&root, pci).unwrap();
        assert_eq!(card.read(), Reading { temperature: Some(61.5), ..Reading::default() });
        fs::write(folder.join("power1_average"), "180250000\n").unwrap();
        fs::write(folder.join("fan1_input"), "1430\n").unwrap();
        let all = Reading {
            temperature: Some(61.5),
            power: Some(180.25),
            fan_rpm: Some(1430),
            ..Reading::default()
        };
        assert_eq!(card.read(), all);
        fs::write(folder.join("temp1_input"), "no number").unwrap();
        assert_eq!(card.read(), Reading { temperature: None, ..all });
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(card.read(), Reading::default(), "a card that is gone tells nothing");
    }
}
