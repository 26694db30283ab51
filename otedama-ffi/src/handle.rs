//! Handles: what C holds of our objects.
//!
//! A handle is the address of a place in a table that is never freed, and C never looks behind it. So a
//! handle that was freed, that is of another kind or no handle at all is told from a good one by looking
//! it up, and nothing here is unsafe: no pointer that comes from C is followed. Of the
//! [`PLACES`] that are free the one freed last is given out last; until then a freed handle is known.
//!
//! Shared objects (`const` in C) are behind an [`Arc`] that a call takes for as long as it lasts, so one
//! may be freed while another thread's call still works with it. Private ones stay in their place, locked
//! by the call that uses them; a second call at the same time is answered `OTEDAMA_BUSY`.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use otedama_core::epoch::Epoch;
use otedama_core::scan::StopFlag;

use crate::boundary::{Answer, Failure};
use crate::status::{
    OTEDAMA_BAD_HANDLE, OTEDAMA_BUSY, OTEDAMA_NULL_ARGUMENT, OTEDAMA_PANIC, OTEDAMA_TOO_MANY_HANDLES,
};
use crate::{engine, epoch, hash, scan, verify};

/// Handles alive at a time, at most.
pub(crate) const PLACES: usize = 16384;

/// What a place of the table holds. `Empty` is all zeros, so that the table takes no room in the library's
/// file.
#[repr(u8)]
pub(crate) enum Place {
    Empty = 0,
    Stop(Arc<StopFlag>),
    Store(Arc<epoch::Store>),
    Epoch(Arc<Epoch>),
    Engine(Arc<engine::Running>),
    Hasher(Box<Mutex<hash::BoundHasher>>),
    Scanner(Box<Mutex<scan::BoundScanner>>),
    Verifier(Box<Mutex<verify::Worker>>),
}

static TABLE: [RwLock<Place>; PLACES] = [const { RwLock::new(Place::Empty) }; PLACES];

/// Which places are free.
static FREE: Mutex<Free> = Mutex::new(Free { fresh: 0, returned: VecDeque::new() });

static ALIVE: AtomicUsize = AtomicUsize::new(0);

struct Free {
    /// Places from here on were never used.
    fresh: usize,
    /// Used ones, the longest free first.
    returned: VecDeque<usize>,
}

/// A kind of object as C sees it: the type its pointers point to.
pub(crate) trait Handle: Sized {
    /// What the pointer stands for.
    type Object;
    /// What it is called in messages.
    const KIND: &'static str;
}

/// Objects that several threads may use at once.
pub(crate) trait Shared: Handle {
    fn wrap(object: Arc<Self::Object>) -> Place;
    fn pick(place: &Place) -> Option<&Arc<Self::Object>>;
}

/// Objects that one call at a time may use.
pub(crate) trait Private: Handle {
    fn wrap(object: Self::Object) -> Place;
    fn pick(place: &mut Place) -> Option<&mut Self::Object>;
}

/// Declares kinds: C's name, the variant that holds its objects, and what they are called.
macro_rules! kinds {
    ($($trait:ident $name:ident: $object:ty = $variant:ident, $kind:literal;)+) => {$(
        impl Handle for crate::$name {
            type Object = $object;
            const KIND: &'static str = $kind;
        }
        kinds!(@$trait $name $variant);
    )+};
    (@Shared $name:ident $variant:ident) => {
        impl Shared for crate::$name {
            fn wrap(object: Arc<Self::Object>) -> Place {
                Place::$variant(object)
            }
            fn pick(place: &Place) -> Option<&Arc<Self::Object>> {
                if let Place::$variant(object) = place { Some(object) } else { None }
            }
        }
    };
    (@Private $name:ident $variant:ident) => {
        impl Private for crate::$name {
            fn wrap(object: Self::Object) -> Place {
                Place::$variant(Box::new(Mutex::new(object)))
            }
            fn pick(place: &mut Place) -> Option<&mut Self::Object> {
                // The place's lock guards it; the mutex is never locked, and makes it fit for a table.
                let Place::$variant(object) = place else { return None };
                Some(object.get_mut().unwrap_or_else(PoisonError::into_inner))
            }
        }
    };
}

kinds! {
    Shared otedama_stop: StopFlag = Stop, "stop flag";
    Shared otedama_store: epoch::Store = Store, "store";
    Shared otedama_epoch: Epoch = Epoch, "epoch";
    Shared otedama_engine: engine::Running = Engine, "engine";
    Private otedama_hasher: hash::BoundHasher = Hasher, "hasher";
    Private otedama_scanner: scan::BoundScanner = Scanner, "scanner";
    Private otedama_verifier: verify::Worker = Verifier, "verifier";
}

/// A handle for an object of a shared kind.
pub(crate) fn share<H: Shared>(object: Arc<H::Object>) -> Answer<*mut H> {
    give(H::wrap(object))
}

/// A handle for an object of a private kind.
pub(crate) fn own<H: Private>(object: H::Object) -> Answer<*mut H> {
    give(H::wrap(object))
}

/// The object behind a handle of a shared kind.
pub(crate) fn shared<H: Shared>(handle: *const H, argument: &str) -> Answer<Arc<H::Object>> {
    let place = read(find(handle, argument)?, argument)?;
    H::pick(&place).cloned().ok_or_else(|| stranger::<H>(argument))
}

/// The same where NULL stands for none.
pub(crate) fn shared_or_none<H: Shared>(handle: *const H, argument: &str) -> Answer<Option<Arc<H::Object>>> {
    if handle.is_null() { Ok(None) } else { shared(handle, argument).map(Some) }
}

/// Works with the object behind a handle of a private kind.
pub(crate) fn with<H: Private, T>(
    handle: *const H,
    argument: &str,
    work: impl FnOnce(&mut H::Object) -> Answer<T>,
) -> Answer<T> {
    let mut place = write(find(handle, argument)?, argument)?;
    work(H::pick(&mut place).ok_or_else(|| stranger::<H>(argument))?)
}

/// Frees a handle of a shared kind; NULL is fine.
pub(crate) fn release<H: Shared>(handle: *const H, argument: &str) -> Answer<()> {
    free(handle, argument, |place| H::pick(place).is_some())
}

/// Frees a handle of a private kind; NULL is fine.
pub(crate) fn disown<H: Private>(handle: *const H, argument: &str) -> Answer<()> {
    free(handle, argument, |place| H::pick(place).is_some())
}

/// How many handles are alive.
pub(crate) fn alive() -> usize {
    ALIVE.load(Ordering::Relaxed)
}

fn give<H>(object: Place) -> Answer<*mut H> {
    let index = {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.fresh < PLACES {
            free.fresh += 1;
            free.fresh - 1
        } else {
            let message = || format!("{PLACES} handles are alive: free some before making more");
            free.returned.pop_front().ok_or_else(|| Failure::new(OTEDAMA_TOO_MANY_HANDLES, message()))?
        }
    };
    let place = &TABLE[index];
    *place.write().unwrap_or_else(PoisonError::into_inner) = object;
    ALIVE.fetch_add(1, Ordering::Relaxed);
    Ok(std::ptr::from_ref(place).cast::<H>().cast_mut())
}

fn free<H: Handle>(handle: *const H, argument: &str, is_one: impl Fn(&mut Place) -> bool) -> Answer<()> {
    if handle.is_null() {
        return Ok(());
    }
    let slot = find(handle, argument)?;
    let object = {
        // What a panic left behind is freed like anything else.
        slot.clear_poison();
        let mut place = write(slot, argument)?;
        if !is_one(&mut place) {
            return Err(stranger::<H>(argument));
        }
        mem::replace(&mut *place, Place::Empty)
    };
    ALIVE.fetch_sub(1, Ordering::Relaxed);
    // May take a while: unmapping gigabytes, joining threads.
    drop(object);
    FREE.lock().unwrap_or_else(PoisonError::into_inner).returned.push_back(index(handle));
    Ok(())
}

/// The place a pointer from C is the address of.
fn find<H: Handle>(handle: *const H, argument: &str) -> Answer<&'static RwLock<Place>> {
    if handle.is_null() {
        let message = format!("{argument} is NULL: expected a handle of a {}", H::KIND);
        return Err(Failure::new(OTEDAMA_NULL_ARGUMENT, message));
    }
    let aligned = offset(handle).is_multiple_of(size_of::<RwLock<Place>>());
    TABLE.get(index(handle)).filter(|_| aligned).ok_or_else(|| stranger::<H>(argument))
}

fn offset<H>(handle: *const H) -> usize {
    handle.addr().wrapping_sub(TABLE.as_ptr().addr())
}

fn index<H>(handle: *const H) -> usize {
    offset(handle) / size_of::<RwLock<Place>>()
}

fn read(slot: &'static RwLock<Place>, argument: &str) -> Answer<RwLockReadGuard<'static, Place>> {
    slot.try_read().map_err(|refusal| refused(refusal, argument))
}

fn write(slot: &'static RwLock<Place>, argument: &str) -> Answer<RwLockWriteGuard<'static, Place>> {
    slot.try_write().map_err(|refusal| refused(refusal, argument))
}

fn refused<T>(refusal: TryLockError<T>, argument: &str) -> Failure {
    match refusal {
        TryLockError::WouldBlock => {
            let message =
                format!("{argument} is in use by another call: one thread at a time may use this handle");
            Failure::new(OTEDAMA_BUSY, message)
        }
        TryLockError::Poisoned(_) => {
            Failure::new(OTEDAMA_PANIC, format!("an earlier call broke {argument}: free it and make another"))
        }
    }
}

fn stranger<H: Handle>(argument: &str) -> Failure {
    let message = format!("{argument} is no handle of a {}, or was freed", H::KIND);
    Failure::new(OTEDAMA_BAD_HANDLE, message)
}
