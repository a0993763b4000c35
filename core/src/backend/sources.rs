//! Source addresses: one address reaches one backend port over about 28,000 sockets, so several
//! take turns.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

/// Ports that the kernel hands out for one source address, where it does not say: Linux's default
/// range of 32768 to 60999.
const EPHEMERAL_PORTS_DEFAULT: usize = 28_232;

/// An idle session finds out that its backend's machine is gone: after about two minutes with
/// Linux's default of nine attempts.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);

/// Takes turns over the operator's source addresses.
#[derive(Debug)]
pub(crate) struct Sources {
    addresses: Vec<IpAddr>,
    turn: AtomicUsize,
}

impl Sources {
    /// No address: the kernel chooses.
    pub(crate) fn new(addresses: Vec<IpAddr>) -> Self {
        Self { addresses, turn: AtomicUsize::new(0) }
    }

    /// Opens a socket to `target`. An address that has no port left gives way to the next.
    pub(crate) async fn connect(&self, target: SocketAddr) -> io::Result<TcpStream> {
        let fitting: Vec<IpAddr> =
            self.addresses.iter().copied().filter(|a| a.is_ipv4() == target.is_ipv4()).collect();
        if fitting.is_empty() {
            return ready(TcpStream::connect(target).await?);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for attempt in 0..fitting.len() {
            let source = fitting[(turn.wrapping_add(attempt)) % fitting.len()];
            match bound(source, target)?.connect(target).await {
                Ok(stream) => return ready(stream),
                Err(error) if is_exhausted(&error) => last_error = error,
                Err(error) => return Err(error),
            }
        }
        Err(last_error)
    }

    /// How many sockets these addresses can hold open to one backend port.
    pub(crate) fn capacity(&self) -> usize {
        self.addresses.len().max(1) * ephemeral_ports()
    }
}

/// A socket on `source` whose port is chosen only when it connects, so that one port serves as many
/// sockets as it has targets.
fn bound(source: IpAddr, target: SocketAddr) -> io::Result<TcpSocket> {
    let domain = Domain::for_address(target);
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

fn ready(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let keep_alive =
        TcpKeepalive::new().with_time(KEEP_ALIVE_AFTER).with_interval(KEEP_ALIVE_EVERY);
    SockRef::from(&stream).set_tcp_keepalive(&keep_alive)?;
    Ok(stream)
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse)
}

fn ephemeral_ports() -> usize {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    range.ok().and_then(|range| parse_range(&range)).unwrap_or(EPHEMERAL_PORTS_DEFAULT)
}

fn parse_range(range: &str) -> Option<usize> {
    let mut ports = range.split_whitespace().map(str::parse::<usize>);
    let (first, last) = (ports.next()?.ok()?, ports.next()?.ok()?);
    (last + 1).checked_sub(first)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn addresses_take_turns() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let addresses = ["127.0.0.2", "127.0.0.3", "::1"].map(|a| a.parse().unwrap());
        let sources = Sources::new(addresses.to_vec());
        let mut seen = BTreeSet::new();
        for _ in 0..4 {
            let stream = sources.connect(target).await.unwrap();
            assert!(stream.nodelay().unwrap());
            assert!(SockRef::from(&stream).keepalive().unwrap());
            seen.insert(stream.local_addr().unwrap().ip().to_string());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["127.0.0.2", "127.0.0.3"]);
    }

    #[tokio::test]
    async fn a_foreign_source_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sources = Sources::new(vec!["192.0.2.1".parse().unwrap()]);
        let error = sources.connect(listener.local_addr().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn ranges() {
        assert_eq!(parse_range("32768\t60999\n"), Some(EPHEMERAL_PORTS_DEFAULT));
        assert_eq!(parse_range("60999 32768"), None);
        assert_eq!(parse_range(""), None);
    }
}
