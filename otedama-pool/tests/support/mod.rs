//! What the tests of this crate share: hashing for whoever asks, and a wire that cuts lines anywhere.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use otedama_core::builders::{self, ItemsBy};
use otedama_core::epoch::{Depth, Epoch, EpochKey, EpochStore, Progress, StoreConfig};
use otedama_core::scan::{Candidates, Kernel, Setup, StopFlag, kernels};
use otedama_core::topology::Topology;
use otedama_core::verify::{Claim, VerifyWorker};
use otedama_core::{Algorithm, Difficulty, Share, Verifier};
use otedama_pool::session::{Action, Check, Client, Event, Now, Server, Verdict};
use otedama_pool::stratum::{LineSplitter, MINER_LINE_BYTES, POOL_LINE_BYTES};
use otedama_pool::work::Task;

/// Proves claims and finds shares with this machine's first kernel of each algorithm.
pub(crate) struct Prover {
    setup: Setup,
    store: EpochStore,
    workers: HashMap<Algorithm, VerifyWorker>,
    epochs: HashMap<EpochKey, Arc<Epoch>>,
}

impl Prover {
    pub(crate) fn new() -> Prover {
        let store = EpochStore::new(StoreConfig::for_machine(&Topology::detect(), 2 << 30));
        Prover { setup: Setup::detect(), store, workers: HashMap::new(), epochs: HashMap::new() }
    }

    fn kernel(&self, algorithm: Algorithm) -> &'static Kernel {
        kernels(algorithm).find(|kernel| kernel.obstacle(&self.setup).is_none()).unwrap()
    }

    pub(crate) fn epoch(&mut self, key: &EpochKey) -> Arc<Epoch> {
        let builder = builders::builder(key.algorithm, &self.setup.cpu, ItemsBy::default()).unwrap();
        let store = &self.store;
        let build = || store.get(&builder, key, Depth::Light, &Progress::new()).unwrap();
        Arc::clone(self.epochs.entry(*key).or_insert_with(build))
    }

    pub(crate) fn check(&mut self, claim: &Claim<'_>) -> Verdict {
        let algorithm = claim.job.algorithm();
        let epoch = claim.job.epoch().copied().map(|key| self.epoch(&key));
        let (kernel, setup) = (self.kernel(algorithm), self.setup.clone());
        let worker =
            self.workers.entry(algorithm).or_insert_with(|| Verifier::new(kernel, setup).worker().unwrap());
        worker.check(claim, epoch.as_ref())
    }

    pub(crate) fn verdict(&mut self, check: &Check) -> Verdict {
        self.check(&check.claim())
    }

    /// Shares among the first `nonces` of a task, found by a scanner and proven.
    pub(crate) fn search(&mut self, task: &Task, nonces: u64) -> Vec<Share> {
        let epoch = task.job.epoch().copied().map(|key| self.epoch(&key));
        let mut scanner = self.kernel(task.job.algorithm()).scanner(&self.setup).unwrap();
        scanner.load(&task.job, epoch.as_ref()).unwrap();
        let mut space = task.space;
        space.nonces.count = nonces;
        space.versions.count = space.versions.count.min(2);
        let mut found = Candidates::with_capacity(4096);
        scanner.scan(&space, &StopFlag::new(), &mut found).unwrap();
        let claims: Vec<_> = found.as_slice().to_vec();
        claims
            .into_iter()
            .map(|candidate| {
                self.check(&Claim { job: &task.job, candidate, mix: None, pow: None }).expect("proven")
            })
            .collect()
    }
}

pub(crate) fn difficulty(number: f64) -> Difficulty {
    Difficulty::new(number).unwrap()
}

pub(crate) fn at(seconds: u64) -> Now {
    Now { elapsed: Duration::from_secs(1_000 + seconds), unix_s: 1_700_000_000 + seconds }
}

/// A stream of bytes between two ends, delivered in pieces of any size.
pub(crate) struct Wire {
    splitter: LineSplitter,
    seed: u64,
}

impl Wire {
    fn new(limit: usize, seed: u64) -> Wire {
        Wire { splitter: LineSplitter::new(limit), seed: seed | 1 }
    }

    /// The lines that arrive when these are sent.
    fn carry(&mut self, lines: Vec<String>) -> Vec<String> {
        let stream: Vec<u8> = lines.into_iter().flat_map(|line| (line + "\n").into_bytes()).collect();
        let (mut rest, mut arrived) = (stream.as_slice(), Vec::new());
        while !rest.is_empty() {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (piece, after) = rest.split_at((1 + (self.seed >> 33) as usize % 97).min(rest.len()));
            rest = after;
            self.splitter.push(piece);
            while let Some(line) = self.splitter.next_line().unwrap() {
                arrived.push(line.to_owned());
            }
        }
        arrived
    }
}

/// A pool's end and a miner's end that talk to each other, and all that came of it.
pub(crate) struct Pair<S, C> {
    pub(crate) server: S,
    pub(crate) client: C,
    pub(crate) prover: Prover,
    up: Wire,
    down: Wire,
    pub(crate) now: Now,
    /// All but lines, at the pool's end.
    pub(crate) actions: Vec<Action>,
    /// All but lines, at the miner's end.
    pub(crate) events: Vec<Event>,
    /// Every line, with who said it.
    pub(crate) log: Vec<String>,
}

impl<S: Server, C: Client> Pair<S, C> {
    pub(crate) fn new(server: S, client: C, seed: u64) -> Pair<S, C> {
        Pair {
            server,
            client,
            prover: Prover::new(),
            up: Wire::new(MINER_LINE_BYTES, seed),
            down: Wire::new(POOL_LINE_BYTES, !seed),
            now: at(0),
            actions: Vec::new(),
            events: Vec::new(),
            log: Vec::new(),
        }
    }

    /// Lets the miner's end do something, then carries lines to and fro until nobody says anything.
    pub(crate) fn client(&mut self, act: impl FnOnce(&mut C, Now, &mut Vec<Event>)) {
        let mut out = Vec::new();
        act(&mut self.client, self.now, &mut out);
        self.talk(out, Vec::new());
    }

    /// Lets the pool's end do something, then carries lines to and fro until nobody says anything.
    pub(crate) fn server(&mut self, act: impl FnOnce(&mut S, Now, &mut Vec<Action>)) {
        let mut out = Vec::new();
        act(&mut self.server, self.now, &mut out);
        self.talk(Vec::new(), out);
    }

    pub(crate) fn submit(&mut self, share: &Share) {
        self.client(|client, now, out| {
            client.submit(share, now, out);
        });
    }

    fn talk(&mut self, mut events: Vec<Event>, mut actions: Vec<Action>) {
        loop {
            let mut up = Vec::new();
            for event in events.drain(..) {
                match event {
                    Event::Send(line) => up.push(line),
                    other => self.events.push(other),
                }
            }
            self.log.extend(up.iter().map(|line| format!("> {line}")));
            let arrived = self.up.carry(up);
            for line in &arrived {
                let begin = actions.len();
                self.server.on_line(line, self.now, &mut actions);
                self.carry_out(begin, &mut actions);
            }
            let mut down = Vec::new();
            for action in actions.drain(..) {
                if let Action::Send(line) | Action::Accepted { answer: Some(line), .. } = &action {
                    down.push(line.clone());
                }
                if !matches!(action, Action::Send(_)) {
                    self.actions.push(action);
                }
            }
            if arrived.is_empty() && down.is_empty() {
                return;
            }
            self.log.extend(down.iter().map(|line| format!("< {line}")));
            for line in self.down.carry(down) {
                self.client.on_line(&line, self.now, &mut events);
            }
        }
    }

    /// Lets everybody in and hashes what is asked.
    fn carry_out(&mut self, begin: usize, actions: &mut Vec<Action>) {
        let mut at = begin;
        while at < actions.len() {
            match actions[at].clone() {
                Action::Authorize { ticket, .. } => {
                    actions.remove(at);
                    self.server.on_login(ticket, Ok(()), self.now, actions);
                }
                Action::Verify(check) => {
                    actions.remove(at);
                    let verdict = self.prover.verdict(&check);
                    self.server.on_verdict(check.ticket, verdict, self.now, actions);
                }
                _ => at += 1,
            }
        }
    }

    /// The difficulties of the shares that counted, in order.
    pub(crate) fn credits(&self) -> Vec<f64> {
        self.actions
            .iter()
            .filter_map(|action| match action {
                Action::Accepted { credit, .. } => Some(credit.difficulty.get()),
                _ => None,
            })
            .collect()
    }

    /// The reasons of the shares that did not, in order.
    pub(crate) fn rejects(&self) -> Vec<&'static str> {
        self.actions
            .iter()
            .filter_map(|action| match action {
                Action::Rejected { reason, .. } => Some(reason.label()),
                _ => None,
            })
            .collect()
    }

    /// Panics if either end complained.
    pub(crate) fn assert_smooth(&self) {
        for event in &self.events {
            assert!(!matches!(event, Event::Odd(_) | Event::Failed(_)), "{event:?}\n{}", self.log.join("\n"));
        }
    }
}
