//! Which difficulty brings a share every so many seconds: one estimate per connection, no clock of its own.
//!
//! Work is the sum of the difficulties of accepted shares. The rate of work is an average in which a share's
//! weight falls off exponentially with its age (ckpool's model), divided by the weight that time itself has
//! had so far, so that the estimate is unbiased from the first minute on:
//!
//! ```text
//!   rate(t) = sum of d_i * exp(-(t - t_i) / window)  /  (window * (1 - exp(-(t - start) / window)))
//! ```
//!
//! The difficulty wanted is the rate times the seconds per share. It is looked at after a burst of shares
//! or after a while, and changed only if it is off by a factor of two or more. Guards:
//! - silence: each look without a share quarters the difficulty at most, and only twice in a row once a
//!   share has ever come, so that a miner that is away for an hour does not come back to a flood;
//! - a clock that steps back counts as standing still;
//! - whoever leaves before the first change leaves an [`Vardiff::estimate`] to begin with the next time.

use std::time::Duration;

use otedama_core::Difficulty;

/// How difficulties are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct VardiffConfig {
    /// What a connection begins with.
    pub start: Difficulty,
    /// Never below this.
    pub min: Difficulty,
    /// Never above this.
    pub max: Difficulty,
    /// The time a share should take.
    pub share_interval: Duration,
    /// How long a share is remembered: its weight falls to 1/e in this time.
    pub window: Duration,
    /// The longest time between two looks.
    pub look: Duration,
    /// Whether difficulties of 1 and more are rounded down to a power of two: some firmware does so itself,
    /// and its shares between the two would be refused.
    pub powers_of_two: bool,
}

impl VardiffConfig {
    /// A share every five seconds, remembered for two minutes, looked at every minute.
    pub fn new(start: Difficulty, min: Difficulty, max: Difficulty) -> VardiffConfig {
        VardiffConfig {
            start,
            min,
            max,
            share_interval: Duration::from_secs(5),
            window: Duration::from_secs(120),
            look: Duration::from_secs(60),
            powers_of_two: false,
        }
    }

    /// This difficulty and no other.
    pub fn fixed(difficulty: Difficulty) -> VardiffConfig {
        VardiffConfig::new(difficulty, difficulty, difficulty)
    }
}

/// So many shares are looked at at once: if the difficulty is right, twelve in half the time are rare (2 %).
const BURST: u32 = 12;

/// No change by more than this factor upwards at a time.
const MAX_RISE: f64 = 64.0;

/// No change by more than this factor downwards at a time.
const MAX_FALL: f64 = 4.0;

/// So many silent looks may lower the difficulty once shares have come.
const MAX_SILENT: u32 = 2;

/// The difficulty of one connection.
#[derive(Clone, Debug)]
pub struct Vardiff {
    config: VardiffConfig,
    /// The miner's own wish, if above the configured minimum.
    floor: f64,
    current: f64,
    /// Decayed work as of `seen`.
    work: f64,
    started: Duration,
    seen: Duration,
    looked: Duration,
    shares_since: u32,
    ever: bool,
    silent: u32,
}

impl Vardiff {
    /// Begins at `now`, on any clock that counts from a fixed moment.
    pub fn new(config: VardiffConfig, now: Duration) -> Vardiff {
        let floor = config.min.get();
        let mut vardiff = Vardiff {
            floor,
            current: floor,
            config,
            work: 0.0,
            started: now,
            seen: now,
            looked: now,
            shares_since: 0,
            ever: false,
            silent: 0,
        };
        vardiff.current = vardiff.allowed(vardiff.config.start.get());
        vardiff
    }

    /// The first job goes out: only from now on can silence mean anything.
    pub fn begin(&mut self, now: Duration) {
        if !self.ever {
            self.started = self.seen.max(now);
            (self.seen, self.looked) = (self.started, self.started);
        }
    }

    /// The difficulty for the next job.
    pub fn current(&self) -> Difficulty {
        difficulty(self.current)
    }

    /// A share of this difficulty was accepted. The new difficulty, if it changes.
    pub fn on_share(&mut self, credit: Difficulty, now: Duration) -> Option<Difficulty> {
        self.advance(now);
        self.work += credit.get();
        self.shares_since = self.shares_since.saturating_add(1);
        self.ever = true;
        self.silent = 0;
        let burst = self.shares_since >= BURST && self.wanted() >= 2.0 * self.current;
        if burst || self.seen.saturating_sub(self.looked) >= self.config.look { self.look() } else { None }
    }

    /// Time has passed. The new difficulty, if it changes.
    pub fn on_tick(&mut self, now: Duration) -> Option<Difficulty> {
        self.advance(now);
        if self.seen.saturating_sub(self.looked) < self.config.look {
            return None;
        }
        if self.shares_since == 0 {
            self.silent = self.silent.saturating_add(1);
            if self.ever && self.silent > MAX_SILENT {
                self.looked = self.seen;
                return None;
            }
        }
        self.look()
    }

    /// The miner asks for this difficulty: it becomes the least it gets, and what it gets now if it has not
    /// shown yet what it can do. The new difficulty, if it changes.
    pub fn suggest(&mut self, wish: Difficulty) -> Option<Difficulty> {
        self.set_floor(wish);
        self.change(if self.ever { self.current } else { wish.get() })
    }

    /// The miner can use nothing below this. The new difficulty, if it changes.
    pub fn at_least(&mut self, floor: Difficulty) -> Option<Difficulty> {
        self.set_floor(floor);
        self.change(self.current)
    }

    fn set_floor(&mut self, floor: Difficulty) {
        let (min, max) = (self.config.min.get(), self.config.max.get());
        self.floor = floor.get().clamp(min, max.max(min));
    }

    /// What the shares so far ask for, to begin the miner's next connection with; `None` before the first.
    pub fn estimate(&self) -> Option<Difficulty> {
        self.ever.then(|| difficulty(self.allowed(self.wanted())))
    }

    /// Work per second, in difficulty, as far as the shares so far tell.
    pub fn rate(&self) -> f64 {
        let window = self.config.window.as_secs_f64().max(1.0);
        let elapsed = self.seen.saturating_sub(self.started).as_secs_f64();
        // Never less than a second: a burst right at the start is no infinite rate.
        let weight = (window * -(-elapsed / window).exp_m1()).max(1.0);
        self.work / weight
    }

    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.seen);
        self.work *= (-passed.as_secs_f64() / self.config.window.as_secs_f64().max(1.0)).exp();
        self.seen = self.seen.max(now);
    }

    fn wanted(&self) -> f64 {
        self.rate() * self.config.share_interval.as_secs_f64()
    }

    fn look(&mut self) -> Option<Difficulty> {
        self.looked = self.seen;
        self.shares_since = 0;
        let wanted = self.wanted().clamp(self.current / MAX_FALL, self.current * MAX_RISE);
        if wanted < 2.0 * self.current && wanted > self.current / 2.0 {
            return None;
        }
        self.change(wanted)
    }

    fn change(&mut self, wanted: f64) -> Option<Difficulty> {
        let next = self.allowed(wanted);
        let changed = next != self.current;
        self.current = next;
        changed.then(|| difficulty(next))
    }

    /// The nearest difficulty that may be given.
    fn allowed(&self, wanted: f64) -> f64 {
        let rounded =
            if self.config.powers_of_two && wanted >= 1.0 { wanted.log2().floor().exp2() } else { wanted };
        rounded.max(self.floor).min(self.config.max.get().max(self.config.min.get()))
    }
}

fn difficulty(number: f64) -> Difficulty {
    Difficulty::new(number).expect("clamped between two difficulties")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn d(number: f64) -> Difficulty {
        Difficulty::new(number).unwrap()
    }

    fn config(start: f64) -> VardiffConfig {
        VardiffConfig::new(d(start), d(1e-6), d(1e12))
    }

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// A miner of `rate` difficulty per second whose shares come at exponentially distributed times, for
    /// `seconds`; ticks once a second. Counts the shares of the last half.
    fn mine(vardiff: &mut Vardiff, rate: f64, from: f64, seconds: f64, mut seed: u64) -> usize {
        let (mut now, mut tick, mut late) = (from, from, 0);
        loop {
            // xorshift64*: good enough for arrival times.
            seed ^= seed >> 12;
            seed ^= seed << 25;
            seed ^= seed >> 27;
            let uniform = (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64;
            let difficulty = vardiff.current();
            let next = now - (1.0 - uniform).ln() * difficulty.get() / rate;
            // A share that takes longer than a second is found or not second by second (it is memoryless).
            if next > tick + 1.0 {
                tick += 1.0;
                now = now.max(tick);
                vardiff.on_tick(secs(now));
            } else {
                now = next;
                vardiff.on_share(difficulty, secs(now));
                late += usize::from(now > from + seconds / 2.0);
            }
            if now > from + seconds {
                return late;
            }
        }
    }

    #[test]
    fn miners_of_every_size_come_to_a_share_in_five_seconds() {
        for rate in [1e-3, 1.0, 1e3, 1e6] {
            for start in [1e-2, 1.0, 1e4] {
                let mut vardiff = Vardiff::new(config(start), secs(1e3));
                // Twelve hours, the later six of which count: 4320 shares at the aim.
                let shares = mine(&mut vardiff, rate, 1e3, 43_200.0, 7) as f64;
                assert!((1_800.0..9_000.0).contains(&shares), "rate {rate}, start {start}: {shares} shares");
                let off = vardiff.current().get() / (5.0 * rate);
                assert!((0.3..3.0).contains(&off), "rate {rate}, start {start}: off by {off}");
            }
        }
    }

    #[test]
    fn silence_lowers_the_difficulty_twice_and_no_further() {
        let mut vardiff = Vardiff::new(config(1.0), secs(0.0));
        mine(&mut vardiff, 100.0, 0.0, 3_600.0, 3);
        let before = vardiff.current().get();
        for second in 3_600..10_000 {
            vardiff.on_tick(secs(f64::from(second)));
        }
        assert!(vardiff.current().get() >= before / 16.0 && vardiff.current().get() < before);
    }

    #[test]
    fn a_start_far_too_high_is_left_without_a_share() {
        let mut vardiff = Vardiff::new(config(1e9), secs(0.0));
        for second in 0..3_600 {
            vardiff.on_tick(secs(f64::from(second)));
        }
        assert_eq!(vardiff.current().get(), 1e-6);
    }

    #[test]
    fn a_clock_that_steps_back_stands_still() {
        let mut vardiff = Vardiff::new(config(1.0), secs(1000.0));
        let (mut steady, mut now) = (vardiff.clone(), 1000.0);
        for i in 0..1000 {
            now += 5.0;
            let jumped = if i % 10 == 0 { now - 900.0 } else { now };
            vardiff.on_share(d(1.0), secs(jumped));
            steady.on_share(d(1.0), secs(now));
        }
        let ratio = vardiff.rate() / steady.rate();
        assert!((0.9..1.2).contains(&ratio), "{ratio}");
        assert_eq!(vardiff.current(), steady.current());
    }

    #[test]
    fn who_leaves_before_the_first_change_leaves_an_estimate() {
        let mut vardiff = Vardiff::new(config(1.0), secs(0.0));
        assert_eq!(vardiff.estimate(), None);
        for i in 0..5 {
            vardiff.on_share(d(1.0), secs(f64::from(i) / 100.0));
        }
        assert_eq!(vardiff.current().get(), 1.0);
        assert!(vardiff.estimate().unwrap().get() >= 20.0);
    }

    #[test]
    fn powers_of_two_are_below_what_is_wanted_and_not_below_the_minimum() {
        let mut two = VardiffConfig { powers_of_two: true, ..config(1000.0) };
        assert_eq!(Vardiff::new(two.clone(), secs(0.0)).current().get(), 512.0);
        two.min = d(600.0);
        assert_eq!(Vardiff::new(two.clone(), secs(0.0)).current().get(), 600.0);
        two = VardiffConfig { start: d(0.3), min: d(0.001), ..two };
        assert_eq!(Vardiff::new(two, secs(0.0)).current().get(), 0.3);
    }

    #[test]
    fn a_wish_is_granted_within_the_limits_and_is_the_least_from_then_on() {
        let mut vardiff = Vardiff::new(VardiffConfig::new(d(8.0), d(4.0), d(64.0)), secs(0.0));
        assert_eq!(vardiff.suggest(d(16.0)), Some(d(16.0)));
        assert_eq!(vardiff.suggest(d(16.0)), None);
        for second in 0..600 {
            vardiff.on_tick(secs(f64::from(second)));
        }
        assert_eq!(vardiff.current().get(), 16.0);
        assert_eq!(vardiff.suggest(d(1.0)), Some(d(4.0)));
        assert_eq!(vardiff.suggest(d(1e9)), Some(d(64.0)));
        assert_eq!(Vardiff::new(VardiffConfig::fixed(d(3.0)), secs(0.0)).suggest(d(9.0)), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_the_difficulty_stays_within_its_limits(
            start in 1e-9f64..1e15, min in 1e-9f64..1e6, above in 1.0f64..1e9, two: bool,
            events in prop::collection::vec((any::<bool>(), 0.0f64..1e7, 1e-12f64..1e30), 0..200),
        ) {
            let mut config = VardiffConfig::new(d(start), d(min), d(min * above));
            config.powers_of_two = two;
            let mut vardiff = Vardiff::new(config, secs(0.0));
            for (share, at, credit) in events {
                let changed =
                    if share { vardiff.on_share(d(credit), secs(at)) } else { vardiff.on_tick(secs(at)) };
                if let Some(changed) = changed {
                    prop_assert_eq!(changed, vardiff.current());
                }
                let current = vardiff.current().get();
                prop_assert!(current >= min && current <= min * above, "{}", current);
            }
        }
    }
}
