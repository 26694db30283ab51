//! The store: who builds, who waits, what is kept, and what makes room.
//!
//! One mutex guards a small table and one condition variable says that the table changed; building,
//! mapping and unmapping happen outside the lock. The rules:
//!
//! - The first caller of a part builds it, on its own thread and helpers; later ones wait for that build.
//!   A caller of the full part is a caller of the light part first, so light is out as soon as it exists.
//! - The store keeps one reference of its own to the full part asked for last and the light parts of
//!   the last [`KEPT_LIGHT`] keys, per algorithm, besides what was announced. What it let go can still
//!   be found as long as somebody holds it.
//! - The budget counts every byte from reservation to unmapping, whoever holds it. A caller who needs
//!   room takes what only the store holds: old full parts, old light parts, then what was built ahead.
//!   Building ahead takes room from nobody.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::build::{fill_full, guarded};
use super::replica::{Charge, Ledger, layout};
use super::{Depth, Epoch, EpochBuilder, EpochError, EpochKey, Placement, Progress, Replicas};
use crate::mem::{NodePolicy, PageSet};
use crate::topology::{NodeId, Topology};

/// Light parts kept per algorithm: the current epoch's and, for late shares, the one before.
const KEPT_LIGHT: usize = 2;

/// How long a waiter sleeps before it looks at its own cancel flag.
const TICK: Duration = Duration::from_millis(20);

/// How many ticks a shortage of room must last before it is believed: memory on its way out is counted
/// until it is unmapped, which takes a while for gigabytes.
const PATIENCE_TICKS: u32 = 10;

/// How a store works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Bytes all epochs together may take, alive or being built; rounding to whole pages comes on top.
    pub byte_budget: u64,
    /// Where copies go.
    pub placement: Placement,
    /// The memory nodes that have workers. A node that is not there costs a note, nothing else.
    pub nodes: Vec<NodeId>,
    /// The page kinds to try.
    pub pages: PageSet,
    /// Threads that fill a full part, at least 1.
    pub threads: usize,
}

impl StoreConfig {
    /// A copy on each node that has usable CPUs, on the largest pages to be had, built by all CPUs.
    pub fn for_machine(topology: &Topology, byte_budget: u64) -> StoreConfig {
        StoreConfig {
            byte_budget,
            placement: Placement::Replicate,
            nodes: topology.worker_nodes(),
            pages: PageSet::ALL,
            threads: topology.cpus().len(),
        }
    }
}

/// Epochs by key, each built once and shared.
///
/// Dropping the store stops what it builds ahead; epochs in use stay valid.
#[derive(Debug)]
pub struct EpochStore {
    shared: Arc<Shared>,
    background: Mutex<Vec<(Progress, JoinHandle<()>)>>,
}

impl EpochStore {
    /// An empty store.
    pub fn new(config: StoreConfig) -> EpochStore {
        let shared = Shared {
            layout: layout(config.placement, &config.nodes),
            ledger: Ledger::new(config.byte_budget),
            config,
            table: Mutex::default(),
            changed: Condvar::new(),
        };
        EpochStore { shared: Arc::new(shared), background: Mutex::default() }
    }

    /// The epoch `key`, to the depth asked: at once if it is there, after waiting if someone is
    /// building it, else built here, which takes seconds to minutes. `progress` shows the build and can
    /// end the call; ending the call that builds ends the build for everyone who waits for it. Numbers
    /// add up over the calls a progress is used for, so give each call a new one.
    ///
    /// # Errors
    /// [`EpochError`]; nothing is left behind, and the next call starts anew.
    pub fn get(
        &self,
        builder: &Arc<dyn EpochBuilder>,
        key: &EpochKey,
        depth: Depth,
        progress: &Progress,
    ) -> Result<Arc<Epoch>, EpochError> {
        self.shared.obtain(&**builder, key, depth, progress, Call::Get)
    }

    /// Starts to build an epoch that will be needed, on a thread of its own, if the budget has room as
    /// it is. The progress returned shows the build and can end it. A build that fails later leaves
    /// nothing behind, and [`EpochStore::get`] will try again.
    ///
    /// # Errors
    /// [`EpochError::Budget`] where there is no room, [`EpochError::NoFull`], [`EpochError::Thread`].
    pub fn announce(
        &self,
        builder: &Arc<dyn EpochBuilder>,
        key: &EpochKey,
        depth: Depth,
    ) -> Result<Progress, EpochError> {
        if let Some(progress) = self.shared.room_ahead(&**builder, key, depth)? {
            return Ok(progress);
        }
        let progress = Progress::new();
        let (shared, builder, key, watched) =
            (Arc::clone(&self.shared), Arc::clone(builder), *key, progress.clone());
        let work = move || {
            // Nobody waits for the outcome here: a failure shows when the epoch is asked for.
            let _ = shared.obtain(&*builder, &key, depth, &watched, Call::Ahead);
        };
        let thread = thread::Builder::new().name("otedama-epoch".to_owned()).spawn(work);
        let thread = thread.map_err(|error| EpochError::Thread { key, reason: error.to_string() })?;
        let mut background = self.background.lock().unwrap_or_else(PoisonError::into_inner);
        background.retain(|(_, thread)| !thread.is_finished());
        background.push((progress.clone(), thread));
        Ok(progress)
    }

    /// Bytes taken from the budget: every epoch alive or being built, whoever holds it.
    pub fn held_bytes(&self) -> u64 {
        self.shared.ledger.held()
    }

    /// How the store works.
    pub fn config(&self) -> &StoreConfig {
        &self.shared.config
    }
}

impl Drop for EpochStore {
    fn drop(&mut self) {
        let background = self.background.get_mut().unwrap_or_else(PoisonError::into_inner);
        background.iter().for_each(|(progress, _)| progress.cancel());
        for (_, thread) in background.drain(..) {
            // Panics of builders are caught on the way; there is nothing to report.
            let _ = thread.join();
        }
    }
}

/// Who wants an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// A user, now.
    Get,
    /// An announcement.
    Ahead,
}

#[derive(Debug)]
struct Shared {
    config: StoreConfig,
    layout: Vec<NodePolicy>,
    ledger: Arc<Ledger>,
    table: Mutex<Table>,
    /// The table changed: a build ended.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    slots: HashMap<EpochKey, Slot>,
    builds: HashMap<(EpochKey, Depth), Arc<Build>>,
    /// Counts calls of `get`.
    clock: u64,
}

/// What the store knows of one key.
#[derive(Debug, Default)]
struct Slot {
    light: Held,
    full: Held,
    /// The clock when it was last asked for; zero for what is only announced.
    asked: u64,
}

/// An epoch the store holds, or once held and may find again.
#[derive(Debug, Default)]
struct Held {
    own: Option<Arc<Epoch>>,
    seen: Weak<Epoch>,
}

/// A build under way.
#[derive(Debug, Default)]
struct Build {
    progress: Progress,
    /// Bytes it has reserved.
    charged: AtomicU64,
    /// The store stopped it to make room; who waits for it must ask again.
    evicted: AtomicBool,
    outcome: OnceLock<Result<Arc<Epoch>, EpochError>>,
}

impl Shared {
    fn obtain(
        &self,
        builder: &dyn EpochBuilder,
        key: &EpochKey,
        depth: Depth,
        progress: &Progress,
        call: Call,
    ) -> Result<Arc<Epoch>, EpochError> {
        loop {
            let mut table = self.lock();
            // Under the lock, so that no build starts after `stop_one_ahead` has marked those it stops.
            progress.check()?;
            let retired = if call == Call::Get { table.ask(key, depth) } else { Vec::new() };
            if let Some(epoch) = table.find(key, depth) {
                drop(table);
                drop(retired);
                return Ok(epoch);
            }
            if let Some(build) = table.builds.get(&(*key, depth)).cloned() {
                let outcome = self.wait(table, &build, progress);
                if outcome.is_err() && build.evicted.load(Ordering::Relaxed) {
                    continue;
                }
                return outcome;
            }
            let build = Arc::new(Build { progress: progress.clone(), ..Build::default() });
            table.slots.entry(*key).or_default();
            table.builds.insert((*key, depth), Arc::clone(&build));
            drop(table);
            // Old parts are unmapped here, before the new one is reserved.
            drop(retired);

            let outcome = guarded(key, || match depth {
                Depth::Light => self.make_light(builder, key, &build),
                Depth::Full => self.make_full(builder, key, &build, call),
            });
            self.lock().finish(key, depth, &build, &outcome);
            self.changed.notify_all();
            return outcome;
        }
    }

    fn wait(
        &self,
        mut table: MutexGuard<'_, Table>,
        build: &Build,
        progress: &Progress,
    ) -> Result<Arc<Epoch>, EpochError> {
        loop {
            progress.mirror(&build.progress);
            if let Some(outcome) = build.outcome.get() {
                return outcome.clone();
            }
            progress.check()?;
            table = self.sleep(table);
        }
    }

    fn make_light(
        &self,
        builder: &dyn EpochBuilder,
        key: &EpochKey,
        build: &Build,
    ) -> Result<Arc<Epoch>, EpochError> {
        let bytes = builder.light_bytes(key);
        let charge = self.reserve(key, bytes, build)?;
        build.progress.expect(bytes);
        let fill = |out: &mut [u8]| Ok(builder.build_light(key, out, &build.progress)?);
        let light = Replicas::build(bytes, &self.layout, self.config.pages, charge, fill)?;
        Ok(Arc::new(Epoch { key: *key, light: Arc::new(light), full: None }))
    }

    fn make_full(
        &self,
        builder: &dyn EpochBuilder,
        key: &EpochKey,
        build: &Build,
        call: Call,
    ) -> Result<Arc<Epoch>, EpochError> {
        let bytes = builder.full_bytes(key).ok_or(EpochError::NoFull { key: *key })?;
        let light = Arc::clone(&self.obtain(builder, key, Depth::Light, &build.progress, call)?.light);
        let charge = self.reserve(key, bytes, build)?;
        build.progress.expect(bytes);
        let threads = self.config.threads.max(1);
        let fill = |out: &mut [u8]| {
            fill_full(builder, key, &light.copies()[0].region, out, threads, &build.progress)
        };
        let full = Replicas::build(bytes, &self.layout, self.config.pages, charge, fill)?;
        Ok(Arc::new(Epoch { key: *key, light, full: Some(full) }))
    }

    /// Takes all copies of a part from the budget, making room where the key was asked for.
    fn reserve(&self, key: &EpochKey, bytes: usize, build: &Build) -> Result<Charge, EpochError> {
        let wanted = self.all_copies(bytes);
        let mut patience = if wanted > self.ledger.budget() { 0 } else { PATIENCE_TICKS };
        loop {
            build.progress.check()?;
            let mut table = self.lock();
            if let Some(charge) = self.ledger.charge(wanted) {
                build.charged.store(wanted, Ordering::Relaxed);
                return Ok(charge);
            }
            let over = self.ledger.held().saturating_add(wanted).saturating_sub(self.ledger.budget());
            if table.is_ahead(key) || table.room(key) < over {
                if patience == 0 {
                    return Err(self.refusal(key, wanted));
                }
                patience -= 1;
                drop(self.sleep(table));
                continue;
            }
            if let Some(evicted) = table.evict(key) {
                drop(table);
                drop(evicted);
            } else {
                table.stop_one_ahead(key);
                drop(self.sleep(table));
            }
        }
    }

    /// Whether an announced build may start: `None` if so, the progress to watch if there is nothing to
    /// start, an error if there is no room.
    fn room_ahead(
        &self,
        builder: &dyn EpochBuilder,
        key: &EpochKey,
        depth: Depth,
    ) -> Result<Option<Progress>, EpochError> {
        let light_bytes = builder.light_bytes(key);
        let full_bytes = match depth {
            Depth::Light => 0,
            Depth::Full => builder.full_bytes(key).ok_or(EpochError::NoFull { key: *key })?,
        };
        let mut table = self.lock();
        if table.find(key, depth).is_some() {
            return Ok(Some(Progress::new()));
        }
        if let Some(build) = table.builds.get(&(*key, depth)) {
            return Ok(Some(build.progress.clone()));
        }
        let has_light =
            table.builds.contains_key(&(*key, Depth::Light)) || table.find(key, Depth::Light).is_some();
        let bytes = full_bytes.saturating_add(if has_light { 0 } else { light_bytes });
        let wanted = self.all_copies(bytes);
        let fits = self.ledger.held().saturating_add(wanted) <= self.ledger.budget();
        if fits || !table.is_ahead(key) { Ok(None) } else { Err(self.refusal(key, wanted)) }
    }

    fn all_copies(&self, bytes: usize) -> u64 {
        (bytes as u64).saturating_mul(self.layout.len() as u64)
    }

    fn refusal(&self, key: &EpochKey, wanted: u64) -> EpochError {
        EpochError::Budget { key: *key, wanted, budget: self.ledger.budget(), held: self.ledger.held() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // No code of an algorithm runs under the lock, so a poisoned table is still whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep<'a>(&self, table: MutexGuard<'a, Table>) -> MutexGuard<'a, Table> {
        self.changed.wait_timeout(table, TICK).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Table {
    /// Notes that a user wants a key, and lets go of what it replaces. The caller drops what comes back
    /// once the lock is released.
    fn ask(&mut self, key: &EpochKey, depth: Depth) -> Vec<Arc<Epoch>> {
        self.clock += 1;
        self.slots.entry(*key).or_default().asked = self.clock;
        let mut others: Vec<&mut Slot> = self
            .slots
            .iter_mut()
            .filter(|(other, slot)| *other != key && other.algorithm == key.algorithm && slot.asked > 0)
            .map(|(_, slot)| slot)
            .collect();
        others.sort_by_key(|slot| std::cmp::Reverse(slot.asked));
        let mut retired = Vec::new();
        for (age, slot) in others.into_iter().enumerate() {
            if depth == Depth::Full {
                retired.extend(slot.full.own.take());
            }
            if age + 1 >= KEPT_LIGHT {
                retired.extend(slot.light.own.take());
            }
        }
        retired
    }

    /// Finds an epoch the store holds, or one it let go that somebody else still holds.
    fn find(&mut self, key: &EpochKey, depth: Depth) -> Option<Arc<Epoch>> {
        let slot = self.slots.get_mut(key)?;
        match depth {
            Depth::Full => slot.full.get(),
            Depth::Light => slot.light.get().or_else(|| {
                // An epoch of its own, so that its holders do not keep the full part alive.
                let light = Arc::clone(&slot.full.peek()?.light);
                let epoch = Arc::new(Epoch { key: *key, light, full: None });
                slot.light = Held::new(&epoch);
                Some(epoch)
            }),
        }
    }

    /// Ends a build: keeps what it made, and forgets keys of which nothing is left.
    fn finish(
        &mut self,
        key: &EpochKey,
        depth: Depth,
        build: &Build,
        outcome: &Result<Arc<Epoch>, EpochError>,
    ) {
        self.builds.remove(&(*key, depth));
        if let Ok(epoch) = outcome {
            let slot = self.slots.entry(*key).or_default();
            match depth {
                Depth::Light => slot.light = Held::new(epoch),
                Depth::Full => slot.full = Held::new(epoch),
            }
        }
        // Set once, here: the build was in the table until now.
        let _ = build.outcome.set(outcome.clone());
        let Table { slots, builds, .. } = self;
        slots.retain(|key, slot| {
            let building =
                builds.contains_key(&(*key, Depth::Light)) || builds.contains_key(&(*key, Depth::Full));
            building || slot.light.peek().is_some() || slot.full.peek().is_some()
        });
    }

    /// Whether nobody has asked for a key yet.
    fn is_ahead(&self, key: &EpochKey) -> bool {
        self.slots.get(key).is_none_or(|slot| slot.asked == 0)
    }

    /// Bytes that making room for `key` could free.
    fn room(&self, key: &EpochKey) -> u64 {
        let kept: u64 = self.evictable(key).map(|(.., bytes)| bytes).sum();
        let ahead = self.builds.iter().filter(|((other, _), _)| other != key && self.is_ahead(other));
        kept + ahead.map(|(_, build)| build.charged.load(Ordering::Relaxed)).sum::<u64>()
    }

    /// Gives up the least valuable epoch that only the store holds.
    fn evict(&mut self, key: &EpochKey) -> Option<Arc<Epoch>> {
        let (_, victim, depth, _) = self.evictable(key).min_by_key(|(rank, ..)| *rank)?;
        let slot = self.slots.get_mut(&victim)?;
        match depth {
            Depth::Light => slot.light.own.take(),
            Depth::Full => slot.full.own.take(),
        }
    }

    /// What only the store holds, other than `key`'s own: rank (least valuable first), key, part, bytes.
    fn evictable(&self, key: &EpochKey) -> impl Iterator<Item = ((bool, bool, u64), EpochKey, Depth, u64)> {
        let others = self.slots.iter().filter(move |(other, _)| *other != key);
        others.flat_map(|(&other, slot)| {
            let ahead = slot.asked == 0;
            let sole = |held: &&Arc<Epoch>| Arc::strong_count(held) == 1;
            let full = slot.full.own.as_ref().filter(sole);
            let light = slot.light.own.as_ref().filter(sole);
            // A light part that the store's own full epoch shares is free once that one is gone.
            let shares = 1 + usize::from(full.is_some());
            let light = light.filter(|epoch| Arc::strong_count(&epoch.light) <= shares);
            let full = full.and_then(|epoch| epoch.full.as_ref()).map(Replicas::held_bytes);
            let light = light.map(|epoch| epoch.light.held_bytes());
            let full = full.map(|bytes| ((ahead, false, slot.asked), other, Depth::Full, bytes));
            let light = light.map(|bytes| ((ahead, true, slot.asked), other, Depth::Light, bytes));
            full.into_iter().chain(light)
        })
    }

    /// Stops the builds of a key that nobody has asked for.
    fn stop_one_ahead(&self, key: &EpochKey) {
        let mut keys = self.builds.keys().map(|(other, _)| other);
        let Some(victim) = keys.find(|other| *other != key && self.is_ahead(other)) else { return };
        for (_, build) in self.builds.iter().filter(|((other, _), _)| other == victim) {
            build.evicted.store(true, Ordering::Relaxed);
            build.progress.cancel();
        }
    }
}

impl Held {
    fn new(epoch: &Arc<Epoch>) -> Held {
        Held { own: Some(Arc::clone(epoch)), seen: Arc::downgrade(epoch) }
    }

    /// The epoch, held by the store again.
    fn get(&mut self) -> Option<Arc<Epoch>> {
        self.own = self.peek();
        self.own.clone()
    }

    /// The epoch, as long as anybody holds it.
    fn peek(&self) -> Option<Arc<Epoch>> {
        self.own.clone().or_else(|| self.seen.upgrade())
    }
}
