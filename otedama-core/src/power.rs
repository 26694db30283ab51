//! Energy the processor packages take, where the platform tells (Linux powercap, Intel and AMD RAPL).

use std::fs;
use std::path::{Path, PathBuf};

/// Reads the packages' energy counters between two moments.
#[derive(Debug)]
pub struct EnergyMeter {
    packages: Vec<Package>,
}

#[derive(Debug)]
struct Package {
    counter: PathBuf,
    /// Microjoules at which the counter starts again from zero.
    range: u64,
    /// Microjoules at the start.
    start: u64,
}

impl EnergyMeter {
    /// Starts reading; `None` where there are no counters or they may not be read (usually root only).
    pub fn start() -> Option<EnergyMeter> {
        EnergyMeter::start_at(Path::new("/sys/class/powercap"))
    }

    /// Joules taken since the start by all packages together; `None` if a counter went away. A counter
    /// may wrap once (after minutes to hours).
    pub fn stop(self) -> Option<f64> {
        let mut microjoules = 0;
        for package in self.packages {
            let now = read_number(&package.counter)?;
            microjoules +=
                if now >= package.start { now - package.start } else { now + package.range - package.start };
        }
        Some(microjoules as f64 / 1e6)
    }

    fn start_at(root: &Path) -> Option<EnergyMeter> {
        let mut packages = Vec::new();
        for entry in fs::read_dir(root).ok()?.flatten() {
            // intel-rapl:0 is a package; intel-rapl:0:0 a part of it, already counted in the whole.
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with("intel-rapl:") || name.matches(':').count() != 1 {
                continue;
            }
            let counter = entry.path().join("energy_uj");
            let range = read_number(&entry.path().join("max_energy_range_uj"))?;
            let start = read_number(&counter)?;
            packages.push(Package { counter, range, start });
        }
        (!packages.is_empty()).then_some(EnergyMeter { packages })
    }
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_summed_parts_are_not_and_a_wrap_is_seen() {
        let root = std::env::temp_dir().join(format!("otedama-powercap-{}", std::process::id()));
        let zone = |name: &str, energy: u64| {
            let zone = root.join(name);
            fs::create_dir_all(&zone).unwrap();
            fs::write(zone.join("max_energy_range_uj"), "10000000\n").unwrap();
            fs::write(zone.join("energy_uj"), format!("{energy}\n")).unwrap();
        };
        zone("intel-rapl:0", 1_000_000);
        zone("intel-rapl:0:0", 500_000);
        zone("intel-rapl:1", 9_000_000);
        let meter = EnergyMeter::start_at(&root).unwrap();
        zone("intel-rapl:0", 3_000_000);
        zone("intel-rapl:0:0", 1_500_000);
        zone("intel-rapl:1", 500_000);
        assert_eq!(meter.stop(), Some(2.0 + 1.5));
        fs::remove_dir_all(&root).unwrap();
        assert!(EnergyMeter::start_at(&root).is_none());
    }
}
