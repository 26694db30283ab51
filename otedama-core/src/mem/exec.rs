//! Memory for machine code that is made at run time.
//!
//! ```text
//!   memfd  --- mapped read + write ----> where code is put
//!     `------- mapped read + execute --> where it runs
//! ```
//!
//! The same pages appear twice, and no address is ever both writable and executable. The other way to
//! that end, one mapping whose rights are flipped, costs two system calls for every program, and each
//! flip takes the lock of the address space and interrupts every processor that runs a thread of the
//! process: where this was measured (a virtual machine of 2.8 GHz) 8 us for a pair of flips in a process
//! of one thread and 17 us beside a second one, and it grows with every further one. Two mappings cost
//! 0.1 us for the serializing instruction, however many threads there are. The price: whoever can already
//! write anywhere in the process and knows the first address can change code.
//!
//! A processor is promised to see code written through another address only after it has executed a
//! serializing instruction (Intel's manual, volume 3, "Handling self- and cross-modifying code"): whoever
//! enters fresh code executes one first.

use std::ffi::c_void;
use std::fmt;
use std::ptr::{NonNull, null_mut};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Why there is no executable memory. Whoever wanted to compile falls back to interpreting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The kernel, or a policy on top of it, forbids it.
    #[error("executable memory is forbidden here ({step}: {reason}); programs are interpreted instead")]
    Forbidden {
        /// What was refused.
        step: &'static str,
        /// The operating system's words.
        reason: String,
    },
    /// There is no memory or no address space left for it.
    #[error("no memory for {bytes} bytes of code ({step}: {reason})")]
    NoMemory {
        /// What failed.
        step: &'static str,
        /// Bytes wanted.
        bytes: usize,
        /// The operating system's words.
        reason: String,
    },
}

/// Pages that are written at one address and executed at another. One owner; unmapped when dropped.
pub struct CodeMemory {
    writable: NonNull<c_void>,
    executable: NonNull<c_void>,
    len: usize,
}

// SAFETY: both mappings are owned by the value and tied to no thread.
unsafe impl Send for CodeMemory {}
// SAFETY: `&CodeMemory` gives out addresses and reads nothing; writing takes `&mut`.
unsafe impl Sync for CodeMemory {}

impl CodeMemory {
    /// At least `len` bytes, all zero, rounded up to whole pages.
    ///
    /// # Errors
    /// [`ExecError`], if the operating system refuses.
    ///
    /// # Panics
    /// If `len` is zero.
    pub fn new(len: usize) -> Result<CodeMemory, ExecError> {
        assert!(len > 0, "code of no bytes");
        let len = len.next_multiple_of(rustix::param::page_size());
        let error = |step, errno: Errno| refusal(step, len, errno);

        // Kernels before 6.3 do not know the wish to execute, and need none.
        let file = match memfd_create("code", MemfdFlags::CLOEXEC | MemfdFlags::EXEC) {
            Err(Errno::INVAL) => memfd_create("code", MemfdFlags::CLOEXEC),
            result => result,
        }
        .map_err(|errno| error("memfd_create", errno))?;
        ftruncate(&file, len as u64).map_err(|errno| error("ftruncate", errno))?;

        let map = |step, access| {
            // SAFETY: a null hint without MAP_FIXED makes the kernel choose a free range, so no existing
            // mapping changes. The file is this function's own and its length is `len`.
            let start = unsafe { mmap(null_mut(), len, access, MapFlags::SHARED, &file, 0) };
            let start = start.map_err(|errno| error(step, errno))?;
            // The kernel hands out address zero only under MAP_FIXED.
            NonNull::new(start).ok_or_else(|| error(step, Errno::NOMEM))
        };
        let executable = map("mmap for execution", ProtFlags::READ | ProtFlags::EXEC)?;
        match map("mmap for writing", ProtFlags::READ | ProtFlags::WRITE) {
            Ok(writable) => Ok(CodeMemory { writable, executable, len }),
            Err(error) => {
                unmap(executable, len);
                Err(error)
            }
        }
    }

    /// The bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is this value's own, `len` bytes, readable and writable as long as the value
        // lives; `&mut self` keeps every other reference away. Code that runs meanwhile reads it through
        // the other mapping, but who runs code from a value must hold on to it by `&` (see `start`).
        unsafe { std::slice::from_raw_parts_mut(self.writable.as_ptr().cast(), self.len) }
    }

    /// Where the bytes can be executed. Valid as long as `self` lives; what lies there is whatever was
    /// last written.
    pub fn start(&self) -> NonNull<u8> {
        self.executable.cast()
    }

    /// How many bytes there are.
    pub fn capacity(&self) -> usize {
        self.len
    }
}

impl fmt::Debug for CodeMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CodeMemory({} bytes)", self.len)
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        unmap(self.writable, self.len);
        unmap(self.executable, self.len);
    }
}

/// Unmaps one of the two mappings of a value under construction or destruction.
fn unmap(start: NonNull<c_void>, len: usize) {
    // SAFETY: only called with a mapping of exactly this length that belongs to the caller, who gives
    // nobody its address any more.
    let done = unsafe { munmap(start.as_ptr(), len) };
    debug_assert!(done.is_ok(), "munmap of an owned mapping failed: {done:?}");
}

fn refusal(step: &'static str, bytes: usize, errno: Errno) -> ExecError {
    let reason = std::io::Error::from(errno).to_string();
    match errno {
        Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::NOSPC => {
            ExecError::NoMemory { step, bytes, reason }
        }
        _ => ExecError::Forbidden { step, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_appears_where_it_is_executed() {
        let mut code = CodeMemory::new(5000).unwrap();
        assert_eq!(code.capacity() % 4096, 0);
        code.bytes_mut()[4999] = 0xc3;
        let seen = code.start().as_ptr().wrapping_add(4999);
        // SAFETY: inside the executable mapping, which is readable and lives as long as `code`.
        assert_eq!(unsafe { seen.read_volatile() }, 0xc3);
    }

    #[test]
    fn no_address_is_writable_and_executable() {
        let code = CodeMemory::new(4096).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let rights = |start: NonNull<u8>| {
            let heading = format!("{:x}-", start.addr());
            let line = maps.lines().find(|line| line.starts_with(&heading)).unwrap();
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        assert_eq!(rights(code.start()), "r-xs");
        assert_eq!(rights(code.writable.cast()), "rw-s");
        assert!(!maps.lines().any(|line| line.split_whitespace().nth(1).is_some_and(|r| r.contains("wx"))));
    }

    #[test]
    fn refusals_say_what_to_expect() {
        let forbidden = refusal("mmap for execution", 4096, Errno::PERM).to_string();
        assert!(forbidden.contains("forbidden here (mmap for execution: "), "{forbidden}");
        assert!(forbidden.ends_with("programs are interpreted instead"), "{forbidden}");
        let full = refusal("mmap for writing", 4096, Errno::NOMEM).to_string();
        assert!(full.starts_with("no memory for 4096 bytes of code"), "{full}");
    }
}
