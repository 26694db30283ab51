//! Memory nodes: binding address ranges to them, and asking where pages ended up. Linux only.

use std::ffi::{c_int, c_long, c_ulong, c_void};
use std::io;

use crate::topology::NodeId;

/// How firmly pages belong on the nodes named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bind {
    /// There or nowhere.
    Strict,
    /// There if possible.
    Preferred,
    /// On all of them in turn.
    Interleaved,
}

/// Nodes that fit the mask handed to the kernel; its own limit is 1024.
const MASK_BITS: usize = 1024;
const WORD_BITS: usize = c_ulong::BITS as usize;

// From the kernel's include/uapi/linux/mempolicy.h.
const MPOL_F_NODE: c_ulong = 1;
const MPOL_F_ADDR: c_ulong = 2;

/// Sets the policy for pages not yet faulted in between `start` and `start + len`.
///
/// # Errors
/// The kernel's: no such node, or a sandbox that forbids the call.
pub(super) fn bind(start: *mut c_void, len: usize, nodes: &[NodeId], how: Bind) -> io::Result<()> {
    let mut mask = [0 as c_ulong; MASK_BITS / WORD_BITS];
    for node in nodes {
        let bit = node.0 as usize;
        if bit >= MASK_BITS {
            return Err(io::Error::other(format!("{node} is beyond the highest node, {}", MASK_BITS - 1)));
        }
        mask[bit / WORD_BITS] |= 1 << (bit % WORD_BITS);
    }
    let mode = match how {
        Bind::Strict => libc::MPOL_BIND,
        Bind::Preferred => libc::MPOL_PREFERRED,
        Bind::Interleaved => libc::MPOL_INTERLEAVE,
    };
    // The kernel reads one bit less than it is told.
    let bits = (MASK_BITS + 1) as c_ulong;
    // SAFETY: mbind reads MASK_BITS bits of `mask`, which lives across the call and is that long, and
    // changes only where future pages of the range come from; it writes no memory.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            start,
            len as c_ulong,
            c_long::from(mode),
            mask.as_ptr(),
            bits,
            0 as c_ulong,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The node that holds the page at `address`, or `None` where the kernel does not say. Faults the page in.
pub(super) fn node_of(address: *const c_void) -> Option<NodeId> {
    let mut node: c_int = -1;
    // SAFETY: get_mempolicy writes one int through its first argument, which points at `node`; the mask
    // is null with a length of zero; the address is only looked up, and a wrong one fails with EFAULT.
    let done = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut node,
            std::ptr::null_mut::<c_ulong>(),
            0 as c_ulong,
            address,
            MPOL_F_NODE | MPOL_F_ADDR,
        )
    };
    if done == 0 { u32::try_from(node).ok().map(NodeId) } else { None }
}
