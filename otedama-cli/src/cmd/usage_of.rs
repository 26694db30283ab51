//! What a process takes of the machine, as Linux says.

use std::io;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Time that a process has spent on processors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu(Duration);

impl Cpu {
    /// So far; nothing where the system does not say.
    pub(crate) fn of_this_process() -> Cpu {
        Cpu(cpu_of("/proc/self/stat").unwrap_or_default())
    }

    /// From then to now.
    pub(crate) fn since(self, then: Cpu) -> Duration {
        self.0.saturating_sub(then.0)
    }
}

/// Fields 14 and 15 of `proc/PID/stat` (proc(5)): ticks in user and in kernel mode. The second field is the program's name,
/// which may hold anything but ends with the last parenthesis.
fn cpu_of(path: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(path).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let (user, kernel): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Duration::from_secs_f64((user + kernel) as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Memory that this process has in use, in bytes; nothing where the system does not say.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Raises the limit of open files to this many, as far as the system lets it.
///
/// # Errors
/// If that is not far enough, with both numbers.
pub(crate) fn allow_files(wanted: u64) -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let possible = limit.maximum.unwrap_or(u64::MAX);
    if possible < wanted {
        return Err(io::Error::other(format!(
            "{wanted} open files are needed and {possible} allowed: raise the limit (ulimit -n) or ask for fewer \
             connections"
        )));
    }
    limit.current = Some(wanted);
    Ok(setrlimit(Resource::Nofile, limit)?)
}
