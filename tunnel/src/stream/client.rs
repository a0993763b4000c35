//! Opening a stream: names, addresses, TLS and the upgrade.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use antipode_websocket::Side;
use antipode_websocket::handshake::request_key;
use bytes::BytesMut;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::{TlsConnector, TlsStream};

use super::carry::{Opened, tune};
use super::metrics::StreamOutcome;
use super::upgrade::{self, UpgradeError};
use crate::paths::StreamTarget;

/// How long an address may take before the next is tried beside it, [RFC 8305
/// §5](https://www.rfc-editor.org/rfc/rfc8305#section-5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Addresses of a name that are tried.
const STREAM_ADDRESSES_MAX: usize = 8;

/// Whom to take at the other end of a stream, and who we are. It must check the peer's own name:
/// TLS asks in the clear for the endpoint's host, so that whoever looks on sees an ordinary
/// WebSocket.
#[derive(Clone, Debug)]
pub struct StreamTls(pub Arc<rustls::ClientConfig>);

impl PartialEq for StreamTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for StreamTls {}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// The endpoint's host is no name and no address.
    #[error("{0:?} is not host:port")]
    Endpoint(String),
    /// The name is unknown, or no address answers.
    #[error("no TCP connection")]
    Connect(#[source] io::Error),
    /// Not the core, or not for us.
    #[error("TLS")]
    Tls(#[source] io::Error),
    /// What answers is no tunnel.
    #[error("the upgrade")]
    Upgrade(#[source] UpgradeError),
    /// The connection ended during the upgrade.
    #[error("the connection ended during the upgrade")]
    Ended(#[source] io::Error),
}

impl OpenError {
    pub(super) fn outcome(&self) -> StreamOutcome {
        match self {
            Self::Endpoint(_) | Self::Connect(_) => StreamOutcome::Unreachable,
            Self::Tls(_) => StreamOutcome::Tls,
            // A server that asks for our certificate in TLS 1.3 refuses it after its own Finished.
            Self::Ended(source) if source.kind() == io::ErrorKind::InvalidData => {
                StreamOutcome::Tls
            }
            Self::Upgrade(_) | Self::Ended(_) => StreamOutcome::Upgrade,
        }
    }
}

/// Opens a stream. The caller bounds the time.
pub(super) async fn open(target: &StreamTarget, tls: &StreamTls) -> Result<Opened, OpenError> {
    let endpoint = target.endpoint.as_str();
    let bad_endpoint = || OpenError::Endpoint(endpoint.to_owned());
    let (host, _) = endpoint.rsplit_once(':').ok_or_else(bad_endpoint)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| bad_endpoint())?;
    let found = lookup_host(endpoint).await.map_err(OpenError::Connect)?;
    let socket = connect(in_turns(found)).await.map_err(OpenError::Connect)?;
    tune(&socket);
    let tls = TlsConnector::from(Arc::clone(&tls.0));
    let mut socket = tls.connect(name, socket).await.map_err(OpenError::Tls)?;

    let key = request_key(rand::random());
    let asked = upgrade::request(&host_header(endpoint), &key);
    socket.write_all(&asked).await.map_err(OpenError::Ended)?;
    socket.flush().await.map_err(OpenError::Ended)?;
    let mut read = BytesMut::with_capacity(upgrade::UPGRADE_HEAD_BYTES_MAX);
    loop {
        if let Some(len) = upgrade::read_answer(&read, &key).map_err(OpenError::Upgrade)? {
            let _ = read.split_to(len);
            return Ok(Opened { socket: TlsStream::Client(socket), read, side: Side::Client });
        }
        if socket.read_buf(&mut read).await.map_err(OpenError::Ended)? == 0 {
            return Err(OpenError::Ended(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// The endpoint as `Host` has it: without HTTPS's own port.
fn host_header(endpoint: &str) -> String {
    endpoint.strip_suffix(":443").unwrap_or(endpoint).to_owned()
}

/// IPv6 first, and then the families in turns.
fn in_turns(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (six, four): (Vec<_>, Vec<_>) = found.partition(SocketAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut turns = Vec::new();
    while turns.len() < STREAM_ADDRESSES_MAX {
        let before = turns.len();
        turns.extend(six.next());
        turns.extend(four.next());
        if turns.len() == before {
            break;
        }
    }
    turns
}

/// Connects to the first address that answers; each has a head start before the next.
async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut waiting = addresses.into_iter();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let next = waiting.next();
        let is_last = next.is_none();
        if let Some(address) = next {
            attempts.spawn(TcpStream::connect(address));
        }
        tokio::select! {
            joined = attempts.join_next() => match joined {
                Some(Ok(Ok(socket))) => return Ok(socket),
                Some(Ok(Err(error))) => failure = error,
                Some(Err(error)) => failure = io::Error::other(error),
                None if is_last => return Err(failure),
                None => {}
            },
            () = sleep(NEXT_ADDRESS_AFTER), if !is_last => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let found = ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1"].map(at);
        let expected = ["[2001:db8::1]:1", "192.0.2.1:1", "192.0.2.2:1"].map(at);
        assert_eq!(in_turns(found.into_iter()), expected);
        let many = (0..200).map(|port| SocketAddr::from(([192, 0, 2, 1], port)));
        assert_eq!(in_turns(many).len(), STREAM_ADDRESSES_MAX);
    }

    #[test]
    fn hosts_are_as_a_browser_writes_them() {
        assert_eq!(host_header("core.example.com:443"), "core.example.com");
        assert_eq!(host_header("core.example.com:8443"), "core.example.com:8443");
        assert_eq!(host_header("[2001:db8::1]:443"), "[2001:db8::1]");
    }

    /// The first address refuses, the second never answers, the third does.
    #[tokio::test]
    async fn the_first_address_that_answers_is_taken() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let refused = {
            let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            closed.local_addr().unwrap()
        };
        let silent = SocketAddr::from(([192, 0, 2, 1], 9));
        let connected = connect(vec![refused, silent, good]).await.unwrap();
        assert_eq!(connected.peer_addr().unwrap(), good);
        let error = connect(vec![refused]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connect(Vec::new()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
