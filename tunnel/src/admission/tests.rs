//! The shares, at their limits.

use boringtun::noise::Tunn;

use super::*;
use crate::key::PrivateKey;

struct Lab {
    admission: Admission,
    tunn: Tunn,
    now: Instant,
}

fn lab() -> Lab {
    let (core, node) = (PrivateKey::generate(), PrivateKey::generate());
    let now = crate::tunnel::now();
    let tunn = Tunn::new(node.secret().clone(), core.public_key().dalek(), None, None, 1, None);
    Lab { admission: Admission::new(&core.public_key(), now), tunn, now }
}

impl Lab {
    fn initiation(&mut self) -> Vec<u8> {
        let mut buffer = [0; 200];
        let result = self.tunn.format_handshake_initiation(&mut buffer, true);
        let TunnResult::WriteToNetwork(bytes) = result else { panic!("{result:?}") };
        bytes.to_vec()
    }

    fn judge(&mut self, source: &str, message: &[u8]) -> Verdict {
        self.admission.judge(source.parse().unwrap(), message, self.now)
    }
}

#[test]
fn a_source_has_a_burst_and_earns_more_with_time() {
    let mut lab = lab();
    let message = lab.initiation();
    for _ in 0..SOURCE_HANDSHAKES_BURST {
        assert_eq!(lab.judge("192.0.2.1", &message), Verdict::Pass);
    }
    assert!(matches!(lab.judge("192.0.2.1", &message), Verdict::Cookie(_)));
    lab.now += Duration::from_secs(1);
    for _ in 0..SOURCE_HANDSHAKES_PER_SECOND {
        assert_eq!(lab.judge("192.0.2.1", &message), Verdict::Pass);
    }
    assert!(matches!(lab.judge("192.0.2.1", &message), Verdict::Cookie(_)));
}

#[test]
fn over_the_global_limit_everybody_proves_an_address() {
    let mut lab = lab();
    let message = lab.initiation();
    for host in 0..HANDSHAKES_PER_SECOND {
        let source = format!("10.0.{}.{}", host / 256, host % 256);
        assert_eq!(lab.judge(&source, &message), Verdict::Pass);
    }
    assert!(matches!(lab.judge("192.0.2.1", &message), Verdict::Cookie(_)));
    lab.now += Duration::from_secs(1);
    assert_eq!(lab.judge("192.0.2.1", &message), Verdict::Pass);
}

#[test]
fn a_proven_source_has_a_share_too() {
    let mut lab = lab();
    let message = lab.initiation();
    for _ in 0..SOURCE_HANDSHAKES_BURST {
        lab.judge("192.0.2.1", &message);
    }
    let Verdict::Cookie(cookie) = lab.judge("192.0.2.1", &message) else { panic!("no cookie") };
    assert!(matches!(lab.tunn.decapsulate(None, &cookie, &mut [0; 200]), TunnResult::Done));
    let proven = lab.initiation();
    for _ in 0..SOURCE_HANDSHAKES_BURST {
        assert_eq!(lab.judge("192.0.2.1", &proven), Verdict::Pass);
    }
    assert_eq!(lab.judge("192.0.2.1", &proven), Verdict::Limited);
}

#[test]
fn a_message_for_another_key_uses_up_nobodys_share() {
    let (mut lab, mut other) = (lab(), lab());
    let message = other.initiation();
    for _ in 0..2 * SOURCE_HANDSHAKES_BURST {
        assert_eq!(lab.judge("192.0.2.1", &message), Verdict::Invalid);
    }
    let message = lab.initiation();
    assert_eq!(lab.judge("192.0.2.1", &message), Verdict::Pass);
}

#[test]
fn the_table_of_sources_is_bounded_and_forgets_the_quiet() {
    let mut lab = lab();
    let mut sources = Sources::new(lab.now);
    lab.now += Duration::from_secs(2);
    for host in 0..u32::try_from(SOURCES_MAX).unwrap() {
        assert!(sources.take(IpAddr::from(host.to_be_bytes()), lab.now));
    }
    let late: IpAddr = "203.0.113.1".parse().unwrap();
    assert!(!sources.take(late, lab.now), "all are busy");
    assert_eq!(sources.buckets.len(), SOURCES_MAX);
    assert!(sources.take(late, lab.now + Duration::from_secs(60)), "all are quiet");
    assert_eq!(sources.buckets.len(), 1);
}

#[test]
fn one_host_of_ipv6_has_one_share() {
    let share = |text: &str| share_of(text.parse().unwrap());
    assert_eq!(share("2001:db8:1:2::1"), share("2001:db8:1:2:ffff::9"));
    assert_ne!(share("2001:db8:1:2::1"), share("2001:db8:1:3::1"));
    assert_eq!(share("::ffff:192.0.2.1"), share("192.0.2.1"));
}
