//! What can go wrong with a device, one line each.

use std::path::{Path, PathBuf};

use super::DeviceId;

/// Why a device did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// Not the name of a device.
    #[error("unknown device '{0}': expected cuda:N or opencl:P.D as `devices` lists them, such as cuda:0")]
    BadId(String),
    /// No such device.
    #[error("no device {id} here: {there}")]
    NoDevice {
        /// The one asked for.
        id: DeviceId,
        /// Those there are, or why there are none.
        there: String,
    },
    /// Kernel text that does not compile; the log is whole.
    #[error("kernel {name} does not compile on {device}: {}{}", first_error(.log), place_of(.saved.as_deref()))]
    Build {
        /// The device it was compiled for.
        device: DeviceId,
        /// The program.
        name: String,
        /// All the compiler said.
        log: String,
        /// The file that holds it, if there is one.
        saved: Option<PathBuf>,
    },
    /// Kernel text, but nothing to compile it with.
    #[error(
        "kernel {name} has no compiled form for {device} and there is no compiler: install NVRTC (libnvrtc, part of the CUDA toolkit), or use the device through OpenCL"
    )]
    NoCompiler {
        /// The device.
        device: DeviceId,
        /// The program.
        name: String,
    },
    /// A compiled kernel that this driver is too old for.
    #[error(
        "driver {driver} of {device} is too old for the compiled kernel {name}: expected driver {needs} or newer"
    )]
    DriverTooOld {
        /// The device.
        device: DeviceId,
        /// The program.
        name: String,
        /// The driver that is installed.
        driver: String,
        /// The first that would do.
        needs: &'static str,
    },
    /// No such entry point.
    #[error("program {program} has no kernel '{kernel}'")]
    NoKernel {
        /// The program.
        program: String,
        /// The entry point asked for.
        kernel: String,
    },
    /// Arguments that do not fit the kernel.
    #[error("kernel '{kernel}' on {device}: {reason}")]
    Arguments {
        /// The device.
        device: DeviceId,
        /// The entry point.
        kernel: String,
        /// What does not fit.
        reason: String,
    },
    /// Bytes that are not in the buffer.
    #[error("bytes {offset} + {bytes} leave a buffer of {size} bytes on {device}")]
    OutOfBuffer {
        /// The device.
        device: DeviceId,
        /// The first byte.
        offset: u64,
        /// How many.
        bytes: u64,
        /// The buffer's size.
        size: u64,
    },
    /// A buffer larger than the device allows for one.
    #[error("{device} takes buffers of at most {max} bytes: {wanted} were asked for")]
    BufferTooLarge {
        /// The device.
        device: DeviceId,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// Not enough memory.
    #[error("{device} has no room for {wanted} bytes: {}", free_of(*.free, *.total))]
    Memory {
        /// The device.
        device: DeviceId,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes free, if the API tells.
        free: Option<u64>,
        /// Bytes there are in all.
        total: u64,
    },
    /// The device is gone, reset, or did something it was not allowed to: what it held is lost.
    #[error("{device} is lost: {call} failed with {code}")]
    Lost {
        /// The device.
        device: DeviceId,
        /// The function that said so.
        call: &'static str,
        /// The API's name of the error.
        code: String,
    },
    /// It computes wrongly.
    #[error("{device} computes wrongly and is not used: {reason}")]
    Wrong {
        /// The device.
        device: DeviceId,
        /// What came out wrong.
        reason: String,
    },
    /// A job or an epoch that this device's search cannot take.
    #[error("{device} cannot take this work: {reason}")]
    Unsuited {
        /// The device.
        device: DeviceId,
        /// Why not.
        reason: String,
    },
    /// Whoever waited for a dataset, or for the check with it, has asked to stop.
    #[error("making a dataset on {device} was cancelled")]
    Cancelled {
        /// The device.
        device: DeviceId,
    },
    /// Any other failure of a driver's function.
    #[error("{call} failed on {device}: {code}")]
    Call {
        /// The device.
        device: DeviceId,
        /// The function.
        call: &'static str,
        /// The API's name of the error.
        code: String,
    },
}

impl GpuError {
    /// Whether the same may succeed later, with the device opened again.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            GpuError::Lost { .. }
                | GpuError::Call { .. }
                | GpuError::Memory { .. }
                | GpuError::Cancelled { .. }
        )
    }

    /// All that the compiler said, for errors of compilation.
    pub fn log(&self) -> Option<&str> {
        match self {
            GpuError::Build { log, .. } => Some(log),
            _ => None,
        }
    }
}

/// The first line of a compiler's log that names an error, or its first line.
fn first_error(log: &str) -> &str {
    let mut lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines.clone().find(|line| line.to_ascii_lowercase().contains("error"));
    error.or_else(|| lines.next()).unwrap_or("the compiler says nothing")
}

fn place_of(saved: Option<&Path>) -> String {
    saved.map_or(String::new(), |path| format!(" (all of it: {})", path.display()))
}

fn free_of(free: Option<u64>, total: u64) -> String {
    match free {
        Some(free) => format!("{free} of {total} bytes are free"),
        None => format!("of its {total} bytes too few are free"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_error_shows_one_line_and_keeps_the_log() {
        let log = "a.cl:1:1: warning: odd\n  a.cl:2:3: error: use of undeclared identifier 'x'\n";
        let device = DeviceId::OpenCl(0, 1);
        let error = GpuError::Build { device, name: "toy".to_owned(), log: log.to_owned(), saved: None };
        assert_eq!(
            error.to_string(),
            "kernel toy does not compile on opencl:0.1: a.cl:2:3: error: use of undeclared identifier 'x'"
        );
        assert_eq!((error.log(), error.is_retryable()), (Some(log), false));
        let silent = GpuError::Build { device, name: "toy".to_owned(), log: String::new(), saved: None };
        assert!(silent.to_string().ends_with("opencl:0.1: the compiler says nothing"), "{silent}");
    }

    #[test]
    fn memory_is_told_in_bytes_wanted_and_free() {
        let error = GpuError::Memory { device: DeviceId::Cuda(0), wanted: 9, free: Some(5), total: 8 };
        assert_eq!(error.to_string(), "cuda:0 has no room for 9 bytes: 5 of 8 bytes are free");
    }
}
