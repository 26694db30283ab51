//! The miner's side of the wire: a thread that speaks to pools, and the tasks that come of it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use otedama_core::Algorithm;
use otedama_core::engine::{Assignment, WorkSource};
use otedama_core::epoch::{Epoch, EpochKey};
use otedama_pool::client::{self, Link, Notice, Patience};
use otedama_pool::session::Client;
use otedama_pool::session::client::{
    Account, BitcoinClient, BitcoinClientConfig, EthereumClient, EthereumClientConfig, KawPowClient,
    MoneroClient,
};
use otedama_pool::stratum::Dialect;
use otedama_pool::work::Task;
use tokio::sync::watch;

use crate::failure::Failure;
use crate::miner::plan::Plan;

/// The thread that speaks to pools.
pub(crate) struct Network {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Network {
    /// Speaks to the plan's pools and tells what happens.
    pub(crate) fn start(
        plan: &Plan,
        end: client::LinkEnd,
        tell: impl Fn(Notice) + Send + 'static,
    ) -> Result<Network, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let (pools, accounts) = (plan.pools.clone(), plan.accounts.clone());
        let (algorithm, dialect) = (plan.algorithm, plan.dialect);
        let speak = move || {
            let open = move |index: usize| session(algorithm, dialect, accounts[index].clone());
            runtime.block_on(client::run(&pools, &Patience::default(), end, open, tell, stopped));
        };
        let thread = thread::Builder::new().name("network".to_owned()).spawn(speak)?;
        Ok(Network { stop, thread })
    }

    /// Closes the connection, once what is under way has been sent.
    pub(crate) fn stop(self) {
        // A thread that has ended already hears nothing.
        let _ = self.stop.send(true);
        let _ = self.thread.join();
    }
}

/// The miner's end of a connection.
fn session(algorithm: Algorithm, dialect: Dialect, account: Account) -> Box<dyn Client> {
    match algorithm {
        Algorithm::Ethash | Algorithm::Etchash => {
            // Miners that share their nonces begin at different ones, and so does one that comes again: the seed that the
            // standard library gives each table is random enough for that.
            let nonce_start = RandomState::new().build_hasher().finish();
            Box::new(EthereumClient::new(EthereumClientConfig { algorithm, dialect, account, nonce_start }))
        }
        Algorithm::KawPow => Box::new(KawPowClient::new(account)),
        Algorithm::RandomXV1 | Algorithm::RandomXV2 => Box::new(MoneroClient::new(algorithm, account)),
        _ => {
            let version_mask = if algorithm == Algorithm::Sha256d { 0x1fff_e000 } else { 0 };
            Box::new(BitcoinClient::new(BitcoinClientConfig {
                algorithm,
                account,
                version_mask,
                suggest: None,
            }))
        }
    }
}

/// Tasks as they come from the pool, and the epoch that they can be done with. Shared by the engine, which asks
/// when it has used up its work, and the loop that looks after it.
#[derive(Clone)]
pub(crate) struct Tasks {
    link: Link,
    state: Arc<Mutex<TasksState>>,
}

#[derive(Default)]
struct TasksState {
    /// The epoch at hand.
    epoch: Option<Arc<Epoch>>,
    /// A task whose epoch is not at hand yet.
    waiting: Option<Task>,
}

impl Tasks {
    pub(crate) fn new(link: Link) -> Tasks {
        Tasks { link, state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, TasksState> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest task, else the one that waits; `None` if there is none that can be done now.
    pub(crate) fn next(&self) -> Option<Assignment> {
        let mut state = self.lock();
        let task = self.link.next_task().or_else(|| state.waiting.take())?;
        let assignment = Assignment::part(Arc::clone(&task.job), task.space).ok()?;
        let Some(key) = task.job.epoch() else { return Some(assignment) };
        match state.epoch.as_ref().filter(|epoch| epoch.key() == key) {
            Some(epoch) => Some(assignment.with_epoch(Arc::clone(epoch))),
            None => {
                state.waiting = Some(task);
                None
            }
        }
    }

    /// The connection is gone, and what it gave is worth nothing.
    pub(crate) fn forget(&self) {
        self.lock().waiting = None;
    }

    /// The epoch that a task waits for.
    pub(crate) fn wanted(&self) -> Option<EpochKey> {
        self.lock().waiting.as_ref().and_then(|task| task.job.epoch().copied())
    }

    /// This is the epoch at hand from now on.
    pub(crate) fn provide(&self, epoch: Option<Arc<Epoch>>) {
        self.lock().epoch = epoch;
    }
}

impl WorkSource for Tasks {
    fn next(&mut self) -> Option<Assignment> {
        Tasks::next(self)
    }
}
