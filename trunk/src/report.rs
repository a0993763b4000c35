//! What the gateway is told of one tunnel: how its datagrams get through, and what is on top.

use std::time::Duration;

use antipode_proto::registry::v1::TunnelReport;
use antipode_tunnel::{PeerState, Quality, Way};

use crate::peer::TrunkState;

/// The report on the tunnel with a member. A figure that nobody has measured is zero.
#[must_use]
pub fn tunnel_report(
    member_id: &str,
    peer: Option<&PeerState>,
    trunk: Option<&TrunkState>,
) -> TunnelReport {
    let quality = peer.map(|peer| peer.quality).unwrap_or_default();
    let rtt = Some(quality.rtt).filter(|_| quality.is_measured);
    let rtt = rtt.or_else(|| trunk?.rtt).or_else(|| peer?.rtt).unwrap_or_default();
    let handshake_age = peer.and_then(|peer| peer.handshake_age);
    let Quality { jitter, queueing, loss_in, loss_out, is_measured, .. } = quality;
    TunnelReport {
        member_id: member_id.to_owned(),
        rtt_us: micros(rtt),
        loss_ppm: trunk.map_or(0, |trunk| trunk.loss_ppm),
        handshake_age_ms: handshake_age
            .and_then(|age| u64::try_from(age.as_millis()).ok())
            .unwrap_or(u64::MAX),
        trunk_up: trunk.is_some_and(|trunk| trunk.lanes_up > 0),
        loss_in_ppm: millionths(loss_in),
        loss_out_ppm: millionths(loss_out),
        jitter_us: micros(jitter),
        queueing_us: micros(queueing),
        shield_copies_permille: peer.map_or(0, |peer| peer.shield.copies_permille),
        way: peer.and_then(|peer| peer.way).map_or("", Way::kind).to_owned(),
        via: String::new(),
        measured: is_measured,
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// A share as a whole number: `as` would do, but may not.
fn millionths(share: f32) -> u32 {
    micros(Duration::try_from_secs_f32(share.clamp(0.0, 1.0)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use antipode_tunnel::PublicKey;

    use super::*;

    fn peer(quality: Quality) -> PeerState {
        PeerState {
            way: Some(Way::from(std::net::SocketAddr::from(([192, 0, 2, 1], 51_820)))),
            quality,
            handshake_age: Some(Duration::from_secs(7)),
            rtt: Some(Duration::from_millis(3)),
            ..PeerState::new(PublicKey::from([7; 32]))
        }
    }

    fn trunk() -> TrunkState {
        TrunkState {
            member_id: "id".to_owned(),
            lanes_up: 64,
            sessions: 1,
            silence: Duration::ZERO,
            rtt: Some(Duration::from_millis(5)),
            loss_ppm: 9,
        }
    }

    #[test]
    fn what_probes_measured_counts() {
        let quality = Quality {
            rtt: Duration::from_millis(200),
            jitter: Duration::from_micros(300),
            queueing: Duration::from_micros(400),
            loss_in: 0.01,
            loss_out: 0.25,
            is_measured: true,
            ..Quality::default()
        };
        let report = tunnel_report("id", Some(&peer(quality)), Some(&trunk()));
        assert_eq!((report.rtt_us, report.loss_ppm), (200_000, 9));
        assert_eq!((report.jitter_us, report.queueing_us), (300, 400));
        assert_eq!((report.loss_in_ppm, report.loss_out_ppm), (10_000, 250_000));
        assert_eq!((report.way.as_str(), report.handshake_age_ms), ("udp", 7_000));
        assert!(report.trunk_up && report.measured);
    }

    #[test]
    fn without_probes_the_trunk_knows_and_without_that_wireguard() {
        let peer = peer(Quality::default());
        assert_eq!(tunnel_report("id", Some(&peer), Some(&trunk())).rtt_us, 5_000);
        let report = tunnel_report("id", Some(&peer), None);
        assert_eq!((report.rtt_us, report.measured, report.trunk_up), (3_000, false, false));
        let nothing = tunnel_report("id", None, None);
        assert_eq!((nothing.rtt_us, nothing.handshake_age_ms), (0, u64::MAX));
        assert_eq!(nothing.way, "");
    }
}
