//! What programs can ask of a miner, and tell it, over HTTP.
//!
//! ```text
//!   GET  /api/status         what it does and how fast        POST /api/mining/stop    the workers pause
//!   GET  /api/stats          shares, power, history, events   POST /api/mining/start   they go on
//!   GET  /api/workers        each thread and GPU              GET  /api/ws             WebSocket: a status every second, and events
//! ```
//!
//! Answers are JSON objects; an error is `{"error": "..."}`. Everything is bounded: connections, the time a request
//! may take to arrive, its size, requests a minute. Who may ask is for [`Guard`] to say.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, broadcast, oneshot, watch};
use tokio::time::{self, MissedTickBehavior, interval_at, sleep, timeout};

use crate::failure::{Failure, work};
use crate::miner::guard::{Buckets, Guard, Refusal};
use crate::miner::plan::ApiPlan;
use crate::miner::status::{State as Mining, Status};

/// Connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;

/// WebSockets at a time.
const MAX_SOCKETS: usize = 16;

/// How long the head of a request may take to arrive, and a connection be quiet.
const HEAD: Duration = Duration::from_secs(10);

/// The most bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;

/// The most bytes of a request's body, and of a message on a WebSocket: nothing that is asked here has one.
const MAX_BODY: usize = 1024;

/// How long a reader may take for what is sent to it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Events that a reader may be behind; those beyond are skipped.
const EVENTS_BEHIND: usize = 256;

/// What a caller wants done. The answer is what the miner does then.
pub(crate) struct Command {
    pub(crate) what: Steer,
    pub(crate) done: oneshot::Sender<Mining>,
}

/// Ways to steer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steer {
    Start,
    Stop,
}

/// The server; gone when it is dropped.
pub(crate) struct Api {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    guard: Guard,
    buckets: Mutex<Buckets>,
    status: watch::Sender<Arc<Status>>,
    events: broadcast::Sender<Utf8Bytes>,
    sockets: Arc<Semaphore>,
    /// Hands a command to the miner; `false` if there is no room for it.
    command: Box<dyn Fn(Command) -> bool + Send + Sync>,
}

impl Api {
    /// Listens, and answers on a thread of its own.
    pub(crate) fn start(
        plan: &ApiPlan,
        status: Status,
        command: impl Fn(Command) -> bool + Send + Sync + 'static,
    ) -> Result<Api, Failure> {
        let cannot = |error| work(format!("cannot listen for the API at {}: {error}", plan.address));
        let listener = TcpListener::bind(plan.address).map_err(cannot)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared {
            guard: Guard::new(plan),
            buckets: Mutex::new(Buckets::new(plan.rate_limit)),
            status: watch::Sender::new(Arc::new(status)),
            events: broadcast::Sender::new(EVENTS_BEHIND),
            sockets: Arc::new(Semaphore::new(MAX_SOCKETS)),
            command: Box::new(command),
        });
        let (stop, mut stopped) = watch::channel(false);
        let served = Arc::clone(&shared);
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let answer = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, served) => {}
                    // A sender that is gone says the same.
                    _ = stopped.wait_for(|&stop| stop) => {}
                }
            });
        };
        let thread = thread::Builder::new().name("api".to_owned()).spawn(answer)?;
        Ok(Api { address, shared, stop, thread: Some(thread) })
    }

    /// This is how things stand now.
    pub(crate) fn publish(&self, status: Status) {
        self.shared.status.send_replace(Arc::new(status));
    }

    /// This happened.
    pub(crate) fn tell(&self, event: &Value) {
        // Nobody may be listening.
        let _ = self.shared.events.send(event.to_string().into());
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and ends nothing but itself.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    let router = router(Arc::clone(&shared));
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Out of file handles, say: it may pass.
            Err(_) => {
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone().layer(Extension(peer)));
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            // Whoever breaks off has nobody to tell.
            let _ = connection.await;
            drop(place);
        });
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let ask = |part: fn(&Status) -> Value| {
        get(move |State(shared): State<Arc<Shared>>| async move { answer(&part(&shared.now())) })
    };
    let steer = |what| post(move |state, body| steer(what, state, body));
    Router::new()
        .route("/api/status", ask(Status::summary))
        .route("/api/stats", ask(Status::stats))
        .route("/api/workers", ask(|status| json!({ "workers": status.workers })))
        .route("/api/mining/start", steer(Steer::Start))
        .route("/api/mining/stop", steer(Steer::Stop))
        .route("/api/ws", get(socket))
        .fallback(|| async { error(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            error(StatusCode::METHOD_NOT_ALLOWED, "this is asked with another method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), admit))
        .with_state(shared)
}

/// Lets in whoever may, and marks answers as nobody's to keep.
async fn admit(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let few = {
        let mut buckets = shared.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.take(peer.ip(), Instant::now())
    };
    let admitted = few.and_then(|()| shared.guard.check(request.method(), request.headers()));
    let mut response = match admitted {
        Ok(()) => next.run(request).await,
        Err(refusal) => refused(&refusal),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn refused(refusal: &Refusal) -> Response {
    let mut response = error(refusal.status, &refusal.words);
    if let Some(after) = refusal.after {
        // Whole seconds, and not too early.
        response.headers_mut().insert(header::RETRY_AFTER, (after.as_secs() + 1).into());
    }
    if refusal.status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

async fn steer(
    what: Steer,
    State(shared): State<Arc<Shared>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if let Err(rejection) = body {
        return error(rejection.status(), &rejection.body_text());
    }
    let (done, outcome) = oneshot::channel();
    if !(shared.command)(Command { what, done }) {
        return error(StatusCode::SERVICE_UNAVAILABLE, "the miner is too busy to listen");
    }
    match timeout(PATIENCE, outcome).await {
        Ok(Ok(state)) => answer(&json!({ "state": state })),
        _ => error(StatusCode::SERVICE_UNAVAILABLE, "the miner does not answer"),
    }
}

async fn socket(
    State(shared): State<Arc<Shared>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return error(rejection.status(), &rejection.body_text()),
    };
    let Ok(place) = Arc::clone(&shared.sockets).try_acquire_owned() else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "too many WebSockets are open");
    };
    upgrade.max_message_size(MAX_BODY).max_frame_size(MAX_BODY).on_upgrade(move |socket| async move {
        feed(socket, &shared).await;
        drop(place);
    })
}

/// Sends a status at once and every second, and events as they happen, until the reader leaves or falls asleep.
async fn feed(mut socket: WebSocket, shared: &Shared) {
    let mut events = shared.events.subscribe();
    let second = Duration::from_secs(1);
    let mut seconds = interval_at(time::Instant::now() + second, second);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // By itself: the first tick of an interval may come after what has happened meanwhile.
    let mut text: Utf8Bytes = shared.now().event().into();
    while let Ok(Ok(())) = timeout(PATIENCE, socket.send(Message::Text(text))).await {
        text = loop {
            tokio::select! {
                _ = seconds.tick() => break shared.now().event().into(),
                event = events.recv() => match event {
                    Ok(text) => break text,
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                message = socket.recv() => match message {
                    None | Some(Err(_) | Ok(Message::Close(_))) => return,
                    // Nothing that is said here means anything.
                    Some(Ok(_)) => {}
                },
            }
        };
    }
}

impl Shared {
    fn now(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }
}

fn answer(object: &Value) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], object.to_string()).into_response()
}

fn error(status: StatusCode, words: &str) -> Response {
    (status, answer(&json!({ "error": words }))).into_response()
}
