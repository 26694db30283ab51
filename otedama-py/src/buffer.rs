//! Memory shared with Python without a copy, in both directions: what Python lends for a call, and what an epoch
//! or a batch of digests shows.
//!
//! # Whoever writes to a lent buffer during the call
//!
//! The buffer protocol keeps lent memory where it is (a `bytearray` cannot be resized meanwhile), but does not keep
//! other threads from writing to it while the GIL is released. Such a program has a data race, as it has with
//! `hashlib` and `socket.recv_into`: it gets digests of bytes it did not mean. Lengths and addresses are read once,
//! before, so nothing outside the buffer is touched. Copying every input instead would cost a third of the time of a
//! cheap hash.

#![allow(unsafe_code)]

use std::os::raw::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use otedama_core::epoch;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyIndexError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

use crate::error;

/// A buffer of unsigned bytes, one after the other, that Python lends until this is dropped.
pub(crate) struct Lent {
    buffer: PyBuffer<u8>,
}

impl Lent {
    /// Borrows the argument `name` to read it.
    ///
    /// # Errors
    /// `InputError`, if it is no buffer of unsigned bytes without gaps.
    pub(crate) fn new(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Lent> {
        let kind = object.get_type().name()?;
        let buffer = PyBuffer::<u8>::get(object).map_err(|cause| {
            let error = error::input(format!(
                "{name} is a {kind}: expected a contiguous buffer of unsigned bytes (bytes, bytearray, memoryview, numpy.uint8)"
            ));
            error.set_cause(object.py(), Some(cause));
            error
        })?;
        if !buffer.is_c_contiguous() {
            return Err(error::input(format!(
                "{name} has strides {:?} for shape {:?}: expected a C-contiguous buffer, such as numpy.ascontiguousarray({name})",
                buffer.strides(),
                buffer.shape()
            )));
        }
        Ok(Lent { buffer })
    }

    /// Borrows the argument `name` to write to it.
    ///
    /// # Errors
    /// As [`Lent::new`], and if it is read-only.
    pub(crate) fn writable(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Lent> {
        let lent = Lent::new(name, object)?;
        if lent.buffer.readonly() {
            return Err(error::input(format!("{name} is read-only: expected a writable buffer")));
        }
        Ok(lent)
    }

    /// Its lengths by dimension.
    pub(crate) fn shape(&self) -> &[usize] {
        self.buffer.shape()
    }

    /// The bytes. See the module's words on whoever writes to them.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.buffer.len_bytes() == 0 {
            return &[];
        }
        // SAFETY: the exporter vouched in `PyObject_GetBuffer` for this many bytes at this address, contiguous as
        // checked in `new`, until the buffer is released, which `self` does when it is dropped.
        unsafe { std::slice::from_raw_parts(self.buffer.buf_ptr().cast(), self.buffer.len_bytes()) }
    }

    /// The bytes of a buffer obtained by [`Lent::writable`], to write to.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        assert!(!self.buffer.readonly(), "only writable buffers are written to");
        if self.buffer.len_bytes() == 0 {
            return &mut [];
        }
        // SAFETY: as in `bytes`, and writable as asserted. `&mut self` makes this the only slice of this buffer; that
        // no other lent buffer overlaps it, callers check with `overlaps`.
        unsafe { std::slice::from_raw_parts_mut(self.buffer.buf_ptr().cast(), self.buffer.len_bytes()) }
    }

    /// Whether the two share a byte.
    pub(crate) fn overlaps(&self, other: &Lent) -> bool {
        let range = |lent: &Lent| {
            let start = lent.buffer.buf_ptr() as usize;
            start..start + lent.buffer.len_bytes()
        };
        let (a, b) = (range(self), range(other));
        a.start < b.end && b.start < a.end
    }
}

/// A part of an epoch, as a buffer. Keeps the epoch's memory alive.
#[pyclass(frozen, module = "otedama")]
struct Part {
    epoch: Arc<epoch::Epoch>,
    depth: epoch::Depth,
}

impl Part {
    fn bytes(&self) -> &[u8] {
        let full = self.epoch.full().filter(|_| self.depth == epoch::Depth::Full);
        &full.unwrap_or(self.epoch.light()).copies()[0].region
    }
}

#[pymethods]
impl Part {
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = slf.get().bytes();
        // SAFETY: `view` is CPython's to fill. The bytes do not move, are never written again (an epoch is frozen)
        // and live as long as `slf`, of which the view takes a reference; 1 says read-only.
        let status = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                bytes.as_ptr().cast_mut().cast::<c_void>(),
                bytes.len() as ffi::Py_ssize_t,
                1,
                flags,
            )
        };
        if status == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

/// A read-only memoryview of an epoch's light cache or dataset; `None` if the epoch has no dataset.
pub(crate) fn view<'py>(
    py: Python<'py>,
    epoch: Arc<epoch::Epoch>,
    depth: epoch::Depth,
) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
    if depth > epoch.depth() {
        return Ok(None);
    }
    PyMemoryView::from(Bound::new(py, Part { epoch, depth })?.as_any()).map(Some)
}

/// What `hash_many` returns: n digests of 32 bytes, in the order of the headers.
///
/// A read-only buffer of shape (n, 32), so `numpy.asarray(digests)` copies nothing; a sequence of bytes to
/// everyone else: `digests[0]`, `len(digests)`, `for digest in digests`.
#[pyclass(frozen, module = "otedama")]
pub(crate) struct Digests {
    bytes: Box<[u8]>,
    shape: [ffi::Py_ssize_t; 2],
    strides: [ffi::Py_ssize_t; 2],
}

impl Digests {
    /// Of bytes, 32 for each digest.
    pub(crate) fn new(bytes: Vec<u8>) -> Digests {
        let shape = [(bytes.len() / 32) as ffi::Py_ssize_t, 32];
        Digests { bytes: bytes.into_boxed_slice(), shape, strides: [32, 1] }
    }
}

#[pymethods]
impl Digests {
    fn __len__(&self) -> usize {
        self.bytes.len() / 32
    }

    fn __iter__(slf: Py<Self>) -> DigestIterator {
        DigestIterator { digests: slf, next: AtomicUsize::new(0) }
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Bound<'py, PyBytes>> {
        let count = self.__len__();
        let from_start =
            if index < 0 { count.checked_add_signed(index) } else { usize::try_from(index).ok() };
        let digest = from_start.and_then(|index| self.bytes.chunks_exact(32).nth(index));
        let digest = digest
            .ok_or_else(|| PyIndexError::new_err(format!("digest {index}: expected one of {count}")))?;
        Ok(PyBytes::new(py, digest))
    }

    fn __repr__(&self) -> String {
        format!("<otedama.Digests of shape ({}, 32)>", self.__len__())
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let digests = slf.get();
        // SAFETY: `view` is CPython's to fill. The bytes never move or change and live as long as `slf`, of which the
        // view takes a reference; 1 says read-only.
        let status = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                digests.bytes.as_ptr().cast_mut().cast::<c_void>(),
                digests.bytes.len() as ffi::Py_ssize_t,
                1,
                flags,
            )
        };
        if status != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        if flags & ffi::PyBUF_ND == ffi::PyBUF_ND {
            // SAFETY: `view` was filled above; shape and strides lie in `slf`, which does not move while the view
            // holds it, and consumers do not write to them.
            unsafe {
                (*view).ndim = 2;
                (*view).shape = digests.shape.as_ptr().cast_mut();
                if flags & ffi::PyBUF_STRIDES == ffi::PyBUF_STRIDES {
                    (*view).strides = digests.strides.as_ptr().cast_mut();
                }
            }
        }
        Ok(())
    }
}

/// Goes through digests, one for each taker.
#[pyclass(frozen, module = "otedama")]
struct DigestIterator {
    digests: Py<Digests>,
    next: AtomicUsize,
}

#[pymethods]
impl DigestIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        self.digests.get().bytes.chunks_exact(32).nth(index).map(|digest| PyBytes::new(py, digest))
    }
}
