//! Packets: what comes out of a tunnel, and what strangers send to one.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use antipode_runtime::clock::virtual_time;
use antipode_tunnel::device::{Device, Scratch, Way};
use antipode_tunnel::packet::{read_udp, write_udp};
use antipode_tunnel::{Metrics, PeerConfig, tunnel_address};

use crate::input::key;

/// An IPv6 packet with UDP inside: what is read can be written again, and reads the same.
///
/// # Panics
///
/// On a bug.
pub fn tunnel_packet(data: &[u8]) {
    if let Ok(datagram) = read_udp(data) {
        assert!(!datagram.payload.is_empty(), "a datagram carries something");
        let mut out = vec![0; data.len() + 64];
        let (source, destination) = (datagram.source, datagram.destination);
        let len = write_udp(&mut out, source, destination, datagram.payload);
        let len = len.expect("what came in a packet fits one");
        assert_eq!(read_udp(&out[..len]).as_ref(), Ok(&datagram), "a datagram changed");
    }
    let mut out = [0; 1500];
    let address = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 7, 0, 0);
    if let Some(len) = write_udp(&mut out, address, address, data)
        && !data.is_empty()
    {
        let datagram = read_udp(&out[..len]).expect("what was written reads");
        assert_eq!(datagram.payload, data, "a payload changed");
    }
}

/// Datagrams of a stranger to a device that has one peer: nothing comes out of the tunnel, and
/// answers are no larger than what asked for them.
///
/// # Panics
///
/// On a bug.
pub fn tunnel_device(data: &[u8]) {
    let time = virtual_time::start();
    let now = antipode_runtime::clock::now;
    let silence = Duration::from_secs(30);
    let device = Device::new(key(1), silence, Metrics::default(), now());
    let peer = key(2).public_key();
    let own = antipode_tunnel::Cidr::host(tunnel_address(&peer).into());
    let config = PeerConfig { allowed_ips: vec![own], ..PeerConfig::new(peer) };
    device.set_peers(vec![config], now());
    let mut scratch = Scratch::default();
    let from = Way::from(std::net::SocketAddr::from(([192, 0, 2, 1], 4242)));
    for piece in data.split(|byte| *byte == 0xfe) {
        let mut replies = Vec::new();
        let packet = device.open(from, piece, now(), &mut scratch, &mut replies);
        assert!(packet.is_none(), "a stranger got a packet into the tunnel");
        assert!(replies.len() <= 1, "one question, {} answers", replies.len());
        time.advance(Duration::from_millis(10));
    }
    let mut out = vec![0; 65_600];
    let _ = device.seal(data, &mut out, now());
}
