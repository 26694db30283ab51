//! The two ways to fail: the caller asked for something impossible, or the work went wrong.

use std::fmt;
use std::io;
use std::process::ExitCode;

use otedama_core::engine::EngineError;
use otedama_core::measure::MeasureError;
use otedama_core::scan::KernelError;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Bad usage: exit code 2.
    Usage(anyhow::Error),
    /// The work failed: exit code 1.
    Work(anyhow::Error),
}

/// What every command returns.
pub(crate) type Outcome = Result<(), Failure>;

/// Bad usage, in one line that names the value and what was expected.
pub(crate) fn usage(message: impl fmt::Display) -> Failure {
    Failure::Usage(anyhow::anyhow!("{message}"))
}

/// Work that failed, in one line.
pub(crate) fn work(message: impl fmt::Display) -> Failure {
    Failure::Work(anyhow::anyhow!("{message}"))
}

impl Failure {
    /// 2 for bad usage, 1 for work that failed; a reader who left early is no failure.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Work(_) if self.is_broken_pipe() => ExitCode::SUCCESS,
            Failure::Work(_) => ExitCode::from(1),
        }
    }

    /// Whether all that happened is that the reader of standard output left (`| head`).
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let (Failure::Usage(error) | Failure::Work(error)) = self;
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Usage(error) | Failure::Work(error)) = self;
        error.fmt(f)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Work(error.into())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        // Writing JSON fails only if the writer does.
        Failure::Work(io::Error::from(error).into())
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Failure {
        match error {
            KernelError::Unknown { .. } | KernelError::Missing { .. } | KernelError::None(_) => {
                Failure::Usage(error.into())
            }
            _ => Failure::Work(error.into()),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        match error {
            EngineError::Kernel(error) => error.into(),
            EngineError::Pin { .. } | EngineError::NoWorkers => Failure::Usage(error.into()),
            _ => Failure::Work(error.into()),
        }
    }
}

impl From<MeasureError> for Failure {
    fn from(error: MeasureError) -> Failure {
        match error {
            MeasureError::Engine(error) => error.into(),
            MeasureError::Kernel(error) => error.into(),
            _ => Failure::Work(error.into()),
        }
    }
}
