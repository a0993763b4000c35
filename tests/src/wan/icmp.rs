//! "Packet too big": what a router answers that can't pass a packet on (RFC 1191, RFC 4443).

use super::frame::{ETHERNET_BYTES, checksum};

/// Bytes of the packet that are quoted: enough for its ports, and for WireGuard's own header.
const QUOTE_BYTES_MAX: usize = 128;

/// The frame that tells the sender of `frame` that only `mtu` bytes pass; none if nobody can be
/// told, as with what may be taken apart.
#[must_use]
pub fn too_big(frame: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let packet = frame.get(ETHERNET_BYTES..)?;
    let quote = &packet[..packet.len().min(QUOTE_BYTES_MAX)];
    let mut answer = [frame.get(6..12)?, frame.get(..6)?, frame.get(12..14)?].concat();
    match packet.first()? >> 4 {
        4 => answer.extend(ipv4(packet, quote, mtu)?),
        6 => answer.extend(ipv6(packet, quote, mtu)?),
        _ => return None,
    }
    Some(answer)
}

fn ipv4(packet: &[u8], quote: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let may_be_split = packet.get(6)? & 0x40 == 0;
    if may_be_split {
        return None;
    }
    let [high, low] = mtu.to_be_bytes();
    let mut message = vec![3, 4, 0, 0, 0, 0, high, low];
    message.extend_from_slice(quote);
    seal(&mut message, 2, &[]);

    let [high, low] = u16::try_from(20 + message.len()).ok()?.to_be_bytes();
    let mut answer = vec![0x45, 0, high, low, 0, 0, 0, 0, 64, 1, 0, 0];
    answer.extend_from_slice(packet.get(16..20)?);
    answer.extend_from_slice(packet.get(12..16)?);
    seal(&mut answer, 10, &[]);
    answer.extend(message);
    Some(answer)
}

fn ipv6(packet: &[u8], quote: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let [high, low] = mtu.to_be_bytes();
    let mut message = vec![2, 0, 0, 0, 0, 0, high, low];
    message.extend_from_slice(quote);
    let (source, destination) = (packet.get(24..40)?, packet.get(8..24)?);
    let [high, low] = u16::try_from(message.len()).ok()?.to_be_bytes();
    seal(&mut message, 2, &[source, destination, &[0, 0, high, low], &[0, 0, 0, 58]]);

    let mut answer = vec![0x60, 0, 0, 0, high, low, 58, 64];
    answer.extend_from_slice(source);
    answer.extend_from_slice(destination);
    answer.extend(message);
    Some(answer)
}

/// Writes the checksum of `before` and `bytes` at `at`.
fn seal(bytes: &mut [u8], at: usize, before: &[&[u8]]) {
    let sum = checksum(&[before, &[&*bytes]].concat());
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::frame::tests::udp_frame;
    use super::*;

    #[test]
    fn the_sender_is_told() {
        for (from, to) in [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")] {
            let (from, to) = ((from.parse().unwrap(), 7), (to.parse().unwrap(), 9));
            let mut frame = udp_frame(from, to, &[1; 1400]);
            frame[..6].copy_from_slice(&[9; 6]);
            let answer = too_big(&frame, 1320).unwrap();
            assert_eq!(answer[..12], [[2; 6], [9; 6]].concat());
            let (head, source, destination) = match answer[12] {
                8 => (34, &answer[26..30], &answer[30..34]),
                _ => (54, &answer[22..38], &answer[38..54]),
            };
            let message = &answer[head..];
            assert_eq!(u16::from_be_bytes([message[6], message[7]]), 1320);
            assert_eq!(message[8..], frame[14..14 + QUOTE_BYTES_MAX]);
            if head == 34 {
                assert_eq!(message[..2], [3, 4]);
                assert_eq!((source, destination), (&[10, 9, 0, 2][..], &[10, 9, 0, 1][..]));
                assert_eq!((checksum(&[&answer[14..34]]), checksum(&[message])), (0, 0));
            } else {
                assert_eq!(message[..2], [2, 0]);
                let length = u32::try_from(message.len()).unwrap().to_be_bytes();
                let parts = [source, destination, &length, &[0, 0, 0, 58], message];
                assert_eq!(checksum(&parts), 0);
            }
        }
    }

    #[test]
    fn what_may_be_split_is_not_answered() {
        let (from, to) = ("10.9.0.1".parse().unwrap(), "10.9.0.2".parse().unwrap());
        let mut frame = udp_frame((from, 7), (to, 9), &[1; 1400]);
        frame[20] = 0;
        assert_eq!(too_big(&frame, 1320), None);
        for length in 0..frame.len() {
            drop(too_big(&frame[..length], 1320));
        }
    }
}
