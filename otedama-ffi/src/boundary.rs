//! The line between C and Rust: pointers become slices and values here, and nowhere else.
//!
//! Every `extern "C"` function is one call of [`guard`], which turns errors into a status with a message
//! and panics into `OTEDAMA_PANIC`. Inside, the macros [`bytes!`], [`text!`], [`record!`], [`value!`] and
//! [`out!`] take the function's arguments by name, so that an error names the one at fault. What they rest
//! on is one promise, which the header makes C give: a pointer that is not NULL points to as many bytes
//! as the function's comment says, readable (inputs) or writable (outputs) until the call returns.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::status::{
    OTEDAMA_BAD_STRUCT_SIZE, OTEDAMA_BAD_TEXT, OTEDAMA_BUFFER_TOO_SMALL, OTEDAMA_NULL_ARGUMENT, OTEDAMA_OK,
    OTEDAMA_OVERLAP, OTEDAMA_PANIC, otedama_status,
};

/// What the inside of a call answers.
pub(crate) type Answer<T> = Result<T, Failure>;

/// A status other than `OTEDAMA_OK`, and a line that says more.
#[derive(Debug)]
pub(crate) struct Failure {
    status: otedama_status,
    message: String,
}

impl Failure {
    pub(crate) fn new(status: otedama_status, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into() }
    }

    pub(crate) fn null(argument: &str) -> Failure {
        Failure::new(OTEDAMA_NULL_ARGUMENT, format!("{argument} is NULL"))
    }
}

thread_local! {
    static LAST_ERROR: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// The inside of every call: answers `OTEDAMA_OK`, or notes the failure for [`otedama_last_error`] and answers
/// its status.
pub(crate) fn guard(work: impl FnOnce() -> Answer<()>) -> otedama_status {
    // Unwind safe: private objects are poisoned by a panic (see `handle`), shared ones hold no half-done
    // changes, and outputs are written last.
    let answer = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(&*panic)));
    match answer {
        Ok(()) => OTEDAMA_OK,
        Err(failure) => {
            note(failure.message);
            failure.status
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    let message = format!("panicked: {}; this is a bug, please report it", text.unwrap_or("no message"));
    Failure::new(OTEDAMA_PANIC, message)
}

fn note(message: String) {
    let text = CString::new(message.replace('\0', "\\0")).unwrap_or_default();
    // A thread that is ending has nobody left to read it.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = Some(text));
}

/// What went wrong in this thread's last call that answered anything but OTEDAMA_OK: one line of UTF-8 that
/// names the argument and what was expected; empty if nothing did. Never NULL. Valid until this thread's
/// next call fails. Any thread; each has its own.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_last_error() -> *const c_char {
    let text = LAST_ERROR.try_with(|last| last.borrow().as_ref().map(|text| text.as_ptr()));
    text.ok().flatten().unwrap_or(c"".as_ptr())
}

/// The bytes of an input: `bytes!(input, input_len)`.
macro_rules! bytes {
    ($at:expr, $len:expr) => {
        // SAFETY: C promises so many readable bytes for as long as the call lasts.
        unsafe { $crate::boundary::In::new($at, $len, stringify!($at)) }?
    };
}

/// A string that ends in NUL, or `None` for NULL: `text!(kernel)`.
macro_rules! text {
    ($at:expr) => {
        // SAFETY: C promises a string that ends in NUL for as long as the call lasts.
        unsafe { $crate::boundary::borrow_text($at, stringify!($at)) }?
    };
}

/// An input struct that begins with its size: `record!(job)`; `record!(setup or default)` takes NULL for all
/// zeros.
macro_rules! record {
    ($at:expr) => {
        // SAFETY: C promises a struct of as many readable bytes as its first member says.
        unsafe { $crate::boundary::copy_record($at, stringify!($at)) }?
    };
    ($at:ident or default) => {
        if $at.is_null() { $crate::boundary::zeroed() } else { record!($at) }
    };
}

/// A copy of a plain value: `value!(target_le)`; `value!(claimed or none)` takes NULL for `None`.
macro_rules! value {
    ($at:expr) => {
        // SAFETY: C promises a readable value of this type.
        unsafe { $crate::boundary::copy_value($at, stringify!($at)) }?
    };
    ($at:ident or none) => {
        if $at.is_null() { None } else { Some(value!($at)) }
    };
}

/// Where to write: `out!(out_hasher)`, or `out!(out_pow, count)` for several; `out!(out_mix, count or none)` takes
/// NULL for `None`.
macro_rules! out {
    ($at:ident) => {
        out!($at, 1)
    };
    ($at:ident, $count:expr) => {
        // SAFETY: C promises room for so many writable values of this type for as long as the call lasts.
        unsafe { $crate::boundary::Out::new($at, $count, stringify!($at)) }?
    };
    ($at:ident, $count:ident or none) => {
        if $at.is_null() { None } else { Some(out!($at, $count)) }
    };
}

pub(crate) use {bytes, out, record, text, value};

/// An input of bytes.
#[derive(Clone, Copy)]
pub(crate) struct In<'a> {
    /// The bytes.
    pub(crate) bytes: &'a [u8],
    argument: &'static str,
}

impl<'a> In<'a> {
    /// `len` bytes at `at`; NULL is fine for none.
    ///
    /// # Safety
    /// If `at` is not NULL, `len` bytes there are readable and stay unchanged during `'a`.
    pub(crate) unsafe fn new(at: *const u8, len: usize, argument: &'static str) -> Answer<In<'a>> {
        let bytes: &[u8] = match (at.is_null(), len) {
            (_, 0) => &[],
            (true, _) => return Err(Failure::null(argument)),
            (false, len) if len > isize::MAX as usize => {
                let message = format!("{argument} has {len} bytes: expected at most {}", isize::MAX);
                return Err(Failure::new(OTEDAMA_BUFFER_TOO_SMALL, message));
            }
            // SAFETY: the caller's promise; the length was checked.
            (false, len) => unsafe { std::slice::from_raw_parts(at, len) },
        };
        Ok(In { bytes, argument })
    }

    pub(crate) fn span(&self) -> Span {
        Span { start: self.bytes.as_ptr().addr(), bytes: self.bytes.len(), argument: self.argument }
    }
}

/// Room for one or several values, to be written once all has gone well.
pub(crate) struct Out<T> {
    at: *mut T,
    count: usize,
    argument: &'static str,
}

impl<T> Out<T> {
    /// # Safety
    /// If `at` is not NULL, `count` values of `T` there are writable for as long as the `Out` is used.
    pub(crate) unsafe fn new(at: *mut T, count: usize, argument: &'static str) -> Answer<Out<T>> {
        if at.is_null() && count > 0 {
            return Err(Failure::null(argument));
        }
        Ok(Out { at, count, argument })
    }

    /// Writes the value, or the first of several.
    pub(crate) fn put(&mut self, value: T) {
        self.put_at(0, value);
    }

    /// Writes the value at an index.
    pub(crate) fn put_at(&mut self, index: usize, value: T) {
        assert!(index < self.count, "written within the room");
        // SAFETY: within the `count` values that the caller of `new` promised; the address need not be
        // aligned, and what was there is not dropped (it is C's).
        unsafe { self.at.add(index).write_unaligned(value) }
    }

    pub(crate) fn span(&self) -> Span {
        let bytes = self.count.saturating_mul(size_of::<T>());
        Span { start: self.at.addr(), bytes, argument: self.argument }
    }
}

/// What C wants back in its callbacks.
pub(crate) struct Userdata(*mut c_void);

// SAFETY: we never follow the pointer; C was told on which threads it gets it back.
unsafe impl Send for Userdata {}
// SAFETY: as above.
unsafe impl Sync for Userdata {}

impl Userdata {
    pub(crate) fn new(pointer: *mut c_void) -> Userdata {
        Userdata(pointer)
    }

    pub(crate) fn get(&self) -> *mut c_void {
        self.0
    }
}

/// Where an argument lies.
pub(crate) struct Span {
    start: usize,
    bytes: usize,
    argument: &'static str,
}

/// Checks that `out` shares no byte with any of the others.
pub(crate) fn check_apart(out: &Span, others: &[Span]) -> Answer<()> {
    let touches = |other: &&Span| {
        let (a, b) = (out, other);
        a.bytes > 0
            && b.bytes > 0
            && a.start.abs_diff(b.start) < if a.start < b.start { a.bytes } else { b.bytes }
    };
    match others.iter().find(touches) {
        None => Ok(()),
        Some(other) => {
            let message =
                format!("{} overlaps {}: expected buffers of their own", out.argument, other.argument);
            Err(Failure::new(OTEDAMA_OVERLAP, message))
        }
    }
}

/// Checks that a buffer of `len` bytes has room for `count` values of `each` bytes.
pub(crate) fn check_room(argument: &str, len: usize, count: usize, each: usize) -> Answer<()> {
    match count.checked_mul(each) {
        Some(needed) if needed <= len => Ok(()),
        _ => {
            let message = format!("{argument} is {len} bytes: expected {count} times {each}");
            Err(Failure::new(OTEDAMA_BUFFER_TOO_SMALL, message))
        }
    }
}

/// # Safety
/// If `at` is not NULL, a string that ends in NUL is there and stays unchanged during `'a`.
pub(crate) unsafe fn borrow_text<'a>(at: *const c_char, argument: &'static str) -> Answer<Option<&'a str>> {
    if at.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(at) };
    let not_utf8 = |_| Failure::new(OTEDAMA_BAD_TEXT, format!("{argument} is not UTF-8"));
    text.to_str().map(Some).map_err(not_utf8)
}

/// # Safety
/// If `at` is not NULL, a value of `T` is readable there; it need not be aligned.
pub(crate) unsafe fn copy_value<T: Copy>(at: *const T, argument: &'static str) -> Answer<T> {
    if at.is_null() {
        return Err(Failure::null(argument));
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { at.read_unaligned() })
}

/// A struct that C fills in: begins with `struct_size: u32`, and any bytes make one.
///
/// # Safety
/// All bytes zero is a value, and so is whatever C may put there: integers, pointers that are followed only
/// through this module, and nullable function pointers.
pub(crate) unsafe trait Record: Copy {
    /// What C calls it.
    const NAME: &'static str;
}

/// Says of structs that C may fill them in.
macro_rules! records {
    ($($name:ident)+) => {$(
        // SAFETY: integers, raw pointers and `Option`s of function pointers: any bytes that C can put
        // there make one, zeros too.
        unsafe impl Record for crate::$name {
            const NAME: &'static str = stringify!($name);
        }
    )+};
}

records! {
    otedama_setup otedama_store_config otedama_epoch_key otedama_job otedama_space otedama_engine_config
    otedama_bench_config
}

/// A struct of zeros: the default of every member.
pub(crate) fn zeroed<T: Record>() -> T {
    // SAFETY: a `Record` may be all zeros.
    unsafe { std::mem::zeroed() }
}

/// The largest struct believed to be one: a garbage size must not lead us far.
const LARGEST_RECORD: usize = 4096;

/// A copy of a struct from C. One from a newer header, with members we do not know, is accepted as long as
/// those are zero: then they ask for nothing.
///
/// # Safety
/// If `at` is not NULL, its first four bytes are readable, and as many bytes as they say.
pub(crate) unsafe fn copy_record<T: Record>(at: *const T, argument: &'static str) -> Answer<T> {
    if at.is_null() {
        return Err(Failure::null(argument));
    }
    // SAFETY: the caller's promise; every `Record` begins with this member.
    let given = unsafe { at.cast::<u32>().read_unaligned() } as usize;
    let ours = size_of::<T>();
    let wrong = |expected: String| {
        let message = format!("{argument}->struct_size is {given}: expected sizeof({}), {expected}", T::NAME);
        Err(Failure::new(OTEDAMA_BAD_STRUCT_SIZE, message))
    };
    if given < ours || given > LARGEST_RECORD {
        return wrong(ours.to_string());
    }
    let mut record = zeroed::<T>();
    // SAFETY: `given` bytes are readable, which are at least `ours`; the copy is ours alone.
    let rest = unsafe {
        ptr::copy_nonoverlapping(at.cast::<u8>(), ptr::from_mut(&mut record).cast::<u8>(), ours);
        std::slice::from_raw_parts(at.cast::<u8>().add(ours), given - ours)
    };
    if rest.iter().any(|&byte| byte != 0) {
        return wrong(format!("{ours}, or zeros in the members this version does not know"));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_told_by_a_single_byte() {
        let span = |start, bytes, argument| Span { start, bytes, argument };
        let apart = |a: (usize, usize), b: (usize, usize)| {
            let there = check_apart(&span(a.0, a.1, "out"), &[span(b.0, b.1, "in")]);
            let back = check_apart(&span(b.0, b.1, "in"), &[span(a.0, a.1, "out")]);
            assert_eq!(there.is_ok(), back.is_ok());
            there.is_ok()
        };
        assert!(apart((100, 10), (110, 5)) && apart((100, 10), (95, 5)) && apart((100, 0), (100, 5)));
        assert!(!apart((100, 10), (109, 5)) && !apart((100, 10), (96, 5)) && !apart((100, 10), (102, 3)));
    }

    #[test]
    fn a_panic_becomes_a_status_and_a_message() {
        let status = guard(|| panic!("on purpose"));
        assert_eq!(status, OTEDAMA_PANIC);
        // SAFETY: never NULL, and no call has failed since.
        let message = unsafe { CStr::from_ptr(otedama_last_error()) }.to_str().unwrap();
        assert_eq!(message, "panicked: on purpose; this is a bug, please report it");
    }
}
