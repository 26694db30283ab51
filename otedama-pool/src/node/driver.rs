//! What keeps a [`Group`] running on tokio: asks the nodes, fetches templates from the active one, hands
//! blocks to all.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, broadcast, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::group::{Change, Group, GroupConfig, Health};
use super::{BlockRef, ChainNode, Fate, NodeError, Submitted, Tip, notify};

/// How often things happen.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// Whom to trust.
    pub group: GroupConfig,
    /// How often each node is asked for its tip.
    pub poll: Duration,
    /// How old a template may become before another is fetched for the fees of new transactions.
    pub refresh: Duration,
    /// How often a block is handed to a node that gives no clear answer.
    pub submit_attempts: u32,
    /// The time between those attempts.
    pub submit_retry: Duration,
}

impl Default for DriverConfig {
    /// Tips every second, templates every 30 s, three attempts a second apart.
    fn default() -> DriverConfig {
        DriverConfig {
            group: GroupConfig::default(),
            poll: Duration::from_secs(1),
            refresh: Duration::from_secs(30),
            submit_attempts: 3,
            submit_retry: Duration::from_secs(1),
        }
    }
}

/// A node and where it publishes its news.
#[derive(Debug)]
pub struct Source<N> {
    /// The node.
    pub node: N,
    /// Its ZMQ endpoint, if it has one.
    pub zmq: Option<String>,
}

/// The template to mine on.
#[derive(Debug)]
pub struct Current<T> {
    /// The template.
    pub template: T,
    /// Which node gave it.
    pub node: usize,
    /// When it came.
    pub at: Instant,
    /// Whether it builds on another block than the one before it: older jobs are stale.
    pub new_block: bool,
}

/// What became of handing in a block.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The outcome for the pool.
    pub outcome: Submitted,
    /// Each node's label, outcome and how long it took.
    pub each: Vec<(String, Submitted, Duration)>,
}

/// What a node is like at the moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its label.
    pub label: String,
    /// What is thought of it.
    pub health: Health,
    /// Its newest block.
    pub tip: Option<Tip>,
    /// Whether it gives the templates.
    pub active: bool,
}

/// A running group of nodes; its tasks end when it is dropped.
pub struct NodeGroup<N: ChainNode> {
    shared: Arc<Shared<N>>,
    tasks: Vec<AbortHandle>,
}

struct Shared<N: ChainNode> {
    nodes: Vec<Arc<N>>,
    config: DriverConfig,
    group: Mutex<Group>,
    /// Wakes whoever fetches templates.
    look: Notify,
    current: watch::Sender<Option<Arc<Current<N::Template>>>>,
    changes: broadcast::Sender<Change>,
}

impl<N: ChainNode> NodeGroup<N> {
    /// Starts asking these nodes, the preferred one first. Needs a tokio runtime.
    pub fn start(sources: Vec<Source<N>>, config: DriverConfig) -> NodeGroup<N> {
        let zmq: Vec<_> = sources.iter().map(|source| source.zmq.clone()).collect();
        let shared = Arc::new(Shared {
            group: Mutex::new(Group::new(sources.len(), config.group.clone())),
            nodes: sources.into_iter().map(|source| Arc::new(source.node)).collect(),
            config,
            look: Notify::new(),
            current: watch::Sender::new(None),
            // Whoever reads more slowly misses changes; the state can always be asked for.
            changes: broadcast::Sender::new(64),
        });
        let mut tasks = Vec::new();
        for (node, endpoint) in zmq.into_iter().enumerate() {
            let wake = Arc::new(Notify::new());
            if let (Some(endpoint), Some(topic)) = (endpoint, N::NEWS) {
                tasks.push(notify::listen(endpoint, topic, wake.clone()).abort_handle());
            }
            tasks.push(tokio::spawn(shared.clone().watch_tip(node, wake)).abort_handle());
        }
        tasks.push(tokio::spawn(shared.clone().fetch_templates()).abort_handle());
        NodeGroup { shared, tasks }
    }

    /// The template to mine on, now and whenever it changes; `None` while no node is healthy.
    pub fn templates(&self) -> watch::Receiver<Option<Arc<Current<N::Template>>>> {
        self.shared.current.subscribe()
    }

    /// What happens to the nodes, for logs.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }

    /// The nodes, in order of preference.
    pub fn status(&self) -> Vec<Status> {
        let group = self.shared.group();
        self.shared
            .nodes
            .iter()
            .enumerate()
            .map(|(node, of)| Status {
                label: of.label().to_owned(),
                health: group.health(node).cloned().unwrap_or(Health::Unknown),
                tip: group.tip(node),
                active: group.active() == Some(node),
            })
            .collect()
    }

    /// Hands a block to every node at once, healthy or not, again where the answer is unclear. Comes back
    /// when all have answered or run out of attempts.
    pub async fn submit(&self, block: N::Block) -> Submission {
        let block = Arc::new(block);
        let mut asked = JoinSet::new();
        for (index, node) in self.shared.nodes.iter().enumerate() {
            let (node, block) = (node.clone(), block.clone());
            let DriverConfig { submit_attempts, submit_retry, .. } = self.shared.config;
            asked.spawn(async move {
                let begun = Instant::now();
                let mut outcome = node.submit(&block).await;
                for _ in 1..submit_attempts {
                    if !matches!(outcome, Submitted::Unknown(_)) {
                        break;
                    }
                    sleep(submit_retry).await;
                    outcome = settled(outcome, node.submit(&block).await);
                }
                (index, node.label().to_owned(), outcome, begun.elapsed())
            });
        }
        let mut each = asked.join_all().await;
        each.sort_by_key(|(index, ..)| *index);
        // The block is the chain's tip now: ask.
        self.shared.look.notify_one();
        let outcome = Submitted::of_all(each.iter().map(|(_, _, outcome, _)| outcome));
        Submission { outcome, each: each.into_iter().map(|(_, label, is, took)| (label, is, took)).collect() }
    }

    /// What became of a block, in the eyes of the active node, or of the next healthy one that answers.
    ///
    /// # Errors
    /// The last node's error, if none could say; an orphan is one only when a healthy node says so.
    pub async fn fate(&self, block: &BlockRef) -> Result<Fate, FateUnknown> {
        let healthy = self.shared.group().healthy();
        let mut last = None;
        let mut unseen = false;
        for node in healthy {
            match self.shared.nodes[node].fate(block).await {
                // A node that was not there when the block was found may not have it.
                Ok(Fate::NotFound) => unseen = true,
                Ok(fate) => return Ok(fate),
                Err(error) => last = Some(error),
            }
        }
        match last {
            None if unseen => Ok(Fate::NotFound),
            last => Err(FateUnknown { last }),
        }
    }
}

impl<N: ChainNode> Drop for NodeGroup<N> {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A question that a node answers when it has something new.
struct LongPoll<T> {
    node: usize,
    answer: Pin<Box<dyn Future<Output = Result<T, NodeError>> + Send>>,
}

/// The outcome after another attempt: a rejection may only mean that the first attempt succeeded and the block
/// is no longer welcome, so it does not settle the doubt.
fn settled(before: Submitted, now: Submitted) -> Submitted {
    match (before, now) {
        (Submitted::Unknown(why), Submitted::Rejected(verdict)) => {
            Submitted::Unknown(format!("{why}; then rejected: {verdict}"))
        }
        (_, now) => now,
    }
}

/// No node could say what became of a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no healthy node can say what became of the block{}", last.as_ref().map_or(String::new(), |error| format!(": {error}")))]
pub struct FateUnknown {
    /// The last error; `None` if no node is healthy.
    pub last: Option<NodeError>,
}

impl<N: ChainNode> Shared<N> {
    fn group(&self) -> MutexGuard<'_, Group> {
        // The group is never left half changed: its methods do not panic.
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks one node for its tip, every so often and whenever it has news.
    async fn watch_tip(self: Arc<Self>, node: usize, news: Arc<Notify>) {
        loop {
            let tip = self.nodes[node].tip().await;
            let changes = match tip {
                Ok(tip) => self.group().on_tip(node, tip, Instant::now()),
                Err(error) => self.group().on_failure(node, &error.to_string(), Instant::now()),
            };
            self.tell(changes);
            tokio::select! {
                () = sleep(self.config.poll) => {}
                () = news.notified() => {}
            }
        }
    }

    fn tell(&self, changes: Vec<Change>) {
        let look = changes.iter().any(|change| matches!(change, Change::Active(_) | Change::Tip(_)));
        for change in changes {
            // Nobody may be listening.
            let _ = self.changes.send(change);
        }
        if look {
            self.look.notify_one();
        }
    }

    /// Keeps the current template current.
    async fn fetch_templates(self: Arc<Self>) {
        let mut poll = None;
        loop {
            let active = self.group().active();
            let Some(active) = active else {
                self.current.send_if_modified(|current| current.take().is_some());
                self.look.notified().await;
                continue;
            };
            match self.nodes[active].template().await {
                Ok(template) => self.publish(active, template),
                Err(error) => {
                    let changes = self.group().on_no_work(active, &error.to_string(), Instant::now());
                    self.tell(changes);
                    sleep(self.config.poll).await;
                    continue;
                }
            }
            self.wait_for_news(active, &mut poll).await;
        }
    }

    /// Comes back when another template should be fetched. Those that a long poll brings are published here.
    ///
    /// A long poll holds one of the node's few RPC threads until there is a new block, whether or not anybody still waits
    /// for its answer. So there is one at a time: it goes on while templates are refreshed, until it is answered.
    async fn wait_for_news(&self, active: usize, poll: &mut Option<LongPoll<N::Template>>) {
        loop {
            let current = self.current.borrow().clone();
            let Some(current) = current else { return };
            if poll.as_ref().is_some_and(|poll| poll.node != active) {
                *poll = None;
            }
            let next = poll.get_or_insert_with(|| {
                let (node, pause) = (Arc::clone(&self.nodes[active]), self.config.refresh);
                let after = Arc::clone(&current);
                let answer = async move {
                    let next = node.next_template(&after.template).await;
                    if next.is_err() {
                        // Asking for the tip finds out what is wrong.
                        sleep(pause).await;
                    }
                    next
                };
                LongPoll { node: active, answer: Box::pin(answer) }
            });
            tokio::select! {
                () = self.look.notified() => {
                    let group = self.group();
                    let stands = |tip: Tip| N::parent(&current.template) == (tip.height, tip.hash);
                    // The long poll may have been faster than whoever asked for the tip.
                    if group.active() == Some(active) && group.tip(active).is_some_and(stands) {
                        continue;
                    }
                    return;
                }
                () = sleep(self.config.refresh) => return,
                next = &mut next.answer => {
                    *poll = None;
                    if let Ok(template) = next {
                        self.publish(active, template);
                    }
                }
            }
        }
    }

    fn publish(&self, node: usize, template: N::Template) {
        self.group().on_work(node);
        self.current.send_modify(|current| {
            let before = current.as_ref().map(|current| N::parent(&current.template));
            let new_block = before != Some(N::parent(&template));
            *current = Some(Arc::new(Current { template, node, at: Instant::now(), new_block }));
        });
    }
}
