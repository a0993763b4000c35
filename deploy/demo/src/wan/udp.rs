//! A UDP path with a length: each datagram arrives one way later, in order.
//!
//! Every sender on the near side gets a socket of its own towards the far side, as a NAT would give
//! it, so that answers find their way back.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use antipode_runtime::shutdown::Shutdown;
use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, trace};

/// Senders at once; the one that was silent longest makes room for a new one.
pub(super) const FLOWS_MAX: usize = 64;

/// Datagrams under way in one direction of one flow. 250 ms at 16,000 datagrams a second; more than
/// that is dropped, as a full router would.
pub(super) const UNDER_WAY_MAX: usize = 4_096;

/// The largest UDP payload there is, RFC 768 over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// What the kernel is asked to hold for a socket; it may grant less.
const SOCKET_BYTES: usize = 4 << 20;

/// A path that waits to be told where it leads.
#[derive(Debug)]
pub struct UdpRelay {
    socket: UdpSocket,
}

/// A datagram and the moment at which it arrives.
type UnderWay = (Instant, Bytes);

/// One sender's way through.
#[derive(Debug)]
struct Flow {
    up: mpsc::Sender<UnderWay>,
    last_sent: Instant,
}

impl UdpRelay {
    /// Opens the near end on a free loopback port.
    ///
    /// # Errors
    /// The system's, if there is no port to be had.
    pub fn bind() -> io::Result<Self> {
        Ok(Self { socket: loopback_socket()? })
    }

    /// Where senders reach the path.
    ///
    /// # Errors
    /// The system's, if the socket has gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Carries datagrams to `target` and back, each taking `one_way`, until `shutdown` stops.
    pub fn serve(self, target: SocketAddr, one_way: Duration, shutdown: &Shutdown) {
        let near = Arc::new(self.socket);
        let tasks = shutdown.clone();
        shutdown.spawn_service(async move { carry(near, target, one_way, &tasks).await });
    }
}

async fn carry(near: Arc<UdpSocket>, target: SocketAddr, one_way: Duration, tasks: &Shutdown) {
    let mut flows: BTreeMap<SocketAddr, Flow> = BTreeMap::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let (len, sender) = match near.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An ICMP answer to something sent earlier; the socket itself is well.
                trace!(error = &error as &dyn std::error::Error, "receive refused");
                continue;
            }
        };
        let now = Instant::now();
        if !flows.contains_key(&sender) {
            make_room(&mut flows);
            match open_flow(&near, sender, target, one_way, tasks) {
                Ok(up) => drop(flows.insert(sender, Flow { up, last_sent: now })),
                Err(error) => {
                    debug!(error = &error as &dyn std::error::Error, "no socket for a flow");
                    continue;
                }
            }
        }
        let flow = flows.get_mut(&sender).expect("it is there or was just put there");
        flow.last_sent = now;
        let datagram = Bytes::copy_from_slice(&buffer[..len]);
        if flow.up.try_send((now + one_way, datagram)).is_err() {
            trace!("path is full, datagram dropped");
        }
    }
}

fn make_room(flows: &mut BTreeMap<SocketAddr, Flow>) {
    if flows.len() < FLOWS_MAX {
        return;
    }
    let silent = flows.iter().min_by_key(|(_, flow)| flow.last_sent).map(|(sender, _)| *sender);
    if let Some(sender) = silent {
        // Both directions end with the sending half.
        flows.remove(&sender);
    }
}

/// Starts the tasks of one sender and returns where its datagrams go.
fn open_flow(
    near: &Arc<UdpSocket>,
    sender: SocketAddr,
    target: SocketAddr,
    one_way: Duration,
    tasks: &Shutdown,
) -> io::Result<mpsc::Sender<UnderWay>> {
    let far = Arc::new(loopback_socket()?);
    let (up, mut going_up) = mpsc::channel::<UnderWay>(UNDER_WAY_MAX);
    let (down, mut going_down) = mpsc::channel::<UnderWay>(UNDER_WAY_MAX);
    let near = Arc::clone(near);
    tasks.spawn_service(async move {
        let climb = async {
            while let Some((due, datagram)) = going_up.recv().await {
                tokio::time::sleep_until(due).await;
                send(&far, &datagram, target).await;
            }
        };
        let collect = async {
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            loop {
                match far.recv_from(&mut buffer).await {
                    Ok((len, from)) if from == target => {
                        let due = Instant::now() + one_way;
                        let full = down.try_send((due, Bytes::copy_from_slice(&buffer[..len])));
                        if full.is_err() {
                            trace!("path is full, datagram dropped");
                        }
                    }
                    Ok((_, from)) => trace!(%from, "not from the far end, dropped"),
                    Err(error) => trace!(error = &error as &dyn std::error::Error, "no answer"),
                }
            }
        };
        let descend = async {
            while let Some((due, datagram)) = going_down.recv().await {
                tokio::time::sleep_until(due).await;
                send(&near, &datagram, sender).await;
            }
        };
        tokio::select! {
            () = climb => {}
            () = collect => {}
            () = descend => {}
        }
    });
    Ok(up)
}

async fn send(socket: &UdpSocket, datagram: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(datagram, to).await {
        trace!(error = &error as &dyn std::error::Error, "datagram lost");
    }
}

fn loopback_socket() -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let asked = socket2::SockRef::from(&socket);
    // Best effort: what the system grants is enough for a chat.
    let _ = asked.set_recv_buffer_size(SOCKET_BYTES);
    let _ = asked.set_send_buffer_size(SOCKET_BYTES);
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
