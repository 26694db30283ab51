//! Two connected nodes of Litecoin in regtest: one alone hands out no templates. (Debian's are built without
//! ZMQ; news by ZMQ is tested on Monero's.)

use std::time::Duration;

use otedama_pool::coin::{Coin, Network};
use otedama_pool::node::bitcoin::BitcoinNode;
use otedama_pool::node::rpc::{Auth, Rpc, RpcConfig};
use serde_json::{Value, json};

use super::{Daemon, free_port};

/// A node and its folder.
pub(crate) struct Litecoin {
    daemon: Daemon,
    /// Its RPC.
    pub(crate) rpc: Rpc,
}

impl Litecoin {
    /// Starts one; `peer` is the port of another to connect to.
    pub(crate) fn start(p2p_port: u16, peer: Option<u16>) -> Option<Litecoin> {
        let rpc_port = free_port();
        let daemon = Daemon::start("litecoind", |folder| {
            let mut args = vec![
                "-regtest".to_owned(),
                format!("-datadir={}", folder.display()),
                format!("-rpcport={rpc_port}"),
                format!("-port={p2p_port}"),
                format!("-bind=127.0.0.1:{p2p_port}"),
                "-server".to_owned(),
                "-dnsseed=0".to_owned(),
                // A wallet makes 1000 keys beforehand otherwise, each of them synced to disk.
                "-keypool=8".to_owned(),
                "-fallbackfee=0.0001".to_owned(),
                "-printtoconsole=1".to_owned(),
            ];
            args.extend(peer.map(|port| format!("-connect=127.0.0.1:{port}")));
            args
        })?;
        let cookie = Auth::Cookie(daemon.folder().join("regtest/.cookie"));
        let mut config = RpcConfig::new(format!("http://127.0.0.1:{rpc_port}"), cookie);
        config.timeout = Duration::from_secs(120); // a busy machine generates hundreds of blocks in one call
        Some(Litecoin { daemon, rpc: Rpc::new(config).unwrap() })
    }

    /// Two that are connected, with a wallet in the first and one block, so that they hand out templates.
    pub(crate) async fn pair() -> Option<(Litecoin, Litecoin)> {
        let port = free_port();
        let mut first = Litecoin::start(port, None)?;
        first.ready();
        let mut second = Litecoin::start(free_port(), Some(port))?;
        second.ready();
        first.call("createwallet", json!(["pool"])).await;
        while first.call("getconnectioncount", json!([])).await == json!(0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        first.generate(1).await;
        Some((first, second))
    }

    /// The file that holds its RPC's password.
    pub(crate) fn cookie(&self) -> std::path::PathBuf {
        self.daemon.folder().join("regtest/.cookie")
    }

    /// The pool's view of it.
    pub(crate) fn node(&self) -> BitcoinNode {
        BitcoinNode::new(self.rpc.clone(), Coin::find("litecoin", Network::Regtest).unwrap())
    }

    /// Calls a method that must succeed.
    pub(crate) async fn call(&self, method: &str, params: Value) -> Value {
        self.rpc.call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// A new address of the wallet.
    pub(crate) async fn address(&self, kind: &str) -> String {
        self.call("getnewaddress", json!(["", kind])).await.as_str().unwrap().to_owned()
    }

    /// Has the node find blocks that pay its wallet.
    pub(crate) async fn generate(&self, blocks: u32) {
        let address = self.address("bech32").await;
        self.call("generatetoaddress", json!([blocks, address])).await;
    }

    /// Waits until it answers.
    fn ready(&mut self) {
        // The first thing a node writes when its RPC is up is the cookie; it answers "warming up" for a while.
        let cookie = self.cookie();
        self.daemon.wait_for("cookie", || cookie.exists().then_some(()));
        let rpc = self.rpc.clone();
        self.daemon.wait_for("answer", || {
            let rpc = rpc.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(rpc.call::<Value>("getblockcount", json!([]))).ok()
            })
            .join()
            .unwrap()
        });
    }
}
