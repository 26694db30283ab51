//! Monero on a private chain: a node, and wallets that it serves.

use std::time::Duration;

use otedama_pool::node::monero::MoneroNode;
use otedama_pool::node::rpc::{Auth, Rpc, RpcConfig};
use serde_json::{Value, json};

use super::{Daemon, free_port};

/// A node alone with itself.
pub(crate) struct Monero {
    _daemon: Daemon,
    /// Its RPC.
    pub(crate) rpc: Rpc,
    /// Where it publishes its news.
    pub(crate) zmq: String,
    port: u16,
}

impl Monero {
    /// A node whose blocks take this many hashes on average. `None` if it is not installed.
    pub(crate) fn start(difficulty: u32) -> Option<Monero> {
        let [rpc_port, p2p_port, zmq_rpc_port] = [(); 3].map(|()| free_port());
        let zmq = format!("tcp://127.0.0.1:{}", free_port());
        let mut daemon = Daemon::start("monerod", |folder| {
            let given = [
                "--regtest".to_owned(),
                "--offline".to_owned(),
                "--fixed-difficulty".to_owned(),
                difficulty.to_string(),
                "--data-dir".to_owned(),
                folder.display().to_string(),
                format!("--rpc-bind-port={rpc_port}"),
                format!("--p2p-bind-port={p2p_port}"),
                format!("--zmq-pub={zmq}"),
                format!("--zmq-rpc-bind-port={zmq_rpc_port}"),
                "--no-igd".to_owned(),
                "--non-interactive".to_owned(),
            ];
            given.to_vec()
        })?;
        let rpc = answering(&mut daemon, rpc_port, "get_info");
        Some(Monero { _daemon: daemon, rpc, zmq, port: rpc_port })
    }

    /// The pool's view of it, if its blocks pay this wallet.
    pub(crate) fn node(&self, wallet: &str) -> MoneroNode {
        MoneroNode::new(self.rpc.clone(), wallet, 8)
    }

    /// Has the node find blocks that pay this address.
    pub(crate) async fn generate(&self, blocks: u32, address: &str) {
        let request = json!({ "amount_of_blocks": blocks, "wallet_address": address, "starting_nonce": 0 });
        let _: Value = self.rpc.call("generateblocks", request).await.unwrap();
    }
}

/// A wallet of its own, which sees this node's chain.
pub(crate) struct MoneroPurse {
    _daemon: Daemon,
    /// Its RPC.
    pub(crate) rpc: Rpc,
    /// Its address.
    pub(crate) address: String,
}

impl MoneroPurse {
    /// A new wallet. `None` if the program is not installed.
    pub(crate) async fn open(node: &Monero) -> Option<MoneroPurse> {
        let port = free_port();
        let mut daemon = Daemon::start("monero-wallet-rpc", |folder| {
            let given = [
                format!("--rpc-bind-port={port}"),
                "--disable-rpc-login".to_owned(),
                format!("--daemon-address=127.0.0.1:{}", node.port),
                "--trusted-daemon".to_owned(),
                format!("--wallet-dir={}", folder.display()),
                format!("--log-file={}", folder.join("log").display()),
                "--non-interactive".to_owned(),
            ];
            given.to_vec()
        })?;
        let rpc = answering(&mut daemon, port, "get_version");
        let request = json!({ "filename": "purse", "password": "", "language": "English" });
        let _: Value = rpc.call("create_wallet", request).await.unwrap();
        let own: Value = rpc.call("get_address", json!({ "account_index": 0 })).await.unwrap();
        let address = own["address"].as_str().unwrap().to_owned();
        Some(MoneroPurse { _daemon: daemon, rpc, address })
    }

    /// Looks at the chain now; what the wallet has, in piconero, spendable or not.
    pub(crate) async fn balance(&self) -> u64 {
        let _: Value = self.rpc.call("refresh", json!({})).await.unwrap();
        let balance: Value = self.rpc.call("get_balance", json!({ "account_index": 0 })).await.unwrap();
        balance["balance"].as_u64().unwrap()
    }
}

/// The RPC at this port, once it answers.
fn answering(daemon: &mut Daemon, port: u16, method: &'static str) -> Rpc {
    let mut config = RpcConfig::new(format!("http://127.0.0.1:{port}/json_rpc"), Auth::None);
    // The node hashes in light mode as well, on a busy machine.
    config.timeout = Duration::from_secs(120);
    let rpc = Rpc::new(config).unwrap();
    daemon.wait_for("answer", || {
        let rpc = rpc.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(rpc.call::<Value>(method, json!({}))).ok()
        })
        .join()
        .unwrap()
    });
    rpc
}
