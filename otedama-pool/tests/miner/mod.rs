//! The miner's network side with a proven share now and then, for tests of either end.

use std::net::SocketAddr;
use std::time::Duration;

use otedama_core::Algorithm;
use otedama_pool::client::{Link, Notice, Patience, Pool, PoolUrl, Trust, link, run};
use otedama_pool::session::Client;
use otedama_pool::session::client::{Account, BitcoinClient, BitcoinClientConfig};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::Prover;

pub(crate) fn at(address: SocketAddr, tls: bool, trust: Trust) -> Pool {
    let url = PoolUrl { host: address.ip().to_string(), port: address.port(), tls };
    Pool { url, trust }
}

pub(crate) struct Miner {
    pub(crate) link: Link,
    notices: mpsc::UnboundedReceiver<Notice>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

pub(crate) fn account(username: &str) -> Account {
    Account { agent: "t".to_owned(), username: username.to_owned(), password: "x".to_owned() }
}

pub(crate) fn mine(pools: Vec<Pool>) -> Miner {
    mine_as(pools, |_| {
        let account = account("a.b");
        let config = BitcoinClientConfig {
            algorithm: Algorithm::Sha256d,
            account,
            version_mask: 0x1fff_e000,
            suggest: None,
        };
        Box::new(BitcoinClient::new(config))
    })
}

pub(crate) fn mine_as(
    pools: Vec<Pool>,
    open: impl FnMut(usize) -> Box<dyn Client> + Send + 'static,
) -> Miner {
    let (link, end) = link();
    let (sender, notices) = mpsc::unbounded_channel();
    let (stop, stopped) = watch::channel(false);
    let patience = Patience {
        first_retry: Duration::from_millis(50),
        last_retry: Duration::from_millis(200),
        ..Patience::default()
    };
    let task = tokio::spawn(async move {
        let notice = move |notice| {
            let _ = sender.send(notice);
        };
        run(&pools, &patience, end, open, notice, stopped).await;
    });
    Miner { link, notices, stop, task }
}

impl Miner {
    /// The next notice that fits; what does not is passed over.
    pub(crate) async fn wait(&mut self, what: &str, fits: impl Fn(&Notice) -> bool) -> Notice {
        let mut seen = Vec::new();
        let found = timeout(Duration::from_secs(20), async {
            while let Some(notice) = self.notices.recv().await {
                if fits(&notice) {
                    return Some(notice);
                }
                seen.push(notice);
            }
            None
        });
        found.await.ok().flatten().unwrap_or_else(|| panic!("no {what}: {seen:?}"))
    }

    /// Searches until a share is found, and sends it.
    pub(crate) async fn find_and_submit(&mut self) {
        self.wait("work", |notice| matches!(notice, Notice::Work { .. })).await;
        let task = self.link.next_task().unwrap();
        let share = Prover::new().search(&task, 8_192)[0];
        assert!(self.link.submit(share));
        self.wait("acceptance", |notice| *notice == Notice::Accepted).await;
    }

    pub(crate) async fn finish(self) {
        self.stop.send(true).unwrap();
        timeout(Duration::from_secs(5), self.task).await.expect("it stops").unwrap();
    }
}
