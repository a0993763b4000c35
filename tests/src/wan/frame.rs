//! What the link must know of an Ethernet frame, and the Internet checksum.

use std::net::IpAddr;

/// Bytes before the IP packet.
pub const ETHERNET_BYTES: usize = 14;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMPV6: u8 = 58;
const IPV6_BYTES: usize = 40;

/// What a frame carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// What neighbours on one wire tell each other (ARP, neighbour discovery). A link between far
    /// routers has none of it: it passes at once, whatever the conditions.
    Wire,
    /// UDP, with the place of its header when this is a whole datagram or its first part.
    Udp(Option<Udp>),
    /// Any other packet.
    Other,
}

/// A UDP header in a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Udp {
    /// Where the header begins.
    pub at: usize,
    /// Whose it is.
    pub source: (IpAddr, u16),
    /// Whom it is for.
    pub destination: (IpAddr, u16),
}

/// What the link must know of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shape {
    /// What it carries.
    pub kind: Kind,
    /// Bytes of the IP packet.
    pub ip_bytes: usize,
}

impl Shape {
    /// Looks at a frame. One that can't be read is [`Kind::Other`].
    #[must_use]
    pub fn of(frame: &[u8]) -> Self {
        let ip_bytes = frame.len().saturating_sub(ETHERNET_BYTES);
        let kind = match u16_at(frame, 12) {
            Some(ETHERTYPE_IPV4) => ipv4(frame).unwrap_or(Kind::Other),
            Some(ETHERTYPE_IPV6) => ipv6(frame).unwrap_or(Kind::Other),
            Some(_) | None => Kind::Wire,
        };
        Self { kind, ip_bytes }
    }
}

fn ipv4(frame: &[u8]) -> Option<Kind> {
    let header = frame.get(ETHERNET_BYTES..)?;
    let is_first = u16_at(header, 6)? & 0x1fff == 0;
    if *header.get(9)? != PROTOCOL_UDP {
        return Some(Kind::Other);
    }
    let address = |at| array::<4>(header, at).map(IpAddr::from);
    let at = ETHERNET_BYTES + usize::from(header[0] & 0x0f) * 4;
    let udp = udp(frame, at, address(12)?, address(16)?).filter(|_| is_first);
    Some(Kind::Udp(udp))
}

fn ipv6(frame: &[u8]) -> Option<Kind> {
    let header = frame.get(ETHERNET_BYTES..)?;
    let address = |at| array::<16>(header, at).map(IpAddr::from);
    let at = ETHERNET_BYTES + IPV6_BYTES;
    match *header.get(6)? {
        PROTOCOL_UDP => Some(Kind::Udp(udp(frame, at, address(8)?, address(24)?))),
        // Router and neighbour solicitation, advertisement and redirect (RFC 4861).
        PROTOCOL_ICMPV6 if (133..=137).contains(frame.get(at)?) => Some(Kind::Wire),
        _ => Some(Kind::Other),
    }
}

fn udp(frame: &[u8], at: usize, source: IpAddr, destination: IpAddr) -> Option<Udp> {
    // The checksum is the last of the header.
    u16_at(frame, at + 6)?;
    let (source, destination) =
        ((source, u16_at(frame, at)?), (destination, u16_at(frame, at + 2)?));
    Some(Udp { at, source, destination })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array::<2>(bytes, at).map(u16::from_be_bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The Internet checksum of several parts (RFC 1071); each but the last of an even length.
#[must_use]
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// A UDP checksum after one 16-bit field was changed (RFC 1624, equation 3). None stays none.
#[must_use]
pub fn checksum_after(sum: u16, before: u16, after: u16) -> u16 {
    if sum == 0 {
        return 0;
    }
    let total = u32::from(!sum) + u32::from(!before) + u32::from(after);
    let folded = (total & 0xffff) + (total >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let sum = !u16::try_from(folded).expect("folded");
    // Zero would say that there is none (RFC 768).
    if sum == 0 { 0xffff } else { sum }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A frame with a UDP datagram in it, with correct checksums.
    pub(crate) fn udp_frame(
        source: (IpAddr, u16),
        destination: (IpAddr, u16),
        payload: &[u8],
    ) -> Vec<u8> {
        let length = u16::try_from(8 + payload.len()).unwrap();
        let mut udp = [source.1, destination.1, length, 0].map(u16::to_be_bytes).concat();
        udp.extend_from_slice(payload);
        let mut frame = vec![2; 12];
        match (source.0, destination.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let (from, to) = (from.octets(), to.octets());
                let [high, low] = (length + 20).to_be_bytes();
                frame.extend([8, 0, 0x45, 0, high, low, 0, 0, 0x40, 0, 64, 17, 0, 0]);
                frame.extend(from.into_iter().chain(to));
                let [high, low] = checksum(&[&frame[14..34]]).to_be_bytes();
                (frame[24], frame[25]) = (high, low);
                seal(&mut udp, &[&from, &to]);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let (from, to) = (from.octets(), to.octets());
                let [high, low] = length.to_be_bytes();
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, 17, 64]);
                frame.extend(from.into_iter().chain(to));
                seal(&mut udp, &[&from, &to]);
            }
            _ => panic!("one family"),
        }
        frame.extend(udp);
        frame
    }

    fn seal(udp: &mut [u8], addresses: &[&[u8]; 2]) {
        let sum = udp_sum(udp, addresses);
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
    }

    fn udp_sum(udp: &[u8], [from, to]: &[&[u8]; 2]) -> u16 {
        let length = u16::try_from(udp.len()).unwrap().to_be_bytes();
        checksum(&[from, to, &[0, 17], &length, udp])
    }

    /// Whether a frame's UDP checksum is right.
    pub(crate) fn is_sound(frame: &[u8]) -> bool {
        let (at, addresses) = match frame[12] {
            8 => (34, [&frame[26..30], &frame[30..34]]),
            _ => (54, [&frame[22..38], &frame[38..54]]),
        };
        udp_sum(&frame[at..], &addresses) == 0
    }

    #[test]
    fn datagrams_are_known() {
        for (from, to, at) in [("10.9.0.1", "10.9.0.2", 34), ("fd09::1", "fd09::2", 54)] {
            let (source, destination) = ((from.parse().unwrap(), 7), (to.parse().unwrap(), 51820));
            let frame = udp_frame(source, destination, b"odd");
            assert!(is_sound(&frame));
            let udp = Udp { at, source, destination };
            let shape = Shape { kind: Kind::Udp(Some(udp)), ip_bytes: at - 14 + 11 };
            assert_eq!(Shape::of(&frame), shape);
        }
    }

    #[test]
    fn ipv4_has_options_and_fragments() {
        let (from, to) = ("10.9.0.1".parse().unwrap(), "10.9.0.2".parse().unwrap());
        let mut frame = udp_frame((from, 7), (to, 9), b"hello");
        let later = |frame: &mut Vec<u8>| frame[20..22].copy_from_slice(&[0x20, 0x03]);
        frame.splice(34..34, [1; 4]);
        frame[14] = 0x46;
        let Kind::Udp(Some(udp)) = Shape::of(&frame).kind else { panic!("a datagram") };
        assert_eq!((udp.at, udp.source.1, udp.destination.1), (38, 7, 9));
        later(&mut frame);
        assert_eq!(Shape::of(&frame).kind, Kind::Udp(None), "it has no ports");
    }

    #[test]
    fn neighbours_words_are_not_the_links() {
        let mut arp = vec![0; 42];
        arp[12..14].copy_from_slice(&[8, 6]);
        assert_eq!(Shape::of(&arp).kind, Kind::Wire);
        let addresses = ["fe80::1".parse().unwrap(), "ff02::1".parse().unwrap()];
        let mut solicitation = udp_frame((addresses[0], 0x8700), (addresses[1], 0), b"");
        solicitation[20] = PROTOCOL_ICMPV6;
        assert_eq!(Shape::of(&solicitation).kind, Kind::Wire);
        solicitation[54] = 128;
        assert_eq!(Shape::of(&solicitation).kind, Kind::Other, "an echo request is a packet");
    }

    #[test]
    fn no_frame_is_too_short_to_be_looked_at() {
        let (from, to) = ("fd09::1".parse().unwrap(), "fd09::2".parse().unwrap());
        for frame in [udp_frame((from, 1), (to, 2), b""), {
            let (from, to) = ("10.9.0.1".parse().unwrap(), "10.9.0.2".parse().unwrap());
            udp_frame((from, 1), (to, 2), b"")
        }] {
            for length in 0..frame.len() {
                let kind = Shape::of(&frame[..length]).kind;
                assert!(!matches!(kind, Kind::Udp(Some(_))), "{length}: {kind:?}");
            }
        }
    }

    #[test]
    fn a_changed_field_changes_the_sum() {
        for (before, after) in [(1, 2), (0xffff, 0), (0, 0xffff), (51820, 40000)] {
            let rest = [0x12, 0x34, 0xab, 0xcd];
            let sum = |field: u16| checksum(&[&rest, &field.to_be_bytes()]);
            assert_eq!(checksum_after(sum(before), before, after), sum(after));
        }
        assert_eq!(checksum_after(0, 1, 2), 0);
        assert!((1..=0xffff).all(|sum| checksum_after(sum, 1, 2) != 0), "none is not made");
    }
}
