//! What a hostile or careless sender may try.

use super::lab::{rogue, rogue_joined, second_node, sent};
use super::*;

#[test]
fn short_buffers_are_refused_not_panicked_on() {
    let (mut node, mut core) = lab();
    let packet = udp(node.key.address(), core.key.address(), &[7; 100]);
    join(&mut node, &mut core);
    for len in 0..148 + 32 {
        let outcome = node.device.seal(&packet, &mut vec![0; len], node.now);
        assert_eq!(outcome, Err(DropReason::TooBig), "{len}");
    }
    assert!(node.device.seal(&packet, &mut [0; 148 + 32], node.now).is_ok());

    // Without keys an initiation comes out instead, so the room is for that.
    let (node, core) = lab();
    let small = udp(node.key.address(), core.key.address(), &[7; 1]);
    for len in 0..148 {
        let outcome = node.device.seal(&small, &mut vec![0; len], node.now);
        assert_eq!(outcome, Err(DropReason::TooBig), "{len}");
    }
}

#[test]
fn a_packet_over_the_mtu_is_refused_before_boringtun_sees_it() {
    let (mut node, mut core) = lab();
    join(&mut node, &mut core);
    assert_eq!(node.try_seal(&core, &[0; 1420 - 48]), Ok(()));
    assert_eq!(node.try_seal(&core, &[0; 1420 - 47]), Err(DropReason::TooBig));
}

/// To boringtun an empty datagram means "give me what you queued": a stranger must not get that.
#[test]
fn an_empty_datagram_from_the_network_is_dropped() {
    let (mut node, core) = lab();
    node.seal_to(&core, b"waits for keys");
    node.replies.clear();
    node.take(core.address, &[]);
    assert!(node.replies.is_empty());
    assert_eq!(node.metrics.dropped_count(DropReason::Empty), 1);
}

#[test]
fn noise_is_counted_and_answered_with_nothing() {
    let (mut node, mut core) = lab();
    join(&mut node, &mut core);
    core.take(node.address, b"hello");
    core.take(node.address, &[4, 0, 0, 0]);
    assert_eq!(core.metrics.dropped_count(DropReason::Malformed), 2);
    let mut forged = vec![0; 148];
    forged[0] = 1;
    core.take(node.address, &forged);
    assert_eq!(core.metrics.handshake_count(HandshakeOutcome::Invalid), 1);
    assert!(core.replies.is_empty());
}

/// boringtun hands over whatever decrypts; whose addresses a peer may use is our check.
#[test]
fn a_peer_may_send_from_its_own_addresses_only() {
    let (mut node, mut core) = lab();
    let mut other = second_node(&node, &core);
    join(&mut node, &mut core);
    join(&mut other, &mut core);
    let elsewhere: Ipv6Addr = "2001:db8::1".parse().unwrap();
    for source in [other.key.address(), core.key.address(), elsewhere] {
        node.seal(&udp(source, core.key.address(), b"not mine"));
    }
    node.step(&mut core);
    assert!(core.arrived.is_empty());
    assert_eq!(core.metrics.dropped_count(DropReason::SourceNotAllowed), 3);
    node.seal(&udp(node.key.address(), core.key.address(), b"mine"));
    node.step(&mut core);
    assert_eq!(core.payloads(), [b"mine".to_vec()]);
}

#[test]
fn a_peer_may_own_ranges_and_the_longest_one_decides() {
    let (mut node, mut core) = lab();
    let mut other = second_node(&node, &core);
    let wide = vec!["2001:db8::/32".parse().unwrap(), node.key.address().into()];
    let narrow = vec!["2001:db8:7::/48".parse().unwrap(), other.key.address().into()];
    let wide = PeerConfig { allowed_ips: wide, ..core.peer(&node, None) };
    let narrow = PeerConfig { allowed_ips: narrow, ..core.peer(&other, None) };
    core.device.set_peers(vec![wide, narrow], core.now);
    join(&mut node, &mut core);
    join(&mut other, &mut core);
    let inside: Ipv6Addr = "2001:db8:7::1".parse().unwrap();
    node.seal(&udp(inside, core.key.address(), b"the other's"));
    node.step(&mut core);
    assert!(core.arrived.is_empty());
    core.seal(&udp(core.key.address(), inside, b"for the other"));
    assert_eq!(core.replies[0].to.remote(), Some(other.address));
}

/// An authenticated peer can make boringtun return an "IPv4 packet" of three bytes.
#[test]
fn runt_inner_packets_are_refused() {
    let (node, mut core) = lab();
    let mut rogue = rogue_joined(&node, &mut core);
    let mut buffer = [0; 2000];
    let mut three_bytes = [0; 20];
    three_bytes[0] = 0x45;
    three_bytes[3] = 3;
    let mut cut_short = udp(node.key.address(), core.key.address(), b"hello");
    cut_short.truncate(45);
    for packet in [&three_bytes[..], &cut_short, &[0x60], &[0x00, 0x01]] {
        let message = sent(rogue.encapsulate(packet, &mut buffer));
        core.take(node.address, &message);
    }
    assert!(core.arrived.is_empty());
    assert_eq!(core.metrics.dropped_count(DropReason::Runt), 4);
}

#[test]
fn the_endpoint_moves_on_authenticated_messages_only() {
    let (mut node, mut core) = lab();
    join(&mut node, &mut core);
    assert_eq!(core.endpoint_of(&node), Some(node.address));
    let (thief, cafe): (SocketAddr, SocketAddr) =
        ("198.51.100.66:1".parse().unwrap(), "198.51.100.7:7".parse().unwrap());

    node.seal_to(&core, b"one");
    let message = node.only_message();
    let mut forged = message.clone();
    *forged.last_mut().unwrap() ^= 1;
    core.take(thief, &forged);
    assert_eq!(core.metrics.dropped_count(DropReason::NotAuthentic), 1);
    assert_eq!(core.endpoint_of(&node), Some(node.address), "a forgery moves nothing");

    core.take(cafe, &message);
    assert_eq!(core.endpoint_of(&node), Some(cafe), "the peer has moved");
    core.take(thief, &message);
    assert_eq!(core.endpoint_of(&node), Some(cafe), "a copy moves nothing");
    core.seal_to(&node, b"back");
    assert_eq!(core.replies[0].to.remote(), Some(cafe));
}

/// The loss shield sends small datagrams twice and counts on this.
#[test]
fn a_second_copy_is_refused_quietly_and_counted() {
    let (mut node, mut core) = lab();
    join(&mut node, &mut core);
    node.seal_to(&core, b"once");
    let message = node.only_message();
    core.take(node.address, &message);
    core.take(node.address, &message);
    assert_eq!(core.payloads(), [b"once".to_vec()]);
    assert_eq!(core.metrics.dropped_count(DropReason::Duplicate), 1);
}

#[test]
fn a_copy_beyond_the_replay_window_is_too_old() {
    let (mut node, mut core) = lab();
    join(&mut node, &mut core);
    node.seal_to(&core, b"late");
    let late = node.only_message();
    for _ in 0..1100 {
        node.seal_to(&core, b"x");
    }
    node.step(&mut core);
    core.take(node.address, &late);
    assert_eq!(core.metrics.dropped_count(DropReason::TooOld), 1);
    assert_eq!(core.payloads().len(), 1100);
}

#[test]
fn a_message_for_another_peers_index_does_not_decrypt() {
    let (mut node, mut core) = lab();
    let mut other = second_node(&node, &core);
    join(&mut node, &mut core);
    join(&mut other, &mut core);
    node.seal_to(&core, b"mine");
    other.seal_to(&core, b"theirs");
    let (mut mine, theirs) = (node.only_message(), other.only_message());
    mine[4..8].copy_from_slice(&theirs[4..8]);
    core.take(node.address, &mine);
    assert!(core.arrived.is_empty());
    assert_eq!(core.metrics.dropped_count(DropReason::NotAuthentic), 1);
    mine[4] ^= 1;
    core.take(node.address, &mine);
    assert_eq!(core.metrics.dropped_count(DropReason::NoSession), 1, "its peer, another session");
}

/// As a node does whose clock was set back between two starts: WireGuard takes it for a replay.
#[test]
fn a_clock_in_the_past_is_refused_counted_and_told() {
    let (node, mut core) = lab();
    let mut before = rogue(&node, &core);
    let in_the_past = sent(before.format_handshake_initiation(&mut [0; 200], false));
    rogue_joined(&node, &mut core);
    core.take(node.address, &in_the_past);
    assert!(core.replies.is_empty());
    assert_eq!(core.metrics.handshake_count(HandshakeOutcome::StaleTimestamp), 1);
    assert_eq!(core.device.peers(core.now)[0].stale_handshakes, 1);
}

#[test]
fn a_data_message_as_large_as_udp_allows_is_refused() {
    let (mut node, mut core) = lab();
    join(&mut node, &mut core);
    node.seal_to(&core, b"x");
    let mut huge = node.only_message();
    huge.resize(65_507, 0);
    core.take(node.address, &huge);
    assert_eq!(core.metrics.dropped_count(DropReason::NotAuthentic), 1);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
        kind in 0..6u8,
    ) {
        let (mut node, mut core) = lab();
        join(&mut node, &mut core);
        for mut datagram in datagrams {
            if datagram.len() > 3 {
                datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
            }
            core.take(node.address, &datagram);
        }
        prop_assert!(core.arrived.is_empty());
        node.seal_to(&core, b"still works");
        node.step(&mut core);
        prop_assert_eq!(core.payloads(), [b"still works".to_vec()]);
    }

    /// Right lengths, right indices, wrong somewhere.
    #[test]
    fn damaged_messages_never_panic_and_never_pass(
        which in 0..4usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
    ) {
        let (mut node, mut core) = lab();
        node.seal_to(&core, b"first");
        let initiation = node.only_message();
        core.take(node.address, &initiation);
        let response = core.only_message();
        node.take(core.address, &response);
        let data: Vec<_> = node.replies.drain(..).map(|reply| reply.bytes).collect();
        let mut damaged = [&initiation, &response, &data[0], &data[1]][which].clone();
        let before = damaged.clone();
        for (at, flip) in damage {
            let at = at.index(damaged.len());
            damaged[at] ^= flip;
        }
        let thief: SocketAddr = "198.51.100.66:1".parse().unwrap();
        let end = if which == 1 { &mut node } else { &mut core };
        end.take(thief, &damaged);
        prop_assert!(end.arrived.is_empty() || damaged == before);
    }

    /// What an authenticated peer wraps may be anything at all.
    #[test]
    fn arbitrary_inner_packets_never_panic(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..10),
    ) {
        let (node, mut core) = lab();
        let mut rogue = rogue_joined(&node, &mut core);
        let mut buffer = [0; 2000];
        for packet in packets {
            let message = sent(rogue.encapsulate(&packet, &mut buffer));
            core.take(node.address, &message);
        }
        for packet in &core.arrived {
            let _ = read_udp(packet);
        }
    }
}
