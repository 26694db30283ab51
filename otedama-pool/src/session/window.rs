//! What a session remembers of its past: jobs by age, shares by work.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use otedama_core::{Difficulty, Hash256, Target};

use crate::stratum::RejectReason;

/// What a share must meet and what it is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// What it is worth.
    pub difficulty: Difficulty,
    /// The largest hash.
    pub target: Target,
}

/// A job that was handed out.
#[derive(Clone, Debug)]
pub(crate) struct Issued<J> {
    pub(crate) id: String,
    pub(crate) job: J,
    /// What its shares are judged by.
    pub(crate) terms: Terms,
    /// What its shares are told apart by, whatever the job's id.
    pub(crate) work: Hash256,
    /// When it was handed out.
    pub(crate) at: Duration,
    /// When the next job came, if one came.
    superseded: Option<Duration>,
    /// Whether that one made this one worthless.
    dead: bool,
}

/// The jobs of one connection: the current one, and those before it until they are too old.
#[derive(Clone, Debug)]
pub(crate) struct JobWindow<J> {
    issued: VecDeque<Issued<J>>,
    max_jobs: usize,
    age: Duration,
    grace: Duration,
}

impl<J> JobWindow<J> {
    /// Keeps a job for `age` after its successor came, and accepts shares for dead ones for `grace`.
    pub(crate) fn new(max_jobs: usize, age: Duration, grace: Duration) -> JobWindow<J> {
        JobWindow { issued: VecDeque::new(), max_jobs: max_jobs.max(1), age, grace }
    }

    /// A new current job.
    pub(crate) fn add(
        &mut self,
        id: String,
        job: J,
        terms: Terms,
        work: Hash256,
        clean: bool,
        now: Duration,
    ) {
        for old in &mut self.issued {
            old.superseded = old.superseded.or(Some(now));
            if clean && !old.dead {
                old.dead = true;
                old.superseded = Some(now);
            }
        }
        self.prune(now);
        while self.issued.len() >= self.max_jobs {
            self.issued.pop_front();
        }
        self.issued.push_back(Issued { id, job, terms, work, at: now, superseded: None, dead: false });
    }

    /// The job of this id, whatever its shares are worth.
    pub(crate) fn known(&self, id: &str) -> Option<&Issued<J>> {
        self.issued.iter().rev().find(|issued| issued.id == id)
    }

    /// The job of this id, or why a share for it is worth nothing.
    pub(crate) fn find(&self, id: &str, now: Duration) -> Result<&Issued<J>, RejectReason> {
        let issued = self.known(id).ok_or(RejectReason::UnknownJob)?;
        let since = issued.superseded.map_or(Duration::ZERO, |at| now.saturating_sub(at));
        if since > if issued.dead { self.grace } else { self.age } {
            return Err(RejectReason::Stale);
        }
        Ok(issued)
    }

    /// The current job.
    pub(crate) fn current(&self) -> Option<&Issued<J>> {
        self.issued.back()
    }

    /// Forgets what is too old even to be called stale.
    pub(crate) fn prune(&mut self, now: Duration) {
        let age = self.age;
        self.issued.retain(|issued| issued.superseded.is_none_or(|at| now.saturating_sub(at) <= age));
    }

    /// The works of all jobs kept.
    pub(crate) fn works(&self) -> impl Iterator<Item = &Hash256> {
        self.issued.iter().map(|issued| &issued.work)
    }
}

/// What tells a share from another: the work it is for, and everything the miner chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShareKey {
    /// A fingerprint of the work, whatever its job's id.
    pub work: Hash256,
    /// Extranonce2, time, nonce and version, or what the dialect has of them, padded with zeros.
    pub choice: [u8; 32],
}

/// Shares accepted or being looked at. Clones share one memory: connections whose nonces may overlap (those
/// of eth-proxy) must be given clones of one, and one clock.
#[derive(Clone, Debug, Default)]
pub struct Duplicates(Arc<Mutex<Works>>);

#[derive(Debug, Default)]
struct Works {
    seen: HashMap<Hash256, Seen>,
    /// When those that nobody keeps were last looked for.
    swept: Duration,
}

/// How often works that nobody keeps are looked for: each of thousands of connections asks for it every second, and there
/// are as many works.
const SWEEP: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Seen {
    shares: HashMap<[u8; 32], Mark>,
    last: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Pending,
    Accepted,
}

impl Duplicates {
    /// Nothing seen yet.
    pub fn new() -> Duplicates {
        Duplicates::default()
    }

    /// How many shares are remembered.
    pub fn len(&self) -> usize {
        self.lock().seen.values().map(|seen| seen.shares.len()).sum()
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Holds a share while it is looked at; at most `limit` per work.
    pub(crate) fn hold(&self, key: &ShareKey, limit: usize, now: Duration) -> Result<(), RejectReason> {
        let mut works = self.lock();
        let seen = works.seen.entry(key.work).or_default();
        seen.last = seen.last.max(now);
        if seen.shares.contains_key(&key.choice) {
            return Err(RejectReason::Duplicate);
        }
        if seen.shares.len() >= limit {
            return Err(RejectReason::TooMany);
        }
        seen.shares.insert(key.choice, Mark::Pending);
        Ok(())
    }

    /// Remembers a share that is held, or forgets it: what is refused takes no room.
    pub(crate) fn settle(&self, key: &ShareKey, accepted: bool) {
        let mut works = self.lock();
        let Some(seen) = works.seen.get_mut(&key.work) else { return };
        if accepted {
            seen.shares.insert(key.choice, Mark::Accepted);
        } else if seen.shares.get(&key.choice) == Some(&Mark::Pending) {
            seen.shares.remove(&key.choice);
            if seen.shares.is_empty() {
                works.seen.remove(&key.work);
            }
        }
    }

    /// Keeps what belongs to these works and drops what nobody has kept for `age`.
    pub(crate) fn keep<'a>(&self, works: impl Iterator<Item = &'a Hash256>, age: Duration, now: Duration) {
        let mut all = self.lock();
        for work in works {
            if let Some(seen) = all.seen.get_mut(work) {
                seen.last = seen.last.max(now);
            }
        }
        if now.saturating_sub(all.swept) >= SWEEP {
            all.swept = now;
            all.seen.retain(|_, seen| now.saturating_sub(seen.last) <= age);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Works> {
        // Nothing in here panics half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms { difficulty: Difficulty::new(1.0).unwrap(), target: Target::MAX }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn jobs_age_from_the_moment_their_successor_came() {
        let mut window = JobWindow::new(8, secs(60), secs(2));
        let work = Hash256::from_raw([0; 32]);
        window.add("a".into(), 'a', terms(), work, true, secs(0));
        assert_eq!(window.find("a", secs(10_000)).unwrap().job, 'a');
        window.add("b".into(), 'b', terms(), work, false, secs(10_000));
        assert!(window.find("a", secs(10_060)).is_ok());
        assert_eq!(window.find("a", secs(10_061)).unwrap_err(), RejectReason::Stale);
        window.add("c".into(), 'c', terms(), work, true, secs(10_010));
        assert!(window.find("a", secs(10_012)).is_ok() && window.find("b", secs(10_012)).is_ok());
        assert_eq!(window.find("b", secs(10_013)).unwrap_err(), RejectReason::Stale);
        assert_eq!(window.known("b").map(|issued| issued.at), Some(secs(10_000)));
        window.prune(secs(20_000));
        assert!(window.known("b").is_none());
        assert_eq!(window.find("b", secs(20_000)).unwrap_err(), RejectReason::UnknownJob);
        assert_eq!(window.current().unwrap().job, 'c');
        for i in 0..100 {
            window.add(i.to_string(), 'x', terms(), work, false, secs(20_000));
        }
        assert_eq!(window.works().count(), 8);
    }

    #[test]
    fn a_share_is_held_then_remembered_only_if_it_was_accepted() {
        let duplicates = Duplicates::new();
        let key = |n: u8| ShareKey { work: Hash256::from_raw([9; 32]), choice: [n; 32] };
        assert_eq!(duplicates.hold(&key(1), 2, secs(0)), Ok(()));
        assert_eq!(duplicates.clone().hold(&key(1), 2, secs(0)), Err(RejectReason::Duplicate));
        duplicates.settle(&key(1), false);
        assert!(duplicates.is_empty());
        assert_eq!(duplicates.hold(&key(1), 2, secs(0)), Ok(()));
        duplicates.settle(&key(1), true);
        duplicates.settle(&key(1), false);
        assert_eq!(duplicates.hold(&key(1), 2, secs(0)), Err(RejectReason::Duplicate));
        assert_eq!(duplicates.hold(&key(2), 2, secs(0)), Ok(()));
        assert_eq!(duplicates.hold(&key(3), 2, secs(0)), Err(RejectReason::TooMany));
        duplicates.keep([key(1).work].iter(), secs(60), secs(100));
        assert_eq!(duplicates.len(), 2);
        duplicates.keep([].iter(), secs(60), secs(160));
        assert_eq!(duplicates.len(), 2);
        duplicates.keep([].iter(), secs(60), secs(161));
        assert!(duplicates.is_empty());
    }
}
