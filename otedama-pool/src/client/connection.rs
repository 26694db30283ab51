//! One connection, from its first packet to its last.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;

use super::{Clock, LinkEnd, Notice, Patience, Pool, TICK, lock, tls};
use crate::session::{ClientError, Event};
use crate::stratum::{LineError, LineSplitter, POOL_LINE_BYTES};

/// Why there is no connection any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// It did not come about.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// It did not come about in time.
    #[error("cannot connect: no answer within {} s", .0.as_secs())]
    ConnectTimeout(Duration),
    /// Reading or writing failed.
    #[error("connection broken: {0}")]
    Broken(String),
    /// The pool does not read.
    #[error("the pool did not take what was sent within {} s", .0.as_secs())]
    WriteTimeout(Duration),
    /// The pool closed it.
    #[error("the pool closed the connection")]
    Closed,
    /// What came were not lines.
    #[error(transparent)]
    Line(#[from] LineError),
    /// The session gave up.
    #[error(transparent)]
    Session(#[from] ClientError),
    /// The pool asked to connect again, to the same host.
    #[error("the pool asked to reconnect")]
    Moved {
        /// The port, if it named one.
        port: Option<u16>,
        /// How long to wait before.
        wait: Duration,
    },
}

/// A stream, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Opens a connection.
pub(super) async fn connect(pool: &Pool, patience: &Patience) -> Result<Box<dyn Stream>, LinkError> {
    let open = async {
        let url = &pool.url;
        let plain = reach(&url.host, url.port, patience.connect).await?;
        // Shares are small and cannot wait.
        plain.set_nodelay(true)?;
        if !url.tls {
            return Ok(Box::new(plain) as Box<dyn Stream>);
        }
        let name = ServerName::try_from(url.host.clone()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::new(tls::config(pool.trust)));
        Ok(Box::new(connector.connect(name, plain).await?) as Box<dyn Stream>)
    };
    match timeout(patience.connect, open).await {
        Ok(opened) => opened.map_err(|error: io::Error| LinkError::Connect(error.to_string())),
        Err(_) => Err(LinkError::ConnectTimeout(patience.connect)),
    }
}

/// Connects to the first of a host's addresses that answers. Each has its part of the time: packets to one of them may
/// vanish (IPv6 that a router announces and nobody carries), which takes the system two minutes to notice.
async fn reach(host: &str, port: u16, patience: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<_> = lookup_host((host, port)).await?.collect();
    let each = patience / u32::try_from(addresses.len() + 1).unwrap_or(u32::MAX);
    let mut why = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for (index, address) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect(address);
        // The last has what is left: the caller's patience ends it.
        let connected = if index + 1 == addresses.len() {
            connecting.await
        } else {
            timeout(each, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Connects and lets the session talk until one side has had enough.
pub(super) async fn serve(
    pool: &Pool,
    patience: &Patience,
    end: &mut LinkEnd,
    clock: &Clock,
    notice: &mut (dyn FnMut(Notice) + Send),
) -> LinkError {
    match talk(pool, patience, end, clock, notice).await {
        Ok(never) => match never {},
        Err(reason) => reason,
    }
}

async fn talk(
    pool: &Pool,
    patience: &Patience,
    end: &mut LinkEnd,
    clock: &Clock,
    notice: &mut (dyn FnMut(Notice) + Send),
) -> Result<std::convert::Infallible, LinkError> {
    let mut stream = connect(pool, patience).await?;
    notice(Notice::Connected(pool.url.clone()));
    let mut splitter = LineSplitter::new(POOL_LINE_BYTES);
    let (mut piece, mut events) = (vec![0; 16 << 10], Vec::new());
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if let Some(session) = lock(&end.session).as_mut() {
        session.start(clock.now(), &mut events);
    }
    loop {
        write(&mut stream, pool, patience, &mut events, notice).await?;
        tokio::select! {
            read = stream.read(&mut piece) => {
                let len = read.map_err(broken)?;
                if len == 0 {
                    return Err(LinkError::Closed);
                }
                splitter.push(&piece[..len]);
                let mut session = lock(&end.session);
                let Some(session) = session.as_mut() else { return Err(LinkError::Closed) };
                while let Some(line) = splitter.next_line()? {
                    session.on_line(line, clock.now(), &mut events);
                }
            }
            Some(share) = end.shares.recv() => {
                if let Some(session) = lock(&end.session).as_mut() {
                    session.submit(&share, clock.now(), &mut events);
                }
            }
            _ = ticks.tick() => {
                if let Some(session) = lock(&end.session).as_mut() {
                    session.on_tick(clock.now(), &mut events);
                }
            }
        }
    }
}

/// Sends what is to be sent, in one write, and passes the rest on.
async fn write(
    stream: &mut Box<dyn Stream>,
    pool: &Pool,
    patience: &Patience,
    events: &mut Vec<Event>,
    notice: &mut (dyn FnMut(Notice) + Send),
) -> Result<(), LinkError> {
    let (mut bytes, mut end) = (Vec::new(), None);
    for event in events.drain(..) {
        match event {
            Event::Send(line) => {
                bytes.extend_from_slice(line.as_bytes());
                bytes.push(b'\n');
            }
            Event::Work { clean } => notice(Notice::Work { clean }),
            Event::Difficulty(difficulty) => notice(Notice::Difficulty(difficulty)),
            Event::Accepted => notice(Notice::Accepted),
            Event::Rejected { reason, words } => notice(Notice::Rejected { reason, words }),
            Event::Message(words) | Event::Odd(words) => notice(Notice::Message(words)),
            Event::Failed(error) => end = Some(LinkError::Session(error)),
            Event::Reconnect { host, port, wait } => {
                // Anybody in between could have said it: another host is for the owner to configure.
                match host {
                    Some(host) if !host.eq_ignore_ascii_case(&pool.url.host) => {
                        let words =
                            format!("the pool asks to reconnect to {host}: ignored, it is another host");
                        notice(Notice::Message(words));
                    }
                    _ => end = Some(LinkError::Moved { port, wait }),
                }
            }
        }
    }
    if !bytes.is_empty() {
        let all = async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        };
        match timeout(patience.write, all).await {
            Ok(written) => written.map_err(broken)?,
            Err(_) => return Err(LinkError::WriteTimeout(patience.write)),
        }
    }
    end.map_or(Ok(()), Err)
}

fn broken(error: io::Error) -> LinkError {
    LinkError::Broken(error.to_string())
}
