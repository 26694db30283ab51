//! What calls answer: numbers grouped by hundreds, never reused, and how the core's errors become them.

use std::ffi::{CStr, c_char};

use otedama_core::algorithm::UnknownAlgorithm;
use otedama_core::engine::EngineError;
use otedama_core::epoch::{EpochError, SeedTooLong};
use otedama_core::job::JobError;
use otedama_core::measure::MeasureError;
use otedama_core::scan::{HashError, KernelError, ScanError};
use otedama_core::target::{BadDifficulty, TargetError};
use otedama_core::verify::Reject;

use crate::boundary::Failure;

/// What a call answers: OTEDAMA_OK, or why it did nothing.
pub type otedama_status = u32;

/// Done.
pub const OTEDAMA_OK: otedama_status = 0;

// 1xx: arguments.

/// A pointer that must not be NULL is.
pub const OTEDAMA_NULL_ARGUMENT: otedama_status = 101;
/// A struct's struct_size is not its size: set it to sizeof the struct and the rest to zero.
pub const OTEDAMA_BAD_STRUCT_SIZE: otedama_status = 102;
/// A buffer is too small for what belongs there.
pub const OTEDAMA_BUFFER_TOO_SMALL: otedama_status = 103;
/// An output overlaps an input or another output.
pub const OTEDAMA_OVERLAP: otedama_status = 104;
/// A handle that is no handle of this kind, or was freed.
pub const OTEDAMA_BAD_HANDLE: otedama_status = 105;
/// Another call is using the handle, or the call is made from a callback that may not make it.
pub const OTEDAMA_BUSY: otedama_status = 106;
/// A number or name that is no algorithm of this version.
pub const OTEDAMA_UNKNOWN_ALGORITHM: otedama_status = 107;
/// A string that is not UTF-8.
pub const OTEDAMA_BAD_TEXT: otedama_status = 108;
/// A number that means nothing here.
pub const OTEDAMA_BAD_VALUE: otedama_status = 109;
/// As many handles as there may be are alive.
pub const OTEDAMA_TOO_MANY_HANDLES: otedama_status = 110;
/// An input this algorithm does not take: its length, or sealed work where bytes are hashed.
pub const OTEDAMA_BAD_INPUT: otedama_status = 111;

// 2xx: kernels and the machine.

/// No kernel of this name.
pub const OTEDAMA_UNKNOWN_KERNEL: otedama_status = 201;
/// This version, this CPU or the setup has nothing to do it with.
pub const OTEDAMA_UNSUPPORTED: otedama_status = 202;
/// A kernel computed a known answer wrongly and is not used.
pub const OTEDAMA_SELF_TEST_FAILED: otedama_status = 203;
/// There is not enough memory.
pub const OTEDAMA_OUT_OF_MEMORY: otedama_status = 204;
/// A device failed.
pub const OTEDAMA_DEVICE_FAILED: otedama_status = 205;
/// A thread could not be started, or not be pinned to its CPU.
pub const OTEDAMA_THREAD_FAILED: otedama_status = 206;

// 3xx: jobs and scans.

/// What is given makes no job.
pub const OTEDAMA_BAD_JOB: otedama_status = 301;
/// The target is zero, or no target.
pub const OTEDAMA_BAD_TARGET: otedama_status = 302;
/// Nonces or versions leave the job's space, or are none.
pub const OTEDAMA_BAD_SPACE: otedama_status = 303;
/// No job is loaded.
pub const OTEDAMA_NO_JOB: otedama_status = 304;
/// The algorithm needs an epoch and none was given.
pub const OTEDAMA_NO_EPOCH: otedama_status = 305;
/// The epoch is another algorithm's or another era's.
pub const OTEDAMA_WRONG_EPOCH: otedama_status = 306;

// 4xx: epochs.

/// The store's budget of bytes is spent.
pub const OTEDAMA_BUDGET_SPENT: otedama_status = 401;
/// The call was told to stop.
pub const OTEDAMA_CANCELLED: otedama_status = 402;
/// The algorithm has no epochs, the key is none of its, or the part asked for is not there.
pub const OTEDAMA_BAD_EPOCH: otedama_status = 403;

// 5xx: why a claim is no share.

/// The hash is above the target.
pub const OTEDAMA_ABOVE_TARGET: otedama_status = 501;
/// The hash differs from the one claimed.
pub const OTEDAMA_WRONG_HASH: otedama_status = 502;
/// The mix hash differs from the one claimed.
pub const OTEDAMA_WRONG_MIX: otedama_status = 503;
/// The job does not allow the nonce or the version.
pub const OTEDAMA_NOT_ALLOWED: otedama_status = 504;

// 6xx: engines and measurements.

/// The engine was stopped.
pub const OTEDAMA_STOPPED: otedama_status = 601;
/// A kernel gave wrong results while it was measured.
pub const OTEDAMA_WRONG_RESULTS: otedama_status = 602;

// 9xx: bugs.

/// The library met a bug of its own. Handles the call was using are to be freed and not used again.
pub const OTEDAMA_PANIC: otedama_status = 901;
/// Something for which this version of the header has no number.
pub const OTEDAMA_OTHER: otedama_status = 902;

// Last added: OTEDAMA_OTHER (ABI 1).

static MESSAGES: &[(otedama_status, &CStr)] = &[
    (OTEDAMA_OK, c"ok"),
    (OTEDAMA_NULL_ARGUMENT, c"an argument is NULL that must not be"),
    (OTEDAMA_BAD_STRUCT_SIZE, c"a struct_size is not the struct's size"),
    (OTEDAMA_BUFFER_TOO_SMALL, c"a buffer is too small"),
    (OTEDAMA_OVERLAP, c"an output overlaps another buffer"),
    (OTEDAMA_BAD_HANDLE, c"no such handle, or it was freed"),
    (OTEDAMA_BUSY, c"the handle is in use by another call"),
    (OTEDAMA_UNKNOWN_ALGORITHM, c"unknown algorithm"),
    (OTEDAMA_BAD_TEXT, c"a string is not UTF-8"),
    (OTEDAMA_BAD_VALUE, c"a number is out of its range"),
    (OTEDAMA_TOO_MANY_HANDLES, c"too many handles are alive"),
    (OTEDAMA_BAD_INPUT, c"the algorithm takes no such input"),
    (OTEDAMA_UNKNOWN_KERNEL, c"unknown kernel"),
    (OTEDAMA_UNSUPPORTED, c"not supported by this version, this CPU or the setup"),
    (OTEDAMA_SELF_TEST_FAILED, c"a kernel failed its self-test"),
    (OTEDAMA_OUT_OF_MEMORY, c"not enough memory"),
    (OTEDAMA_DEVICE_FAILED, c"a device failed"),
    (OTEDAMA_THREAD_FAILED, c"a thread could not be started or pinned"),
    (OTEDAMA_BAD_JOB, c"this is no job"),
    (OTEDAMA_BAD_TARGET, c"this is no target"),
    (OTEDAMA_BAD_SPACE, c"nonces or versions leave the job's space"),
    (OTEDAMA_NO_JOB, c"no job is loaded"),
    (OTEDAMA_NO_EPOCH, c"the algorithm needs an epoch"),
    (OTEDAMA_WRONG_EPOCH, c"the epoch is another one"),
    (OTEDAMA_BUDGET_SPENT, c"the store's budget is spent"),
    (OTEDAMA_CANCELLED, c"cancelled"),
    (OTEDAMA_BAD_EPOCH, c"there is no such epoch, or no such part of it"),
    (OTEDAMA_ABOVE_TARGET, c"the hash is above the target"),
    (OTEDAMA_WRONG_HASH, c"the hash differs from the one claimed"),
    (OTEDAMA_WRONG_MIX, c"the mix hash differs from the one claimed"),
    (OTEDAMA_NOT_ALLOWED, c"the job does not allow this nonce or version"),
    (OTEDAMA_STOPPED, c"the engine was stopped"),
    (OTEDAMA_WRONG_RESULTS, c"the kernel gave wrong results"),
    (OTEDAMA_PANIC, c"a bug in the library; please report it"),
    (OTEDAMA_OTHER, c"another error"),
];

/// What a status means, in a few words: a static string, never NULL. otedama_last_error() says more.
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_status_message(status: otedama_status) -> *const c_char {
    let known = MESSAGES.iter().find(|(number, _)| *number == status);
    known.map_or(c"unknown status", |(_, message)| message).as_ptr()
}

/// Gives a core error its number and its own words.
macro_rules! failures {
    ($($error:ty { $($pattern:pat => $status:expr,)+ })+) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                #[allow(unreachable_patterns, reason = "some of these enums will grow")]
                let status = match &error {
                    $($pattern => $status,)+
                    _ => OTEDAMA_OTHER,
                };
                Failure::new(status, error.to_string())
            }
        }
    )+};
}

failures! {
    UnknownAlgorithm { _ => OTEDAMA_UNKNOWN_ALGORITHM, }
    SeedTooLong { _ => OTEDAMA_BAD_EPOCH, }
    TargetError { _ => OTEDAMA_BAD_TARGET, }
    BadDifficulty { _ => OTEDAMA_BAD_VALUE, }
    JobError {
        JobError::OutsideSpace { .. } | JobError::EmptyRange => OTEDAMA_BAD_SPACE,
        _ => OTEDAMA_BAD_JOB,
    }
    HashError {
        HashError::WrongInput { .. } => OTEDAMA_BAD_INPUT,
        HashError::NoEpoch(_) => OTEDAMA_NO_EPOCH,
        HashError::WrongEpoch { .. } => OTEDAMA_WRONG_EPOCH,
        HashError::Device(_) => OTEDAMA_DEVICE_FAILED,
    }
    ScanError {
        ScanError::WrongAlgorithm { .. } => OTEDAMA_BAD_JOB,
        ScanError::NoJob => OTEDAMA_NO_JOB,
        ScanError::Space(_) | ScanError::TooManyVersions { .. } => OTEDAMA_BAD_SPACE,
        ScanError::NoRoom { .. } => OTEDAMA_BUFFER_TOO_SMALL,
        ScanError::NoEpoch(_) => OTEDAMA_NO_EPOCH,
        ScanError::WrongEpoch { .. } => OTEDAMA_WRONG_EPOCH,
        ScanError::Device(_) => OTEDAMA_DEVICE_FAILED,
    }
    EpochError {
        EpochError::Budget { .. } => OTEDAMA_BUDGET_SPENT,
        EpochError::Memory(_) => OTEDAMA_OUT_OF_MEMORY,
        EpochError::Cancelled(_) => OTEDAMA_CANCELLED,
        EpochError::NoFull { .. } => OTEDAMA_BAD_EPOCH,
        EpochError::Thread { .. } => OTEDAMA_THREAD_FAILED,
        EpochError::Panicked { .. } | EpochError::Incomplete { .. } => OTEDAMA_PANIC,
    }
    KernelError {
        KernelError::Unknown { .. } => OTEDAMA_UNKNOWN_KERNEL,
        KernelError::Missing { .. } | KernelError::None(_) | KernelError::Code { .. } => OTEDAMA_UNSUPPORTED,
        KernelError::Memory { .. } => OTEDAMA_OUT_OF_MEMORY,
        KernelError::SelfTest { .. } => OTEDAMA_SELF_TEST_FAILED,
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        let status = match error {
            EngineError::Kernel(error) => return error.into(),
            EngineError::NoWorkers => OTEDAMA_BAD_VALUE,
            EngineError::Pin { .. } | EngineError::Spawn(_) => OTEDAMA_THREAD_FAILED,
            EngineError::MakePanicked { .. } => OTEDAMA_PANIC,
            _ => OTEDAMA_OTHER,
        };
        Failure::new(status, error.to_string())
    }
}

impl From<MeasureError> for Failure {
    fn from(error: MeasureError) -> Failure {
        match error {
            MeasureError::Engine(error) => error.into(),
            MeasureError::Kernel(error) => error.into(),
            MeasureError::Scan(error) => error.into(),
            error => Failure::new(OTEDAMA_OTHER, error.to_string()),
        }
    }
}

impl From<Reject> for Failure {
    fn from(reject: Reject) -> Failure {
        let status = match reject {
            Reject::Hash(error) => return error.into(),
            Reject::WrongAlgorithm { .. } => OTEDAMA_BAD_JOB,
            Reject::NotAllowed => OTEDAMA_NOT_ALLOWED,
            Reject::WrongMix => OTEDAMA_WRONG_MIX,
            Reject::WrongHash(_) => OTEDAMA_WRONG_HASH,
            Reject::AboveTarget { .. } => OTEDAMA_ABOVE_TARGET,
            _ => OTEDAMA_OTHER,
        };
        Failure::new(status, reject.to_string())
    }
}
