//! quinn's transport settings for a trunk: few, large, over paths of a quarter of a second.

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::class::Class;
use crate::congestion::{AggregateConfig, Flows, Warmth};
use crate::packet::{HEADERS_BYTES, INNER_MTU_FLOOR_BYTES, INNER_MTU_MAX_BYTES};

/// UDP payload that every tunnel carries: the least inner MTU, 1280, less IPv6 and UDP headers.
pub const QUIC_PAYLOAD_BYTES: u16 = INNER_MTU_FLOOR_BYTES - HEADERS_BYTES;

/// The least UDP payload of a path QUIC may use, [RFC 9000
/// §14](https://www.rfc-editor.org/rfc/rfc9000#section-14), and what it starts from and falls back
/// to: outside the tunnel 1308 bytes over IPv4 and 1328 over IPv6.
const QUIC_PAYLOAD_BYTES_MIN: u16 = 1200;

/// The most lanes a trunk may have. One session is pinned to one lane.
pub const LANES_MAX: u32 = 1024;

/// How often larger packets are tried again: every minute (quinn: ten), at some probes each.
const MTU_INTERVAL: Duration = Duration::from_secs(60);

/// How long after a black hole was seen they are tried again: 10 s (quinn: 60). The path may be
/// another one by then, and a probe that is lost costs nobody anything.
const MTU_COOLDOWN: Duration = Duration::from_secs(10);

/// First window of a connection that always has more to send: 32 packets, which
/// [RFC 6928](https://www.rfc-editor.org/rfc/rfc6928) gives to three TCP connections.
const BULK_WINDOW_BYTES: u64 = 40_000;

/// Packets of bulk that may overtake one before it counts as lost: 20 ms of jitter at 100 Mbit/s.
const BULK_PACKET_THRESHOLD: u32 = 256;

/// Round trips after which a packet of bulk counts as lost: 1.25 (quinn: 1.125), because jitter of
/// 5 ms each way made 10 ms of a round trip of 20 ms. Bulk can wait for it.
const BULK_TIME_THRESHOLD: f32 = 1.25;

const _: () = assert!(QUIC_PAYLOAD_BYTES == 1232);
const _: () = assert!(QUIC_PAYLOAD_BYTES >= QUIC_PAYLOAD_BYTES_MIN);

/// What an operator may turn about a trunk's QUIC. [`Default`] is argued field by field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TrunkTuning {
    /// Sent before the first acknowledgement: 512 KiB, about 430 packets, which is 16 Mbit/s at
    /// 250 ms. quinn's default for BBR is 200 packets and other stacks' 10; with 10, a 200 ms path
    /// showed a p99 of 0.5 to 1.2 s in its first seconds with no loss at all. A trunk stands for
    /// as many flows as it carries sessions; pacing spreads the window over a round trip.
    pub initial_window_bytes: u64,
    /// What one lane may have unread: 4 MiB, so 134 Mbit/s a lane at 250 ms. quinn's 1.25 MB held a
    /// stream to 5 MB/s at 200 ms.
    pub lane_window_bytes: u32,
    /// The same for a lane of bulk: 7 MiB, so that one transfer has a round trip and the recovery
    /// of what was lost in the one before on its way. Not more, because quinn closes a connection
    /// on which a stream has 1,024 gaps: at 7 MiB that takes a loss of a quarter.
    pub bulk_lane_window_bytes: u32,
    /// What all lanes together may have unread, and so what a peer can make us hold: 32 MiB, one
    /// Gbit/s at 250 ms.
    pub receive_window_bytes: u32,
    /// What we hold for the peer to acknowledge, all lanes together: 32 MiB, to match.
    pub send_window_bytes: u64,
    /// Packets that may overtake one before it counts as lost: 64 (quinn: 3). Three made jitter of
    /// 10 ms look like 34 % loss. Whatever this is, a loss is found by time after 9/8 of a round
    /// trip, so the price is at most an eighth of a round trip (p99 301 to 324 ms at 1 % loss).
    pub packet_threshold: u32,
    /// Silence after which we ask whether the path lives: 500 ms. The answer is there after a round
    /// trip, and after two more if one of the two is lost: a node dials anew only then, and not
    /// before a second of silence. Keeps NAT and WireGuard awake too. It costs an idle trunk about
    /// 4 packets of 100 bytes a second.
    pub keep_alive: Duration,
    /// Silence after which the path is dead: 10 s. A cut can't be outlived here, because a
    /// waiting sender doubles its probe time up to the length of the cut; the node dials again
    /// several times a second instead, and sessions are replayed. What ends here is only what
    /// nobody has replaced.
    pub idle_timeout: Duration,
    /// Largest packet inside the tunnel that is tried for: 1420, which with WireGuard and an outer
    /// IPv6 header fills 1500. QUIC starts at 1248 and probes upwards, so a smaller path
    /// costs a few probes and no data.
    pub inner_mtu_bytes_max: u16,
}

impl Default for TrunkTuning {
    fn default() -> Self {
        Self {
            initial_window_bytes: 512 << 10,
            lane_window_bytes: 4 << 20,
            bulk_lane_window_bytes: 7 << 20,
            receive_window_bytes: 32 << 20,
            send_window_bytes: 32 << 20,
            packet_threshold: 64,
            keep_alive: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(10),
            inner_mtu_bytes_max: INNER_MTU_MAX_BYTES,
        }
    }
}

/// quinn's settings for both ends of a trunk.
///
/// Congestion control is [`crate::congestion`]'s. No datagrams and no one-way streams: a trunk
/// speaks in lanes.
///
/// Values out of range are brought into it: an MTU under 1280 is 1280, one over 1420 is 1420.
#[must_use]
pub fn transport_config(
    tuning: TrunkTuning,
    class: Class,
    flows: &Flows,
    warmth: &Warmth,
) -> TransportConfig {
    let control = AggregateConfig {
        cold_window: match class {
            Class::Chat => tuning.initial_window_bytes,
            Class::Bulk => tuning.initial_window_bytes.min(BULK_WINDOW_BYTES),
        },
        least_window: BULK_WINDOW_BYTES.min(tuning.initial_window_bytes),
        flows: flows.clone(),
        warmth: warmth.clone(),
    };
    let mtu = tuning.inner_mtu_bytes_max.clamp(INNER_MTU_FLOOR_BYTES, INNER_MTU_MAX_BYTES);
    let payload_max = mtu - HEADERS_BYTES;
    let discovery = (payload_max > QUIC_PAYLOAD_BYTES).then(|| {
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(payload_max).interval(MTU_INTERVAL).black_hole_cooldown(MTU_COOLDOWN);
        discovery
    });
    let (lane_window, packet_threshold, time_threshold) = match class {
        Class::Chat => (tuning.lane_window_bytes, tuning.packet_threshold, 9.0 / 8.0),
        Class::Bulk => {
            let packets = tuning.packet_threshold.max(BULK_PACKET_THRESHOLD);
            (tuning.bulk_lane_window_bytes, packets, BULK_TIME_THRESHOLD)
        }
    };
    let idle = IdleTimeout::try_from(tuning.idle_timeout).unwrap_or_else(|_| VarInt::MAX.into());

    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(Arc::new(control))
        .stream_receive_window(lane_window.into())
        .receive_window(tuning.receive_window_bytes.into())
        .send_window(tuning.send_window_bytes)
        .packet_threshold(packet_threshold.max(3))
        .time_threshold(time_threshold)
        .keep_alive_interval(Some(tuning.keep_alive))
        .max_idle_timeout(Some(idle))
        .initial_mtu(QUIC_PAYLOAD_BYTES_MIN)
        .min_mtu(QUIC_PAYLOAD_BYTES_MIN)
        .mtu_discovery_config(discovery)
        // Some more than the lanes: a lane opened again may come before the old one is gone.
        .max_concurrent_bidi_streams((LANES_MAX + 64).into())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    transport
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_of(tuning: TrunkTuning) -> TransportConfig {
        transport_config(tuning, Class::Chat, &Flows::default(), &Warmth::default())
    }

    #[test]
    fn bulk_may_have_more_on_its_way_and_waits_longer_for_a_loss() {
        let (flows, warmth) = (Flows::default(), Warmth::default());
        let config = transport_config(TrunkTuning::default(), Class::Bulk, &flows, &warmth);
        let shown = format!("{config:?}");
        for setting in [
            "stream_receive_window: 7340032",
            "receive_window: 33554432",
            "packet_threshold: 256",
            "time_threshold: 1.25",
        ] {
            assert!(shown.contains(setting), "no {setting:?} in {shown}");
        }
    }

    /// quinn keeps its settings private; its `Debug` shows them.
    #[test]
    fn settings_reach_quinn() {
        let shown = format!("{:?}", config_of(TrunkTuning::default()));
        for setting in [
            "max_concurrent_bidi_streams: 1088",
            "max_concurrent_uni_streams: 0",
            "stream_receive_window: 4194304",
            "receive_window: 33554432",
            "send_window: 33554432",
            "packet_threshold: 64",
            "initial_mtu: 1200",
            "min_mtu: 1200",
            "upper_bound: 1372",
            "interval: 60s",
            "black_hole_cooldown: 10s",
            "time_threshold: 1.125",
            "keep_alive_interval: Some(500ms)",
            "max_idle_timeout: Some(10000)",
            "datagram_receive_buffer_size: None",
        ] {
            assert!(shown.contains(setting), "no {setting:?} in {shown}");
        }
    }

    #[test]
    fn a_floor_mtu_probes_nothing() {
        for mtu in [1280, 1000] {
            let tuning = TrunkTuning { inner_mtu_bytes_max: mtu, ..TrunkTuning::default() };
            let shown = format!("{:?}", config_of(tuning));
            assert!(shown.contains("mtu_discovery_config: None"), "{shown}");
        }
        let tuning = TrunkTuning { inner_mtu_bytes_max: 9000, ..TrunkTuning::default() };
        assert!(format!("{:?}", config_of(tuning)).contains("upper_bound: 1372"));
    }
}
