//! What is remembered of each worker: accepted work, and why its shares did not count.
//!
//! Bounded: so many workers, of each so many refused shares. When there is no room for another worker, those
//! go first that never had a share accepted, then those that were seen longest ago.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use otedama_core::HashRate;

use crate::effort::Effort;
use crate::session::{Now, ShareFacts};
use crate::stratum::RejectReason;

/// Refused shares remembered of each worker.
const REMEMBERED: usize = 16;

/// The longest job id remembered of a refused share, in bytes; ours are shorter.
const JOB_ID: usize = 64;

/// How a worker is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerStats {
    /// Its name.
    pub worker: String,
    /// When its last share came, in seconds since 1970.
    pub last_share_s: u64,
    /// Shares that counted.
    pub accepted: u64,
    /// What they stand for.
    pub effort: Effort,
    /// What it hashes, by the accepted shares of the last ten minutes.
    pub hash_rate: HashRate,
    /// Shares that did not count, by reason; only those that occurred.
    pub refused: Vec<(RejectReason, u64)>,
}

/// A share that did not count.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusedShare {
    /// When, in seconds since 1970.
    pub at_s: u64,
    /// Why.
    pub reason: RejectReason,
    /// What is known of it.
    pub facts: ShareFacts,
}

/// What is remembered of all workers.
#[derive(Debug)]
pub struct Workers {
    max: usize,
    records: HashMap<String, Record>,
    effort: Effort,
}

#[derive(Debug)]
struct Record {
    last_share_s: u64,
    accepted: u64,
    effort: Effort,
    meter: Meter,
    refused: [u64; RejectReason::ALL.len()],
    last: VecDeque<RefusedShare>,
}

impl Workers {
    /// Room for so many.
    pub fn new(max: usize) -> Workers {
        Workers { max: max.max(1), records: HashMap::new(), effort: Effort::ZERO }
    }

    /// A share counts.
    pub fn accepted(&mut self, worker: &str, effort: Effort, now: Now) {
        self.effort = self.effort.saturating_add(effort);
        let record = self.record(worker, now);
        record.accepted += 1;
        record.effort = record.effort.saturating_add(effort);
        record.meter.add(effort, now.elapsed);
    }

    /// A share does not count.
    pub fn refused(&mut self, worker: &str, reason: RejectReason, mut facts: ShareFacts, now: Now) {
        let record = self.record(worker, now);
        // The reasons' order is that of `ALL`.
        record.refused[reason as usize] += 1;
        if record.last.len() == REMEMBERED {
            record.last.pop_front();
        }
        facts.job_id.truncate(facts.job_id.floor_char_boundary(JOB_ID));
        record.last.push_back(RefusedShare { at_s: now.unix_s, reason, facts });
    }

    /// What all accepted shares stand for, of those forgotten too.
    pub fn effort(&self) -> Effort {
        self.effort
    }

    /// How every worker is doing, in no order.
    pub fn stats(&self, now: Now) -> Vec<WorkerStats> {
        self.records.iter().map(|(worker, record)| record.stats(worker, now)).collect()
    }

    /// How one worker is doing, and its last refused shares, the oldest first.
    pub fn worker(&self, worker: &str, now: Now) -> Option<(WorkerStats, Vec<RefusedShare>)> {
        let record = self.records.get(worker)?;
        Some((record.stats(worker, now), record.last.iter().cloned().collect()))
    }

    fn record(&mut self, worker: &str, now: Now) -> &mut Record {
        if !self.records.contains_key(worker) {
            self.make_room();
            self.records.insert(worker.to_owned(), Record::new(now));
        }
        let record = self.records.get_mut(worker).expect("it is there or was put there");
        record.last_share_s = record.last_share_s.max(now.unix_s);
        record
    }

    fn make_room(&mut self) {
        if self.records.len() < self.max {
            return;
        }
        let mut all: Vec<(bool, u64, String)> = self
            .records
            .iter()
            .map(|(worker, record)| (record.accepted > 0, record.last_share_s, worker.clone()))
            .collect();
        // Many at once, so that a flood of new names is not a search each.
        all.sort_unstable();
        for (_, _, worker) in &all[..self.max.div_ceil(16)] {
            self.records.remove(worker);
        }
    }
}

impl Record {
    fn new(now: Now) -> Record {
        Record {
            last_share_s: now.unix_s,
            accepted: 0,
            effort: Effort::ZERO,
            meter: Meter::new(now.elapsed),
            refused: [0; RejectReason::ALL.len()],
            last: VecDeque::new(),
        }
    }

    fn stats(&self, worker: &str, now: Now) -> WorkerStats {
        let refused = RejectReason::ALL.iter().copied().zip(self.refused);
        WorkerStats {
            worker: worker.to_owned(),
            last_share_s: self.last_share_s,
            accepted: self.accepted,
            effort: self.effort,
            hash_rate: self.meter.rate(now.elapsed),
            refused: refused.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// Effort of the last ten minutes: a ring of one sum a minute, the current one among them.
#[derive(Debug)]
struct Meter {
    minutes: [u128; MINUTES as usize],
    /// The minute last added to.
    newest: u64,
    since: Duration,
}

const MINUTES: u64 = 10;

impl Meter {
    fn new(now: Duration) -> Meter {
        Meter { minutes: [0; MINUTES as usize], newest: now.as_secs() / 60, since: now }
    }

    fn add(&mut self, effort: Effort, now: Duration) {
        let minute = (now.as_secs() / 60).max(self.newest);
        for passed in (self.newest + 1..=minute).rev().take(MINUTES as usize) {
            self.minutes[(passed % MINUTES) as usize] = 0;
        }
        self.newest = minute;
        let sum = &mut self.minutes[(minute % MINUTES) as usize];
        *sum = sum.saturating_add(effort.0);
    }

    fn rate(&self, now: Duration) -> HashRate {
        let minute = (now.as_secs() / 60).max(self.newest);
        let oldest = (minute + 1).saturating_sub(MINUTES);
        let recent = (oldest..=self.newest).map(|at| Effort(self.minutes[(at % MINUTES) as usize]));
        let covered = now.saturating_sub(Duration::from_secs(60 * oldest));
        // A first share alone says little: at least a minute.
        let seconds = now.saturating_sub(self.since).min(covered).max(Duration::from_secs(60)).as_secs_f64();
        rate(recent.sum(), seconds)
    }
}

/// Effort over time; [`HashRate`] takes 64 bits, and SHA-256d's efforts have more.
pub(super) fn rate(effort: Effort, seconds: f64) -> HashRate {
    match u64::try_from(effort.0) {
        Ok(hashes) => HashRate::new(hashes, seconds),
        Err(_) => HashRate::new((effort.0 >> 64) as u64, seconds / 2f64.powi(64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { elapsed: Duration::from_secs(seconds), unix_s: 1_700_000_000 + seconds }
    }

    fn facts(job_id: &str) -> ShareFacts {
        ShareFacts { job_id: job_id.to_owned(), ..ShareFacts::default() }
    }

    #[test]
    fn reasons_are_counted_and_the_last_refused_shares_kept() {
        let mut workers = Workers::new(10);
        workers.accepted("a.1", Effort(1 << 20), at(1));
        for i in 0..20 {
            let reason = if i < 3 { RejectReason::Stale } else { RejectReason::LowDifficulty };
            workers.refused("a.1", reason, facts(&i.to_string()), at(10 + i));
        }
        let (stats, last) = workers.worker("a.1", at(30)).unwrap();
        assert_eq!(stats.refused, [(RejectReason::Stale, 3), (RejectReason::LowDifficulty, 17)]);
        assert_eq!((stats.accepted, stats.effort, stats.last_share_s), (1, Effort(1 << 20), 1_700_000_029));
        assert_eq!(last.len(), REMEMBERED);
        assert_eq!((last[0].facts.job_id.as_str(), last[15].facts.job_id.as_str()), ("4", "19"));
        assert_eq!(last[15].at_s, 1_700_000_029);
        workers.refused("a.1", RejectReason::UnknownJob, facts(&"\u{e9}".repeat(4_000)), at(40));
        let (_, last) = workers.worker("a.1", at(40)).unwrap();
        assert_eq!(last[15].facts.job_id.len(), JOB_ID);
        assert_eq!(workers.worker("a.2", at(40)), None);
    }

    #[test]
    fn the_hash_rate_is_that_of_ten_minutes() {
        let mut workers = Workers::new(10);
        let rate = |workers: &Workers, seconds| workers.worker("a", at(seconds)).unwrap().0.hash_rate.hps();
        // A megahash a second.
        for second in 1..=3_600 {
            workers.accepted("a", Effort(1_000_000), at(second));
            let found = rate(&workers, second);
            assert!(second < 60 || (found / 1e6 - 1.0).abs() < 0.02, "{found} after {second} s");
        }
        // Nine to ten minutes are covered: what came in the oldest minute leaves as a whole.
        assert!((0.4..=0.6).contains(&(rate(&workers, 3_600 + 300) / 1e6)));
        assert_eq!(rate(&workers, 3_600 + 601), 0.0);
        workers.accepted("a", Effort(6_000_000_000), at(10_000));
        assert!((10.0..=11.2).contains(&(rate(&workers, 10_000) / 1e6)));
        // A share of SHA-256d whose effort has more than 64 bits.
        workers.accepted("b", Effort(60 << 80), at(10_000));
        let found = workers.worker("b", at(10_060)).unwrap().0.hash_rate.hps();
        assert!((found / 2f64.powi(80) - 1.0).abs() < 1e-9, "{found}");
    }

    #[test]
    fn room_is_bounded_and_those_who_work_stay() {
        let mut workers = Workers::new(32);
        workers.accepted("working", Effort(1), at(0));
        workers.refused("idle", RejectReason::Stale, facts("1"), at(0));
        for i in 0..10_000 {
            workers.refused(&format!("x{i}"), RejectReason::Duplicate, facts("1"), at(1 + i));
            assert!(workers.stats(at(i)).len() <= 32);
        }
        assert!(workers.worker("working", at(0)).is_some() && workers.worker("idle", at(0)).is_none());
        assert!(workers.worker("x9999", at(0)).is_some());
        for i in 0..100 {
            workers.accepted(&format!("y{i}"), Effort(1), at(20_000 + i));
        }
        assert_eq!((workers.worker("working", at(0)), workers.effort()), (None, Effort(101)));
    }
}
