//! JSON-RPC to a chain node over HTTP: bounded in time and size, and exact about what a failure means.
//!
//! What matters about a call that failed is whether the node may have acted on it. [`RpcError::effect`] says
//! which: not at all (nothing was sent), refused (the node said no), or unknown (it was sent and no answer
//! that can be read came back). A block whose fate is unknown must be looked up, never written off.
//!
//! Each call makes a connection of its own. One kept open may be closed by the node at the moment a block is
//! written to it, which would make that block's fate unknown; connecting costs a round trip.
//!
//! Plain HTTP only: nodes listen on the same machine or network. For one elsewhere, tunnel.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::values::without_password;

/// Where a node is and how to talk to it.
#[derive(Clone, Debug)]
pub struct RpcConfig {
    /// `http://host:port/path`, such as `http://127.0.0.1:9332` or `http://127.0.0.1:18081/json_rpc`.
    pub url: String,
    /// How to log in.
    pub auth: Auth,
    /// The longest a connection may take to come about.
    pub connect_timeout: Duration,
    /// The longest a call may take, connection included.
    pub timeout: Duration,
    /// The longest answer read. Templates of full blocks have some 10 MB.
    pub max_answer_bytes: usize,
}

impl RpcConfig {
    /// The usual limits: 3 s to connect, 20 s in all, 32 MiB.
    pub fn new(url: impl Into<String>, auth: Auth) -> RpcConfig {
        RpcConfig {
            url: url.into(),
            auth,
            connect_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(20),
            max_answer_bytes: 32 << 20,
        }
    }
}

/// How to log in to a node.
#[derive(Clone)]
pub enum Auth {
    /// Not at all.
    None,
    /// User name and password (`rpcuser`, `rpcpassword`).
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// The cookie file, `.cookie` in the node's data folder. Read for every call: it changes whenever the
    /// node starts.
    Cookie(PathBuf),
}

impl std::fmt::Debug for Auth {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Auth::None => f.write_str("None"),
            Auth::Basic { user, .. } => write!(f, "Basic({user})"),
            Auth::Cookie(path) => write!(f, "Cookie({})", path.display()),
        }
    }
}

/// A node's JSON-RPC interface. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rpc(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: RpcConfig,
    host: String,
    port: u16,
    authority: String,
    path: String,
    next_id: AtomicU64,
}

impl Rpc {
    /// A client; connects to nothing yet.
    ///
    /// # Errors
    /// If the URL is not one.
    pub fn new(config: RpcConfig) -> Result<Rpc, BadUrl> {
        let bad = |why| BadUrl { url: without_password(&config.url).into_owned(), why };
        let uri: Uri = config.url.parse().map_err(|_| bad("it is no URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(bad("its scheme is not http"));
        }
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("user and password belong into settings of their own"));
        }
        let port = authority.port_u16().ok_or_else(|| bad("it names no port"))?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Rpc(Arc::new(Shared {
            authority: authority.as_str().to_owned(),
            config,
            host,
            port,
            path,
            next_id: AtomicU64::new(1),
        })))
    }

    /// The URL it was made with.
    pub fn url(&self) -> &str {
        &self.0.config.url
    }

    /// Calls a method within the usual time.
    ///
    /// # Errors
    /// [`RpcError`]; its [`effect`](RpcError::effect) says whether the node may have acted.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: impl Serialize,
    ) -> Result<T, RpcError> {
        self.call_within(self.0.config.timeout, method, params).await
    }

    /// Calls a method that may take this long (long polls).
    ///
    /// # Errors
    /// As [`Rpc::call`].
    pub async fn call_within<T: DeserializeOwned>(
        &self,
        limit: Duration,
        method: &str,
        params: impl Serialize,
    ) -> Result<T, RpcError> {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let question = Question { jsonrpc: "2.0", id, method, params };
        let question = serde_json::to_vec(&question).map_err(|error| RpcError::NotSent(error.to_string()))?;
        let (status, answer) = self.post(limit, question).await?;
        read_answer(status, &answer)
    }

    /// Sends a question and returns the status and body of the answer.
    async fn post(&self, limit: Duration, question: Vec<u8>) -> Result<(StatusCode, Bytes), RpcError> {
        let Shared { config, host, port, authority, path, .. } = &*self.0;
        let deadline = Instant::now() + limit;
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close");
        let request = match authorization(&config.auth).await? {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        };
        let request = request
            .body(Full::new(Bytes::from(question)))
            .map_err(|error| RpcError::NotSent(error.to_string()))?;

        let connect = TcpStream::connect((host.as_str(), *port));
        let stream = timeout(config.connect_timeout.min(limit), connect)
            .await
            .map_err(|_| RpcError::NotSent("timed out while connecting".to_owned()))?
            .map_err(|error| RpcError::NotSent(error.to_string()))?;
        // A block is small pieces of header and one large body: none of them should wait for another.
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| RpcError::NotSent(error.to_string()))?;

        // From here on the node may act, whatever comes back.
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|error| unread(&error))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), config.max_answer_bytes).collect().await.map_err(
                |error| match error.downcast_ref::<LengthLimitError>() {
                    Some(_) => RpcError::Unreadable(format!(
                        "answer is longer than {} bytes",
                        config.max_answer_bytes
                    )),
                    None => RpcError::NoAnswer(error.to_string()),
                },
            )?;
            Ok((status, body.to_bytes()))
        };
        let both = async {
            tokio::pin!(exchange, connection);
            tokio::select! {
                answer = &mut exchange => answer,
                // The connection is done when all of the answer has come; what is left is to read it.
                _ = &mut connection => exchange.await,
            }
        };
        timeout_at(deadline, both)
            .await
            .map_err(|_| RpcError::NoAnswer(format!("timed out after {} ms", limit.as_millis())))?
    }
}

/// The value of the header that logs in.
async fn authorization(auth: &Auth) -> Result<Option<String>, RpcError> {
    let secret = match auth {
        Auth::None => return Ok(None),
        Auth::Basic { user, password } => format!("{user}:{password}"),
        Auth::Cookie(path) => std::fs::read_to_string(path)
            .map_err(|error| RpcError::NotSent(format!("cookie file {}: {error}", path.display())))?
            .trim()
            .to_owned(),
    };
    Ok(Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(secret))))
}

fn unread(error: &hyper::Error) -> RpcError {
    RpcError::NoAnswer(error.to_string())
}

#[derive(Serialize)]
struct Question<'a, P> {
    jsonrpc: &'a str,
    id: u64,
    method: &'a str,
    params: P,
}

#[derive(Deserialize)]
struct Answer<'a> {
    // "result": null is a result; a missing one is none.
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Reads an answer; nodes of Bitcoin's family send refusals with status 500 and 404.
fn read_answer<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, RpcError> {
    // A list would do for serde as well: "[null]" must not pass for a success.
    let answer = match body.trim_ascii_start() {
        object @ [b'{', ..] => serde_json::from_slice::<Answer<'_>>(object).ok(),
        _ => None,
    };
    match answer {
        Some(Answer { error: Some(Refusal { code, message }), .. }) => {
            Err(RpcError::Refused { code, message: shortened(&message) })
        }
        Some(Answer { result: Some(result), .. }) if status.is_success() => {
            serde_json::from_str(result.get())
                .map_err(|error| RpcError::Unreadable(format!("unexpected result: {error}")))
        }
        _ => match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(RpcError::Unauthorized(status.as_u16())),
            // Core's work queue is full: the call was not queued.
            StatusCode::SERVICE_UNAVAILABLE => Err(RpcError::Busy),
            _ => {
                let body: String = String::from_utf8_lossy(body).chars().take(100).collect();
                Err(RpcError::Unreadable(format!(
                    "status {status}, and the body is no JSON-RPC answer: {body:?}"
                )))
            }
        },
    }
}

/// A node's words, at most 300 characters of them: they go into logs.
fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// The question never left: no connection, no cookie.
    #[error("node cannot be reached: {0}")]
    NotSent(String),
    /// The question was sent, and no whole answer came.
    #[error("node did not answer: {0}")]
    NoAnswer(String),
    /// An answer came that cannot be used.
    #[error("node's answer cannot be read: {0}")]
    Unreadable(String),
    /// The login was refused.
    #[error("node refused the login (status {0}): check user and password or the cookie file")]
    Unauthorized(u16),
    /// The node had no room in its queue.
    #[error("node is busy (status 503): raise its rpcworkqueue")]
    Busy,
    /// The node answered with an error.
    #[error("node refused: {message} ({code})")]
    Refused {
        /// JSON-RPC's or the node's own code.
        code: i64,
        /// The node's words, shortened.
        message: String,
    },
}

/// What a failed call may have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: the node never saw the call, or did not take it up.
    None,
    /// The node took it up and answered with an error. Whether it acted before that depends on the method
    /// and the code.
    Refused,
    /// It may have done all that was asked.
    Unknown,
}

impl RpcError {
    /// What the call may have done.
    pub fn effect(&self) -> Effect {
        match self {
            RpcError::NotSent(_) | RpcError::Unauthorized(_) | RpcError::Busy => Effect::None,
            RpcError::Refused { .. } => Effect::Refused,
            RpcError::NoAnswer(_) | RpcError::Unreadable(_) => Effect::Unknown,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, RpcError::Unauthorized(_))
    }

    /// The node's error code, if it answered with one.
    pub fn code(&self) -> Option<i64> {
        match self {
            RpcError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// A URL that is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node URL '{url}' cannot be used: {why}; expected http://host:port")]
pub struct BadUrl {
    /// The URL.
    pub url: String,
    /// What is wrong with it.
    pub why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn urls_are_taken_apart_or_refused() {
        let rpc = |url: &str| Rpc::new(RpcConfig::new(url, Auth::None));
        let parts = |url: &str| {
            let shared = rpc(url).unwrap().0;
            (shared.host.clone(), shared.port, shared.path.clone())
        };
        assert_eq!(parts("http://127.0.0.1:9332"), ("127.0.0.1".into(), 9332, "/".into()));
        assert_eq!(parts("http://[::1]:1/json_rpc"), ("::1".into(), 1, "/json_rpc".into()));
        for bad in ["https://a:1", "a:1", "http://a", "http://u:p@a:1", "", "http://a b:1"] {
            assert!(rpc(bad).is_err(), "{bad}");
        }
        assert_eq!(
            rpc("https://a:1").unwrap_err().to_string(),
            "node URL 'https://a:1' cannot be used: its scheme is not http; expected http://host:port"
        );
    }

    #[test]
    fn passwords_stay_out_of_what_is_shown() {
        let error = Rpc::new(RpcConfig::new("http://u:hunter2@h:1", Auth::None)).unwrap_err().to_string();
        assert!(error.contains("http://...@h:1") && !error.contains("hunter2"), "{error}");
        let auth = Auth::Basic { user: "pool".into(), password: "hunter2".into() };
        let config = RpcConfig::new("http://127.0.0.1:1", auth);
        assert!(!format!("{:?}", Rpc::new(config).unwrap()).contains("hunter2"));
    }

    #[test]
    fn an_answer_is_a_result_a_refusal_or_neither() {
        let read = |status: u16, body: &str| {
            read_answer::<Value>(StatusCode::from_u16(status).unwrap(), body.as_bytes())
        };
        assert_eq!(read(200, r#"{"result":null,"error":null,"id":1}"#), Ok(Value::Null));
        assert_eq!(read(200, r#"{"jsonrpc":"2.0","result":7,"id":1}"#), Ok(Value::from(7)));
        let refused = read(500, r#"{"result":null,"error":{"code":-10,"message":"sync"},"id":1}"#);
        assert_eq!(refused, Err(RpcError::Refused { code: -10, message: "sync".into() }));
        assert_eq!(refused.unwrap_err().effect(), Effect::Refused);
        assert_eq!(read(401, ""), Err(RpcError::Unauthorized(401)));
        assert_eq!(read(503, "Work queue depth exceeded"), Err(RpcError::Busy));
        for (status, body) in
            [(200, ""), (200, "{}"), (502, "<html>"), (200, "[null]"), (200, "{\"result\":")]
        {
            assert_eq!(read(status, body).unwrap_err().effect(), Effect::Unknown, "{status} {body}");
        }
    }
}
