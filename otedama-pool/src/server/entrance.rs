//! A connection's first bytes: whose it is, and whether it is plain or TLS.
//!
//! ```text
//!   from a load balancer: a PROXY header, always ──┐
//!   from anybody else: never                       ├──▶ 0x16: TLS handshake, then lines
//!                                                  └──▶ anything else: lines
//! ```
//!
//! A TLS record of the handshake begins with 0x16, and no line does. Nothing is read that is not used: what
//! belongs to the next layer is only looked at.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::proxy::{self, ProxyError};

/// The content type of a TLS handshake's records.
const TLS_HANDSHAKE: u8 = 0x16;

/// A miner's connection once it is known what it is.
#[derive(Debug)]
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why a connection ends before its first line.
#[derive(Debug, thiserror::Error)]
pub(super) enum EntranceError {
    /// It ended by itself: a port scan or a health check.
    #[error("it said nothing")]
    Nothing,
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error("it sends a PROXY header, and its address is not among stratum.proxies")]
    ForeignProxy,
    #[error("it speaks TLS, and security.enable_tls is not set")]
    NoTls,
    #[error("TLS: {0}")]
    Tls(#[source] io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the header that a load balancer begins each connection with. Whose connection it is; `None` if it
/// is the balancer's own.
pub(super) async fn proxied(stream: &mut TcpStream) -> Result<Option<SocketAddr>, EntranceError> {
    let mut held = [0; proxy::MAX_BYTES];
    let mut len = 0;
    loop {
        let come = stream.peek(&mut held[len..]).await?;
        if come == 0 {
            return Err(if len == 0 { EntranceError::Nothing } else { ProxyError::NoHeader.into() });
        }
        // What does not end the header is part of it.
        let header = proxy::parse(&held[..len + come])?;
        let whole = header.map_or(len + come, |header| header.len);
        stream.read_exact(&mut held[len..whole]).await?;
        len = whole;
        if let Some(header) = header {
            return Ok(header.source);
        }
    }
}

/// Finds out what the connection speaks, and shakes hands if it is TLS.
pub(super) async fn opened(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> Result<Wire, EntranceError> {
    let mut first = [0; proxy::V2_SIGNATURE.len()];
    let come = stream.peek(&mut first).await?;
    let first = &first[..come];
    if first.starts_with(proxy::V1_PREFIX) || first.starts_with(proxy::V2_SIGNATURE) {
        return Err(EntranceError::ForeignProxy);
    }
    match first.first() {
        None => Err(EntranceError::Nothing),
        Some(&TLS_HANDSHAKE) => {
            let acceptor = TlsAcceptor::from(tls.ok_or(EntranceError::NoTls)?);
            let stream = acceptor.accept(stream).await.map_err(EntranceError::Tls)?;
            Ok(Wire::Tls(Box::new(stream)))
        }
        Some(_) => Ok(Wire::Plain(stream)),
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Wire::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(context),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
