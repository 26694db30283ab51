//! ZMQ: a node's word that its tip changed. It may be lost without a sign, so polling goes on behind it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use zeromq::{Socket, SocketRecv, SubSocket, ZmqError};

/// How long to wait before connecting anew.
const RETRY: Duration = Duration::from_secs(2);

/// Wakes `wake` whenever the node at `endpoint` (such as `tcp://127.0.0.1:28332`) publishes something whose
/// topic begins so: `hashblock` for Bitcoin's family, `json-minimal-chain_main` for Monero. What it says is
/// not read: the node is asked instead. Goes on until the task is aborted.
pub fn listen(endpoint: String, topic: &'static str, wake: Arc<Notify>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            // Whatever ended it, the node is polled meanwhile.
            let _ = listen_once(&endpoint, topic, &wake).await;
            tokio::time::sleep(RETRY).await;
        }
    })
}

async fn listen_once(endpoint: &str, topic: &str, wake: &Notify) -> Result<(), ZmqError> {
    let mut socket = SubSocket::new();
    socket.connect(endpoint).await?;
    socket.subscribe(topic).await?;
    loop {
        socket.recv().await?;
        wake.notify_one();
    }
}
