//! The IPv6 and UDP headers of what travels inside the tunnel: built exactly, read with suspicion.
//!
//! The far side may be a kernel with a plain UDP socket, so the packets are whole and the checksums
//! right ([RFC 8200 §8.1](https://www.rfc-editor.org/rfc/rfc8200#section-8.1): UDP over IPv6 must
//! have one).

use std::net::{Ipv6Addr, SocketAddrV6};

use crate::metrics::DropReason;

/// IPv6 header, [RFC 8200 §3](https://www.rfc-editor.org/rfc/rfc8200#section-3).
const IPV6_BYTES: u16 = 40;
/// UDP header, [RFC 768](https://www.rfc-editor.org/rfc/rfc768).
const UDP_BYTES: u16 = 8;
/// What a UDP payload costs inside the tunnel.
pub const HEADERS_BYTES: u16 = IPV6_BYTES + UDP_BYTES;
/// The least an IPv6 link may carry, [RFC 8200
/// §5](https://www.rfc-editor.org/rfc/rfc8200#section-5), and what a tunnel starts from.
pub const INNER_MTU_FLOOR_BYTES: u16 = 1280;
/// The most: 1500 less an outer IPv6 header (40), UDP (8) and WireGuard's message (32).
pub const INNER_MTU_MAX_BYTES: u16 = 1500 - 40 - 8 - 32;

const _: () = assert!(INNER_MTU_MAX_BYTES == 1420);

const IPV6_LEN: usize = IPV6_BYTES as usize;
const HEADERS_LEN: usize = HEADERS_BYTES as usize;
const NEXT_UDP: u8 = 17;
const HOP_LIMIT: u8 = 64;

/// Hop-by-hop, routing, fragment, ESP, AH, destination options, mobility, HIP, shim6:
/// [IANA's list](https://www.iana.org/assignments/ipv6-parameters/) of extension headers.
const EXTENSION_HEADERS: [u8; 9] = [0, 43, 44, 50, 51, 60, 135, 139, 140];

/// A UDP datagram found inside an IPv6 packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Datagram<'a> {
    /// Who sent it. Whether it may have is the device's check, not this module's.
    pub source: SocketAddrV6,
    /// Whom it is for.
    pub destination: SocketAddrV6,
    /// What it carries; never empty.
    pub payload: &'a [u8],
}

/// Writes an IPv6 packet of one UDP datagram to the front of `out` and returns its length.
///
/// `None` if it does not fit `out` or an IPv6 packet. ECN is off: the outer packet's bits are not
/// ours to copy, and quinn asks for none.
pub fn write_udp(
    out: &mut [u8],
    source: SocketAddrV6,
    destination: SocketAddrV6,
    payload: &[u8],
) -> Option<usize> {
    let len = HEADERS_LEN + payload.len();
    let udp_len = u16::try_from(payload.len()).ok()?.checked_add(UDP_BYTES)?;
    let packet = out.get_mut(..len)?;
    packet[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    packet[4..6].copy_from_slice(&udp_len.to_be_bytes());
    packet[6] = NEXT_UDP;
    packet[7] = HOP_LIMIT;
    packet[8..24].copy_from_slice(&source.ip().octets());
    packet[24..40].copy_from_slice(&destination.ip().octets());
    packet[40..42].copy_from_slice(&source.port().to_be_bytes());
    packet[42..44].copy_from_slice(&destination.port().to_be_bytes());
    packet[44..46].copy_from_slice(&udp_len.to_be_bytes());
    packet[46..48].copy_from_slice(&[0, 0]);
    packet[HEADERS_LEN..].copy_from_slice(payload);
    // A sum of zero is sent as ones: zero would mean "no checksum".
    let sum = match !udp_sum(packet, udp_len) {
        0 => 0xffff,
        sum => sum,
    };
    packet[46..48].copy_from_slice(&sum.to_ne_bytes());
    Some(len)
}

/// Reads an IPv6 packet of one UDP datagram. Bytes behind the length its header gives are padding.
///
/// # Errors
/// Anything else, by the reason it is counted under.
pub fn read_udp(packet: &[u8]) -> Result<Datagram<'_>, DropReason> {
    if packet.first().map(|first| first >> 4) != Some(6) {
        return Err(DropReason::NotIpv6);
    }
    if packet.len() < IPV6_LEN {
        return Err(DropReason::Runt);
    }
    let ip_payload = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let packet = packet.get(..IPV6_LEN + ip_payload).ok_or(DropReason::Runt)?;
    match packet[6] {
        NEXT_UDP => {}
        next if EXTENSION_HEADERS.contains(&next) => return Err(DropReason::ExtensionHeader),
        _ => return Err(DropReason::NotUdp),
    }
    if packet.len() <= HEADERS_LEN {
        return Err(DropReason::BadUdp);
    }
    let udp_len = u16::from_be_bytes([packet[44], packet[45]]);
    let Some(packet) = packet.get(..IPV6_LEN + usize::from(udp_len)) else {
        return Err(DropReason::BadUdp);
    };
    // Shorter than headers and one byte, no checksum, or one that does not add up.
    if packet.len() <= HEADERS_LEN || packet[46..48] == [0, 0] || udp_sum(packet, udp_len) != 0xffff
    {
        return Err(DropReason::BadUdp);
    }
    let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    Ok(Datagram {
        source: SocketAddrV6::new(address_at(packet, 8), port(40), 0, 0),
        destination: SocketAddrV6::new(address_at(packet, 24), port(42), 0, 0),
        payload: &packet[HEADERS_LEN..],
    })
}

fn address_at(packet: &[u8], at: usize) -> Ipv6Addr {
    let octets: [u8; 16] = std::array::from_fn(|i| packet[at + i]);
    Ipv6Addr::from(octets)
}

/// The ones' complement sum of the pseudo header, the UDP header and the payload, in memory order.
///
/// Addresses, UDP header and payload lie side by side from byte 8 on, so the pseudo header costs
/// two more additions ([RFC 8200 §8.1](https://www.rfc-editor.org/rfc/rfc8200#section-8.1)).
fn udp_sum(packet: &[u8], udp_len: u16) -> u16 {
    let mut sum = u64::from(udp_len.to_be()) + u64::from(u16::from(NEXT_UDP).to_be());
    let mut words = packet[8..].chunks_exact(4);
    for word in &mut words {
        sum += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0u8; 4];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    sum += u64::from(u32::from_ne_bytes(last));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> SocketAddrV6 {
        text.parse().unwrap()
    }

    fn sample(payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 2000];
        let len = write_udp(&mut out, at("[fd00::1]:1000"), at("[fd00::2]:2000"), payload);
        out.truncate(len.unwrap());
        out
    }

    #[test]
    fn the_checksum_adds_up_for_odd_and_even_lengths() {
        for payload in [&b"hello"[..], b"hell", b"h", &[0xff; 1372], &[0; 3]] {
            assert_eq!(reference_sum(&sample(payload)), 0xffff, "{} bytes", payload.len());
        }
    }

    /// [RFC 1071 §1](https://www.rfc-editor.org/rfc/rfc1071#section-1), word by word as it is
    /// written there.
    fn reference_sum(packet: &[u8]) -> u16 {
        let udp = &packet[40..];
        let mut bytes = packet[8..40].to_vec();
        bytes.extend(u32::try_from(udp.len()).unwrap().to_be_bytes());
        bytes.extend([0, 0, 0, 17]);
        bytes.extend(udp);
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    #[test]
    fn padding_behind_the_packet_is_cut_off() {
        let mut packet = sample(b"hello");
        packet.resize(64, 0);
        assert_eq!(read_udp(&packet).unwrap().payload, b"hello");
    }

    #[test]
    fn refusals() {
        let good = sample(b"hello");
        let changed = |at: usize, byte: u8| {
            let mut packet = good.clone();
            packet[at] = byte;
            packet
        };
        check("nothing", &[], DropReason::NotIpv6);
        check("three bytes", &[0x45, 0, 0], DropReason::NotIpv6);
        check("IPv4", &changed(0, 0x45), DropReason::NotIpv6);
        check("half a header", &good[..39], DropReason::Runt);
        check("cut payload", &good[..52], DropReason::Runt);
        for next in EXTENSION_HEADERS {
            check("extension header", &changed(6, next), DropReason::ExtensionHeader);
        }
        check("ICMPv6", &changed(6, 58), DropReason::NotUdp);
        check("no room for UDP", &changed(5, 7), DropReason::BadUdp);
        check("UDP shorter than its header", &changed(45, 7), DropReason::BadUdp);
        check("UDP longer than the packet", &changed(45, 200), DropReason::BadUdp);
        check("empty UDP", &sample(b""), DropReason::BadUdp);
        check("a flipped bit", &changed(50, b'x'), DropReason::BadUdp);
        let mut unsummed = changed(46, 0);
        unsummed[47] = 0;
        check("no checksum", &unsummed, DropReason::BadUdp);
    }

    #[track_caller]
    fn check(what: &str, packet: &[u8], expected: DropReason) {
        assert_eq!(read_udp(packet), Err(expected), "{what}");
    }

    #[test]
    fn a_packet_that_does_not_fit_is_not_written() {
        let mut out = [0; 52];
        let (from, to) = (at("[fd00::1]:1"), at("[fd00::2]:2"));
        assert_eq!(write_udp(&mut out, from, to, b"hello"), None);
        assert_eq!(write_udp(&mut vec![0; 70_000], from, to, &vec![0; 65_530]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            payload in prop::collection::vec(any::<u8>(), 1..1400),
            ports in any::<(u16, u16)>(),
            hosts in any::<(u128, u128)>(),
        ) {
            let from = SocketAddrV6::new(hosts.0.into(), ports.0, 0, 0);
            let to = SocketAddrV6::new(hosts.1.into(), ports.1, 0, 0);
            let mut out = vec![0; 2000];
            let len = write_udp(&mut out, from, to, &payload).unwrap();
            prop_assert_eq!(reference_sum(&out[..len]), 0xffff);
            let datagram = Datagram { source: from, destination: to, payload: &payload };
            prop_assert_eq!(read_udp(&out[..len]), Ok(datagram));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_udp(&bytes);
        }

        #[test]
        fn a_damaged_packet_never_panics(
            payload in prop::collection::vec(any::<u8>(), 1..64),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut packet = sample(&payload);
            for (at, byte) in damage {
                let at = at.index(packet.len());
                packet[at] = byte;
            }
            let _ = read_udp(&packet[..cut.index(packet.len() + 1)]);
        }
    }
}
