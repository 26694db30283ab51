//! Several nodes of one coin: which of them is healthy, and which one gives the templates.
//!
//! A state machine without I/O: it is told what nodes answered and when, and says what changed.
//!
//! ```text
//! unknown --tip--> healthy <--caught up, agrees, answers-- lagging | forked | syncing | alone | workless | down
//! ```
//!
//! Nodes stand in order of preference. The first healthy one is active; when it stops being healthy the next
//! takes over at once, and when it has been healthy again for a while it takes back. The chain whose tip is
//! highest counts as the right one; of two equally high, the active node's. (Work would decide better than
//! height, but not every kind of node tells it with its tip.) Blocks are handed to all nodes, whatever their
//! state.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use otedama_core::Hash256;

use super::Tip;

/// How many of a node's blocks are remembered, to see where two chains part.
const REMEMBERED: usize = 64;

/// How patient a group is.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// A node this many blocks behind the best lags at once.
    pub lag_blocks: u64,
    /// A node that is behind or on another chain for this long is out, however close it is.
    pub grace: Duration,
    /// How long a preferred node must have been healthy before it takes back.
    pub return_after: Duration,
    /// This many failures in a row, and a node is down.
    pub failures: u32,
    /// A node with fewer peers than this is alone. 0 for private chains.
    pub min_peers: u32,
    /// How long a node that gives no templates is left alone before it may try again.
    pub rest: Duration,
}

impl Default for GroupConfig {
    /// Three blocks or 30 s behind; back after a minute; down after two failures; one peer at least;
    /// 5 s of rest.
    fn default() -> GroupConfig {
        GroupConfig {
            lag_blocks: 3,
            grace: Duration::from_secs(30),
            return_after: Duration::from_secs(60),
            failures: 2,
            min_peers: 1,
            rest: Duration::from_secs(5),
        }
    }
}

/// What is thought of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It has not answered yet.
    Unknown,
    /// It may give templates.
    Healthy,
    /// It says it is still catching up.
    Syncing,
    /// It has too few peers to know what goes on.
    Alone,
    /// It is behind the best by this many blocks.
    Lagging(u64),
    /// It holds another block at this height than the best chain.
    Forked(u64),
    /// It tells its tip but gives no templates; the last error.
    Workless(String),
    /// It does not answer; the last error.
    Down(String),
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Health::Unknown => f.write_str("not heard of yet"),
            Health::Healthy => f.write_str("healthy"),
            Health::Syncing => f.write_str("catching up with its network"),
            Health::Alone => f.write_str("without enough peers"),
            Health::Lagging(blocks) => write!(f, "{blocks} blocks behind"),
            Health::Forked(height) => write!(f, "on another chain at height {height}"),
            Health::Workless(error) => write!(f, "gives no templates: {error}"),
            Health::Down(error) => write!(f, "down: {error}"),
        }
    }
}

/// Something that changed, for logs and for whoever fetches templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node's health.
    Health {
        /// Which node.
        node: usize,
        /// What is thought of it now.
        health: Health,
    },
    /// Who gives the templates; nobody, if none is healthy.
    Active(Option<usize>),
    /// The active node has a new tip: its template is stale.
    Tip(Tip),
}

/// The nodes of one coin, in order of preference.
#[derive(Debug)]
pub struct Group {
    config: GroupConfig,
    members: Vec<Member>,
    active: Option<usize>,
}

#[derive(Debug)]
struct Member {
    health: Health,
    healthy_since: Option<Instant>,
    tip: Option<Tip>,
    /// Its latest blocks, lowest first; gaps where it was not asked in time.
    blocks: VecDeque<(u64, Hash256)>,
    failures: u32,
    /// Templates that were asked for and did not come, in a row. (Tips may come all the while.)
    work_failures: u32,
    /// Until when it rests, and why.
    rests: Option<(Instant, String)>,
    /// Since when it is behind or elsewhere.
    astray_since: Option<Instant>,
}

impl Group {
    /// A group of this many nodes, of which nothing is known yet.
    pub fn new(nodes: usize, config: GroupConfig) -> Group {
        let member = || Member {
            health: Health::Unknown,
            healthy_since: None,
            tip: None,
            blocks: VecDeque::new(),
            failures: 0,
            work_failures: 0,
            rests: None,
            astray_since: None,
        };
        Group { config, members: (0..nodes).map(|_| member()).collect(), active: None }
    }

    /// A node told its tip.
    pub fn on_tip(&mut self, node: usize, tip: Tip, now: Instant) -> Vec<Change> {
        let Some(member) = self.members.get_mut(node) else { return Vec::new() };
        member.failures = 0;
        let changed = member.tip.is_none_or(|old| (old.height, old.hash) != (tip.height, tip.hash));
        member.tip = Some(tip);
        if changed {
            member.remember(tip.height, tip.hash);
        }
        let was_active = self.active;
        let mut changes = self.judge(now);
        if changed && was_active == Some(node) && self.active == Some(node) {
            changes.push(Change::Tip(tip));
        }
        changes
    }

    /// A node did not answer, or not with something usable.
    pub fn on_failure(&mut self, node: usize, error: &str, now: Instant) -> Vec<Change> {
        let limit = self.config.failures;
        let Some(member) = self.members.get_mut(node) else { return Vec::new() };
        member.failures = member.failures.saturating_add(1);
        let mut changes = Vec::new();
        if member.failures >= limit && !matches!(member.health, Health::Down(_)) {
            member.tip = None;
            member.astray_since = None;
            set_health(node, member, Health::Down(shortened(error)), now, &mut changes);
        }
        changes.extend(self.judge(now));
        changes
    }

    /// A node gave a template.
    pub fn on_work(&mut self, node: usize) {
        if let Some(member) = self.members.get_mut(node) {
            member.work_failures = 0;
        }
    }

    /// A node gave no template, or none that can be used.
    pub fn on_no_work(&mut self, node: usize, error: &str, now: Instant) -> Vec<Change> {
        let Some(member) = self.members.get_mut(node) else { return Vec::new() };
        member.work_failures = member.work_failures.saturating_add(1);
        if member.work_failures >= self.config.failures {
            member.rests = Some((now + self.config.rest, shortened(error)));
        }
        self.judge(now)
    }

    /// Time has passed: lets grace run out and preferred nodes take back.
    pub fn on_time(&mut self, now: Instant) -> Vec<Change> {
        self.judge(now)
    }

    /// Who gives the templates.
    pub fn active(&self) -> Option<usize> {
        self.active
    }

    /// What is thought of a node.
    pub fn health(&self, node: usize) -> Option<&Health> {
        self.members.get(node).map(|member| &member.health)
    }

    /// The newest block a node told of.
    pub fn tip(&self, node: usize) -> Option<Tip> {
        self.members.get(node).and_then(|member| member.tip)
    }

    /// The nodes that are healthy, the active one first.
    pub fn healthy(&self) -> Vec<usize> {
        let mut healthy: Vec<_> =
            (0..self.members.len()).filter(|&node| self.members[node].health == Health::Healthy).collect();
        healthy.sort_by_key(|&node| self.active != Some(node));
        healthy
    }

    fn judge(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        let best = self.best();
        for node in 0..self.members.len() {
            let Some(tip) = self.members[node].tip else { continue };
            let astray = best.and_then(|best| self.astray(&tip, best));
            let member = &mut self.members[node];
            let since = astray.as_ref().map(|_| member.astray_since.unwrap_or(now));
            member.astray_since = since;
            let over = since.is_some_and(|since| now.saturating_duration_since(since) >= self.config.grace);
            member.rests = member.rests.take().filter(|(until, _)| now < *until);
            let health = match astray {
                _ if let Some((_, why)) = &member.rests => Health::Workless(why.clone()),
                _ if tip.syncing => Health::Syncing,
                _ if tip.peers.is_some_and(|peers| peers < self.config.min_peers) => Health::Alone,
                Some(Health::Lagging(behind)) if behind >= self.config.lag_blocks => Health::Lagging(behind),
                Some(reason) if over => reason,
                // A node that was out comes back when nothing is wrong any more, not when the clock restarts.
                Some(_) if matches!(member.health, Health::Lagging(_) | Health::Forked(_)) => {
                    member.health.clone()
                }
                _ => Health::Healthy,
            };
            set_health(node, member, health, now, &mut changes);
        }
        let chosen = self.choose(now);
        if chosen != self.active {
            self.active = chosen;
            changes.push(Change::Active(chosen));
        }
        changes
    }

    /// The node with the highest tip, of those that are in touch with their network; of equals the active
    /// one, then the first.
    fn best(&self) -> Option<usize> {
        let in_touch =
            |tip: &Tip| !tip.syncing && tip.peers.is_none_or(|peers| peers >= self.config.min_peers);
        (0..self.members.len())
            .filter_map(|node| Some((node, self.members[node].tip.filter(in_touch)?.height)))
            .max_by_key(|&(node, height)| (height, self.active == Some(node), usize::MAX - node))
            .map(|(node, _)| node)
    }

    /// How a node differs from the best: on another chain, or behind.
    fn astray(&self, tip: &Tip, best: usize) -> Option<Health> {
        let best = &self.members[best];
        let there = best.blocks.iter().find(|(height, _)| *height == tip.height);
        if there.is_some_and(|(_, hash)| *hash != tip.hash) {
            return Some(Health::Forked(tip.height));
        }
        let behind = best.tip?.height.saturating_sub(tip.height);
        (behind > 0).then_some(Health::Lagging(behind))
    }

    fn choose(&self, now: Instant) -> Option<usize> {
        let first = (0..self.members.len()).find(|&node| self.members[node].health == Health::Healthy)?;
        match self.active {
            Some(active) if self.members[active].health == Health::Healthy && first < active => {
                let since = self.members[first].healthy_since?;
                let settled = now.saturating_duration_since(since) >= self.config.return_after;
                Some(if settled { first } else { active })
            }
            Some(active) if self.members[active].health == Health::Healthy => Some(active),
            _ => Some(first),
        }
    }
}

impl Member {
    /// Notes a block; what was higher or at its place is no longer this node's chain.
    fn remember(&mut self, height: u64, hash: Hash256) {
        while self.blocks.back().is_some_and(|(last, _)| *last >= height) {
            self.blocks.pop_back();
        }
        self.blocks.push_back((height, hash));
        if self.blocks.len() > REMEMBERED {
            self.blocks.pop_front();
        }
    }
}

/// A node's words, at most 300 characters of them: they go into logs.
fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}

fn set_health(node: usize, member: &mut Member, health: Health, now: Instant, changes: &mut Vec<Change>) {
    if member.health == health {
        return;
    }
    let was_healthy = member.health == Health::Healthy;
    if health == Health::Healthy {
        member.healthy_since = Some(now);
    } else if was_healthy {
        member.healthy_since = None;
    }
    member.health = health.clone();
    changes.push(Change::Health { node, health });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(name: u8) -> Hash256 {
        Hash256::from_raw([name; 32])
    }

    fn tip(height: u64, name: u8) -> Tip {
        Tip { height, hash: hash(name), syncing: false, peers: Some(8) }
    }

    struct Clock(Instant);

    impl Clock {
        fn after(&mut self, seconds: u64) -> Instant {
            self.0 += Duration::from_secs(seconds);
            self.0
        }
    }

    fn group(nodes: usize) -> (Group, Clock) {
        (Group::new(nodes, GroupConfig::default()), Clock(Instant::now()))
    }

    #[test]
    fn the_preferred_node_serves_fails_over_and_takes_back() {
        let (mut group, mut clock) = group(2);
        assert_eq!(group.active(), None);
        group.on_tip(1, tip(5, 5), clock.after(0));
        assert_eq!(group.active(), Some(1));
        group.on_tip(0, tip(5, 5), clock.after(1));
        // Healthy, but not for long enough.
        assert_eq!(group.active(), Some(1));
        assert_eq!(group.on_time(clock.after(60)), [Change::Active(Some(0))]);

        assert_eq!(group.on_failure(0, "timed out", clock.after(1)), []);
        let changes = group.on_failure(0, "timed out", clock.after(1));
        let down = Change::Health { node: 0, health: Health::Down("timed out".into()) };
        assert_eq!(changes, [down, Change::Active(Some(1))]);
        assert_eq!(group.on_failure(0, "timed out", clock.after(1)), []);

        group.on_tip(0, tip(5, 5), clock.after(1));
        assert_eq!(group.active(), Some(1));
        group.on_tip(1, tip(6, 6), clock.after(30));
        group.on_tip(0, tip(6, 6), clock.after(1));
        assert_eq!(group.on_time(clock.after(30)), [Change::Active(Some(0))]);
    }

    #[test]
    fn a_single_failure_is_forgiven_and_the_last_node_down_leaves_nobody() {
        let (mut group, mut clock) = group(1);
        group.on_tip(0, tip(5, 5), clock.after(0));
        group.on_failure(0, "x", clock.after(1));
        group.on_tip(0, tip(5, 5), clock.after(1));
        group.on_failure(0, "x", clock.after(1));
        assert_eq!(group.active(), Some(0));
        group.on_failure(0, "x", clock.after(1));
        assert_eq!(group.active(), None);
        assert_eq!(group.tip(0), None);
        group.on_tip(0, tip(5, 5), clock.after(1));
        assert_eq!(group.active(), Some(0));
    }

    #[test]
    fn a_node_that_lags_is_out_at_once_or_after_grace_and_back_when_it_has_caught_up() {
        let (mut group, mut clock) = group(2);
        group.on_tip(0, tip(10, 10), clock.after(0));
        group.on_tip(1, tip(10, 10), clock.after(0));
        // A second later the other has the next block: that is not lagging yet.
        assert_eq!(group.on_tip(1, tip(11, 11), clock.after(1)), []);
        assert_eq!(group.active(), Some(0));
        let changes = group.on_time(clock.after(30));
        let lags = Change::Health { node: 0, health: Health::Lagging(1) };
        assert_eq!(changes, [lags, Change::Active(Some(1))]);
        // One block nearer is not there yet.
        group.on_tip(1, tip(12, 12), clock.after(1));
        group.on_tip(0, tip(11, 11), clock.after(1));
        assert!(matches!(group.health(0), Some(Health::Lagging(_))));
        group.on_tip(0, tip(12, 12), clock.after(1));
        assert_eq!(group.health(0), Some(&Health::Healthy));
        // Three blocks are too many at any time.
        group.on_tip(1, tip(15, 15), clock.after(1));
        assert_eq!(group.health(0), Some(&Health::Lagging(3)));
    }

    #[test]
    fn a_node_on_another_chain_is_noticed() {
        let (mut group, mut clock) = group(3);
        for node in 0..3 {
            group.on_tip(node, tip(10, 10), clock.after(0));
        }
        // Two blocks of one height: a race, for a while.
        group.on_tip(0, tip(11, 0xb0), clock.after(1));
        group.on_tip(1, tip(11, 0xa1), clock.after(0));
        group.on_tip(2, tip(11, 0xa1), clock.after(0));
        assert_eq!(group.healthy(), [0, 1, 2]);
        // The others go on; the first stays where it is, and then goes on alone.
        group.on_tip(1, tip(12, 0xa2), clock.after(20));
        group.on_tip(2, tip(12, 0xa2), clock.after(0));
        let changes = group.on_time(clock.after(30));
        assert!(changes.contains(&Change::Health { node: 0, health: Health::Forked(11) }), "{changes:?}");
        assert_eq!(group.active(), Some(1));
        group.on_tip(0, tip(12, 0xb2), clock.after(1));
        assert!(matches!(group.health(0), Some(Health::Forked(_))));
        // It reorganizes to the chain of the others.
        group.on_tip(0, tip(12, 0xa2), clock.after(1));
        assert_eq!(group.health(0), Some(&Health::Healthy));
    }

    #[test]
    fn a_node_that_syncs_or_is_alone_neither_serves_nor_counts_as_best() {
        let (mut group, mut clock) = group(2);
        group.on_tip(1, tip(10, 10), clock.after(0));
        let syncing = Tip { syncing: true, ..tip(900, 99) };
        group.on_tip(0, syncing, clock.after(0));
        assert_eq!((group.health(0), group.active()), (Some(&Health::Syncing), Some(1)));
        group.on_tip(0, Tip { peers: Some(0), ..tip(900, 99) }, clock.after(0));
        assert_eq!((group.health(0), group.active()), (Some(&Health::Alone), Some(1)));
        group.on_tip(0, Tip { peers: None, ..tip(10, 10) }, clock.after(0));
        assert_eq!(group.health(0), Some(&Health::Healthy));
    }

    #[test]
    fn a_node_that_tells_its_tip_but_gives_no_templates_rests() {
        let (mut group, mut clock) = group(2);
        group.on_tip(0, tip(5, 5), clock.after(0));
        group.on_tip(1, tip(5, 5), clock.after(0));
        assert_eq!(group.on_no_work(0, "bad", clock.after(1)), []);
        group.on_tip(0, tip(5, 5), clock.after(1));
        let changes = group.on_no_work(0, "bad", clock.after(1));
        let workless = Change::Health { node: 0, health: Health::Workless("bad".into()) };
        assert_eq!(changes, [workless, Change::Active(Some(1))]);
        group.on_tip(0, tip(5, 5), clock.after(4));
        assert!(matches!(group.health(0), Some(Health::Workless(_))));
        assert_eq!(group.on_time(clock.after(1)), [Change::Health { node: 0, health: Health::Healthy }]);
        // It takes back after a while, and one more failure is enough until it has given a template.
        assert_eq!(group.on_time(clock.after(60)), [Change::Active(Some(0))]);
        assert!(!group.on_no_work(0, "bad", clock.after(1)).is_empty());
        group.on_time(clock.after(70));
        group.on_work(0);
        assert_eq!(group.on_no_work(0, "bad", clock.after(1)), []);
    }

    #[test]
    fn a_new_tip_of_the_active_node_is_told_once() {
        let (mut group, mut clock) = group(2);
        group.on_tip(0, tip(1, 1), clock.after(0));
        assert_eq!(group.on_tip(0, tip(1, 1), clock.after(1)), []);
        assert_eq!(group.on_tip(0, tip(2, 2), clock.after(1)), [Change::Tip(tip(2, 2))]);
        // A reorganization to a block of the same height is a new tip as well.
        assert_eq!(group.on_tip(0, tip(2, 3), clock.after(1)), [Change::Tip(tip(2, 3))]);
        assert!(group.on_tip(9, tip(2, 3), clock.after(1)).is_empty());
    }

    proptest! {
        /// Whatever happens, the active node is healthy, and there is one if any is.
        #[test]
        fn the_active_node_is_healthy(
            events in proptest::collection::vec((0usize..4, 0u64..6, 0u8..3, 0u8..5, 0u64..50), 1..200)
        ) {
            let (mut group, mut clock) = group(4);
            for (node, height, name, kind, wait) in events {
                let now = clock.after(wait);
                match kind {
                    0 => group.on_failure(node, "x", now),
                    1 => group.on_time(now),
                    2 if height == 0 => group.on_no_work(node, "x", now),
                    2 => group.on_tip(node, Tip { syncing: true, ..tip(height, name) }, now),
                    _ => group.on_tip(node, tip(height, name + 10 * height as u8), now),
                };
                let healthy = group.healthy();
                prop_assert_eq!(group.active(), healthy.first().copied());
                prop_assert!(group.members.iter().all(|member| member.blocks.len() <= REMEMBERED));
            }
        }
    }
}
