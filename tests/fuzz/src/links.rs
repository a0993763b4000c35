//! What travels beside WireGuard, or around it: datagrams that a neighbour sends on, probes,
//! streams and the HTTP that opens them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use antipode_runtime::clock;
use antipode_tunnel::device::{Device, Reply, Way};
use antipode_tunnel::probe::bare as probes;
use antipode_tunnel::stream::bare::{
    self as streams, BareDecoder, BareEncoder, BareReceived, STREAM_DATAGRAM_BYTES_MAX,
    UPGRADE_HEAD_BYTES_MAX,
};
use antipode_tunnel::{Metrics, PeerConfig, PrivateKey};
use antipode_websocket::Side;
use bytes::BytesMut;

use crate::input::{Input, key};

/// Echoes to one peer: at once, and a second.
const ECHOES_MAX: u128 = 64;

/// Probes and echoes of strangers and of a peer that lies: at most one answer each, no longer than
/// what asked for it, to where that came from; none twice, and only so many a second.
///
/// # Panics
///
/// On a bug.
pub fn tunnel_probe(data: &[u8]) {
    let mut lab = Probing::new();
    let mut input = Input(data);
    while let Some(step) = input.step() {
        lab.step(step, &mut input);
    }
}

struct Probing {
    start: Instant,
    now: Instant,
    peer: PrivateKey,
    seal: probes::Seal,
    device: Device,
    /// Our own probes, as they went.
    asked: Vec<Reply>,
    answered: BTreeSet<[u8; 8]>,
}

impl Probing {
    fn new() -> Self {
        let (ours, peer) = (key(1), key(2));
        let start = clock::now();
        let silence = Duration::from_secs(30);
        let device = Device::new(ours.clone(), silence, Metrics::default(), start);
        let endpoint = Some(SocketAddr::from(([192, 0, 2, 1], 4242)));
        let config = PeerConfig { endpoint, ..PeerConfig::new(peer.public_key()) };
        device.set_peers(vec![config], start);
        let seal = probes::Seal::new(&peer, &ours.public_key()).expect("a good key");
        let (asked, answered) = (Vec::new(), BTreeSet::new());
        Self { start, now: start, peer, seal, device, asked, answered }
    }

    fn step(&mut self, step: u8, input: &mut Input<'_>) {
        match step % 6 {
            0 => self.arrive(way(input), input.bytes()),
            1 => {
                let from = way(input);
                let mut datagram = input.bytes().to_vec();
                if step & 0x80 != 0 {
                    datagram.resize(1312, 0);
                }
                self.seal.put_right(&mut datagram);
                self.arrive(from, &datagram);
            }
            2 => {
                let (to, flags) = (way(input), input.byte());
                let how = (flags & 1 != 0, flags & 2 != 0);
                let peer = self.peer.public_key();
                self.asked.extend(probes::ask(&self.device, &peer, to, how, self.now));
            }
            3 => {
                let probe = self.asked.get(input.index(self.asked.len()));
                let numbers = [(); 3].map(|()| u64::from_le_bytes(input.array()));
                let micros = [(); 2].map(|()| u32::from_le_bytes(input.array()));
                let echo = probe.and_then(|probe| self.echo(probe, numbers, micros));
                if let Some((from, echo)) = echo {
                    self.arrive(from, &echo);
                }
            }
            4 => self.now += Duration::from_millis(u16::from_le_bytes(input.array()).into()),
            _ => probes::ask_due(&self.device, self.now, &mut self.asked),
        }
        let quality = self.device.quality(&self.peer.public_key(), self.now);
        let is_share = |share| (0.0..=1.0).contains(&share);
        assert!(is_share(quality.loss_out) && is_share(quality.loss_in), "{quality:?}");
        let rate = quality.packets_out_per_s;
        assert!(rate.is_finite() && rate >= 0.0, "{quality:?}");
    }

    fn echo(&self, probe: &Reply, numbers: [u64; 3], micros: [u32; 2]) -> Option<(Way, Vec<u8>)> {
        let echo = self.seal.echo(&probe.bytes, numbers, micros)?;
        Some((probe.to, echo))
    }

    fn arrive(&mut self, from: Way, datagram: &[u8]) {
        let mut replies = Vec::new();
        let is_probe = probes::handle(&self.device, from, datagram, self.now, &mut replies);
        assert!(is_probe || replies.is_empty(), "an answer to what asks nothing");
        assert!(replies.len() <= 1, "one question, {} answers", replies.len());
        let Some(reply) = replies.pop() else { return };
        assert!(reply.bytes.len() <= datagram.len(), "an answer longer than its question");
        assert_eq!(reply.to, from, "an answer to somebody else");
        let number: [u8; 8] = datagram[12..20].try_into().expect("eight bytes");
        assert!(self.answered.insert(number), "one probe answered twice");
        let passed = (self.now - self.start).as_millis();
        let may_be = ECHOES_MAX + passed * ECHOES_MAX / 1000;
        let are = self.answered.len();
        assert!(are as u128 <= may_be, "{are} answers in {passed} ms");
    }
}

fn way(input: &mut Input<'_>) -> Way {
    Way::from(SocketAddr::from(([192, 0, 2, input.byte() % 4], 4242)))
}

/// A stream's bytes, in pieces: the same datagrams whatever the pieces, none larger than any may
/// be, and what was read can be written again.
///
/// # Panics
///
/// On a bug.
pub fn tunnel_stream(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else { return };
    let (ours, theirs) = match mode & 1 {
        0 => (Side::Server, Side::Client),
        _ => (Side::Client, Side::Server),
    };
    let (whole, end) = read(ours, &[data]);
    let (front, back) = data.split_at(data.len() / 2);
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    for pieces in [&[front, back][..], &bytes] {
        let (received, other) = read(ours, pieces);
        // A text message is refused, and so is bad UTF-8: which is seen first the pieces decide.
        assert_eq!((received, other.is_some()), (whole.clone(), end.is_some()), "pieces count");
    }
    let (mut encoder, mut wire) = (BareEncoder::new(theirs, [mode; 32]), BytesMut::new());
    let mut sent = Vec::new();
    for received in whole {
        if let BareReceived::Datagram(datagram) = &received {
            assert!(datagram.len() <= STREAM_DATAGRAM_BYTES_MAX, "{} bytes", datagram.len());
            assert!(encoder.datagram(&mut wire, datagram), "what came can go");
            sent.push(received);
        }
    }
    assert_eq!(read(ours, &[&wire]), (sent, None), "datagrams changed on their way");
}

/// What came, and the code of what ended it.
fn read(side: Side, pieces: &[&[u8]]) -> (Vec<BareReceived>, Option<u16>) {
    let (mut decoder, mut received) = (BareDecoder::new(side), Vec::new());
    let mut input = BytesMut::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.read(&mut input) {
                // Nobody reads on behind a close.
                Ok(Some(BareReceived::Close)) => {
                    received.push(BareReceived::Close);
                    return (received, None);
                }
                Ok(Some(more)) => received.push(more),
                Ok(None) => break,
                Err(code) => return (received, Some(code)),
            }
        }
    }
    (received, None)
}

/// The request or the answer of a stream: as soon as it is whole what follows changes nothing, and
/// what a core answers opens the stream at the node, or ends it in good HTTP.
///
/// # Panics
///
/// On a bug.
pub fn tunnel_upgrade(data: &[u8]) {
    match streams::read_request(data) {
        Ok(Some((len, answer))) => {
            assert!(len <= data.len().min(UPGRADE_HEAD_BYTES_MAX), "a head of {len} bytes");
            assert_eq!(streams::read_request(&data[..len]), Ok(Some((len, answer.clone()))));
            let key = key_of(&data[..len]).expect("what was taken has a key");
            assert_eq!(streams::read_answer(&answer, &key), Ok(Some(answer.len())));
        }
        Ok(None) => assert!(data.len() < UPGRADE_HEAD_BYTES_MAX, "waits for more than any head"),
        Err(refusal) => {
            assert!(refusal.starts_with(b"HTTP/1.1 4") && refusal.ends_with(b"\r\n\r\n"));
        }
    }
    // What a client whose random bytes are all zero waits for.
    let key = antipode_websocket::handshake::request_key([0; 16]);
    match streams::read_answer(data, &key) {
        Ok(Some(len)) => {
            assert!(len <= data.len().min(UPGRADE_HEAD_BYTES_MAX), "a head of {len} bytes");
            assert_eq!(streams::read_answer(&data[..len], &key), Ok(Some(len)));
        }
        Ok(None) => assert!(data.len() < UPGRADE_HEAD_BYTES_MAX, "waits for more than any head"),
        Err(why) => assert!(!why.is_empty()),
    }
}

fn key_of(head: &[u8]) -> Option<String> {
    // Other lines may hold any bytes.
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let (_, key) = lines.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))?;
    Some(key.trim().to_owned())
}
