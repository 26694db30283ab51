//! A node that answers as it is told, faults included.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use otedama_pool::node::rpc::{Auth, Rpc, RpcConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What the node does with a call.
pub(crate) enum Reply {
    /// Answers with a result.
    Result(Value),
    /// Answers with an error, as nodes of Bitcoin's family do: status 500.
    Error(i64, &'static str),
    /// Sends these bytes instead of an answer, and closes.
    Raw(Vec<u8>),
    /// Says nothing and keeps the connection.
    Silence,
    /// Closes without a word.
    Close,
    /// Answers later.
    Later(Duration, Box<Reply>),
}

type Script = dyn FnMut(&str, &Value) -> Reply + Send;

/// A node on loopback; gone when dropped.
pub(crate) struct Fake {
    address: SocketAddr,
    task: AbortHandle,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Starts one that answers each call (method, parameters) by this script.
    pub(crate) async fn start(script: impl FnMut(&str, &Value) -> Reply + Send + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Box<Script>>> = Arc::new(Mutex::new(Box::new(script)));
        let noted = calls.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, script.clone(), noted.clone()));
            }
        });
        Fake { address, task: task.abort_handle(), calls }
    }

    /// A client for it, which waits two seconds and reads 64 KiB at most.
    pub(crate) fn rpc(&self) -> Rpc {
        self.rpc_with(Auth::None)
    }

    pub(crate) fn rpc_with(&self, auth: Auth) -> Rpc {
        let mut config = RpcConfig::new(format!("http://{}", self.address), auth);
        config.timeout = Duration::from_secs(2);
        config.max_answer_bytes = 64 << 10;
        Rpc::new(config).unwrap()
    }

    /// The methods called so far, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Mutex<Box<Script>>>, calls: Arc<Mutex<Vec<String>>>) {
    let Some((head, body)) = read_request(&mut stream).await else { return };
    let call: Value = serde_json::from_slice(&body).unwrap();
    let method = call["method"].as_str().unwrap().to_owned();
    calls.lock().unwrap().push(method.clone());
    let mut params = call["params"].clone();
    if method == "authorization" {
        params = head.into();
    }
    let mut reply = script.lock().unwrap()(&method, &params);
    while let Reply::Later(after, then) = reply {
        tokio::time::sleep(after).await;
        reply = *then;
    }
    let (status, answer) = match reply {
        Reply::Result(result) => (200, json!({ "result": result, "error": null, "id": call["id"] })),
        Reply::Error(code, message) => {
            let error = json!({ "code": code, "message": message });
            (500, json!({ "result": null, "error": error, "id": call["id"] }))
        }
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await;
            return;
        }
        Reply::Silence => return std::future::pending().await,
        Reply::Close | Reply::Later(..) => return,
    };
    let _ = stream.write_all(&http(status, answer.to_string().as_bytes())).await;
}

/// An HTTP answer.
pub(crate) fn http(status: u16, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.ok().filter(|&read| read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
            .unwrap_or(0);
        if bytes.len() >= end + 4 + length {
            return Some((head, bytes[end + 4..].to_vec()));
        }
    }
}
