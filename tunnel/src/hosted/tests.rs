//! What is said to `wg` and what is understood of its answers; the real programs are tried in a
//! network namespace by the workspace's tests.

use super::*;
use crate::key::PrivateKey;

const KEY: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

#[test]
fn a_peer_as_wg_set_wants_it() {
    let mut peer = PeerConfig::new(KEY.parse().unwrap());
    let address = peer.public_key.address();
    check(&peer, &format!("allowed-ips {address}/128 persistent-keepalive 0"));
    peer.endpoint = Some("[2001:db8::1]:51820".parse().unwrap());
    peer.keepalive = Some(Duration::from_secs(25));
    peer.allowed_ips = vec!["fd00::/64".parse().unwrap(), "10.0.0.1".parse().unwrap()];
    check(
        &peer,
        "allowed-ips fd00::/64,10.0.0.1/32 endpoint [2001:db8::1]:51820 persistent-keepalive 25",
    );
    peer.keepalive = Some(Duration::from_millis(10));
    peer.endpoint = None;
    check(&peer, "allowed-ips fd00::/64,10.0.0.1/32 persistent-keepalive 1");
}

#[track_caller]
fn check(peer: &PeerConfig, expected: &str) {
    let expected = format!("set wg0 peer {KEY} {expected}");
    assert_eq!(peer_arguments("wg0", peer).join(" "), expected);
}

#[test]
fn a_line_of_the_dump() {
    let line = format!("{KEY}\t(none)\t192.0.2.1:51820\tfd00::1/128\t1700000000\t1000\t2000\t25");
    let state = peer_state(&line, Duration::from_secs(1_700_000_030)).unwrap();
    assert_eq!(state.public_key.to_string(), KEY);
    assert_eq!(state.endpoint, Some("192.0.2.1:51820".parse().unwrap()));
    assert_eq!(state.handshake_age, Some(Duration::from_secs(30)));
    assert_eq!((state.bytes_in, state.bytes_out), (1000, 2000));

    let never = format!("{KEY}\t(none)\t(none)\t(none)\t0\t0\t0\toff");
    let state = peer_state(&never, Duration::from_secs(5)).unwrap();
    assert_eq!((state.endpoint, state.handshake_age), (None, None));

    for line in ["", "a\tb", &line.replace("1000", "many"), &line.replace(KEY, "key")] {
        assert_eq!(peer_state(line, Duration::ZERO), None, "{line:?}");
    }
}

#[test]
fn an_answer_that_is_not_understood_keeps_the_secret() {
    let error = HostedError::Answer { line: hide_secret("SECRET\tpublic\t51820") };
    assert!(!error.to_string().contains("SECRET"), "{error}");
}

#[tokio::test]
async fn no_interface_and_no_program_say_what_to_do() {
    let error = HostedTunnel::open("antipode-none").await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("wg set") || text.contains("apt-get") || text.contains("CAP_NET_ADMIN"),
        "{text}"
    );
    let missing = run("antipode-no-such-program", &[]).await.unwrap_err();
    assert!(missing.to_string().contains("apt-get install"), "{missing}");
}

#[test]
fn the_address_follows_from_the_interfaces_key() {
    let public_key = PrivateKey::generate().public_key();
    let hosted = HostedTunnel { interface: "wg0".into(), public_key, listen_port: 51820 };
    let bind = hosted.tcp_bind_address(4433);
    assert_eq!(bind, SocketAddr::new(public_key.address().into(), 4433));
    let refused = hosted.quic_socket(0).unwrap_err().to_string();
    assert!(refused.contains(&hosted.address_command()), "{refused}");
}
