//! A core with many peers that probe it, and that it probes, four times a second each.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::channel;
use std::time::Duration;

use antipode_tunnel::metrics::ProbeOutcome;
use antipode_tunnel::probe::bare::Seal;
use antipode_tunnel::{Metrics, PeerConfig, PrivateKey, Tasks, Tunnel, TunnelConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::worker::Worker;

const WARM: Duration = Duration::from_secs(5);
/// As often as the core itself probes.
const INTERVAL: Duration = Duration::from_millis(250);
const PROBE_BYTES: usize = 76;
/// With IPv4's header and UDP's.
const ON_THE_WIRE_BYTES: f64 = 76.0 + 28.0;

pub(crate) fn measure(peers: usize, length: Duration) -> Result<(), Failure> {
    // A socket for each peer.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let (stop, metrics, key) =
        (CancellationToken::new(), Metrics::default(), PrivateKey::generate());
    let core_key = key.public_key();
    let sockets: Vec<_> = (0..peers)
        .map(|_| std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()?;
    let keys: Vec<_> = sockets.iter().map(|_| PrivateKey::generate()).collect();
    let mut configs = Vec::new();
    for (socket, key) in sockets.iter().zip(&keys) {
        let endpoint = Some(socket.local_addr()?);
        configs.push(PeerConfig { endpoint, ..PeerConfig::new(key.public_key()) });
    }
    let (tell, told) = channel();
    let tasks = Tasks { stop: stop.clone(), ..Tasks::default() };
    let counts = metrics.clone();
    let core = Worker::start(None, move || async move {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let tunnel = Tunnel::bind(TunnelConfig::new(key, any), &tasks, counts)?;
        tunnel.set_peers(configs);
        tell.send(tunnel.local_addr())?;
        tasks.stop.cancelled().await;
        Ok(())
    })?;
    let core_at = told.recv()?;
    let tasks = Tasks { stop: stop.clone(), ..Tasks::default() };
    let others = Worker::start(None, move || async move {
        for (number, (socket, key)) in sockets.into_iter().zip(keys).enumerate() {
            let seal = Seal::new(&key, &core_key).ok_or("a key that everybody knows")?;
            socket.set_nonblocking(true)?;
            socket.connect(core_at)?;
            let (socket, number) = (UdpSocket::from_std(socket)?, u32::try_from(number)?);
            let phase = INTERVAL * number / u32::try_from(peers)?;
            let peer = peer(socket, seal, phase);
            let stop = tasks.stop.clone();
            tasks.tracker.spawn(async move { stop.run_until_cancelled(peer).await });
        }
        tasks.stop.cancelled().await;
        Ok(())
    })?;

    std::thread::sleep(WARM);
    let outcomes = [ProbeOutcome::Asked, ProbeOutcome::Returned, ProbeOutcome::Answered];
    let read = || outcomes.map(|outcome| metrics.links.probe_count(outcome));
    let (before, used) = (read(), core.used()?);
    std::thread::sleep(length);
    let (after, used) = (read(), core.used()? - used);
    stop.cancel();
    let seconds = length.as_secs_f64();
    let [asked, returned, answered] = [0, 1, 2].map(|at| (after[at] - before[at]) as f64 / seconds);
    // What is answered has come, too.
    let datagrams = asked + returned + 2.0 * answered;
    println!(
        "{{\"peers\":{peers},\"cpu_share\":{:.4},\"asked_per_second\":{asked:.0},\
         \"returned_per_second\":{returned:.0},\"answered_per_second\":{answered:.0},\
         \"datagrams_per_second\":{datagrams:.0},\"bytes_per_second\":{:.0},\
         \"cpu_ns_per_datagram\":{:.0}}}",
        used.as_secs_f64() / seconds,
        datagrams * ON_THE_WIRE_BYTES,
        used.as_secs_f64() * 1e9 / (datagrams * seconds).max(1.0),
    );
    core.join()?;
    others.join()
}

/// Probes the core and answers it, for as long as it is let.
async fn peer(socket: UdpSocket, seal: Seal, phase: Duration) {
    tokio::time::sleep(phase).await;
    let mut ticks = tokio::time::interval(INTERVAL);
    let (mut number, mut room) = (1_u64, [0; 2048]);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let mut probe = [0; PROBE_BYTES];
                // A probe, version 1, of the way in use; its number.
                probe[..4].copy_from_slice(&[0xa1, 1, 2, 0]);
                probe[12..20].copy_from_slice(&number.to_le_bytes());
                seal.put_right(&mut probe);
                number += 1;
                let _ = socket.send(&probe).await;
            }
            came = socket.recv(&mut room) => {
                let Ok(len) = came else { continue };
                if let Some(echo) = seal.echo(&room[..len], [0; 3], [0; 2]) {
                    let _ = socket.send(&echo).await;
                }
            }
        }
    }
}
