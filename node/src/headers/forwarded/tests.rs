//! Tables and a property: what a client sends can never forge its address.

use proptest::prelude::*;

use super::*;

#[test]
fn an_untrusted_peer_is_believed_in_nothing() {
    let forged = [
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-port", "1"),
        ("x_forwarded_for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1;proto=http"),
        ("x-real-ip", "10.0.0.1"),
    ];
    check(
        "all claims dropped",
        "203.0.113.9",
        &forged,
        "203.0.113.9",
        &[
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "chat.example"),
            ("forwarded", "for=203.0.113.9;host=chat.example;proto=https"),
        ],
    );
}

#[test]
fn ipv6_is_quoted() {
    check(
        "IPv6",
        "2001:db8::7",
        &[],
        "2001:db8::7",
        &[
            ("x-forwarded-for", "2001:db8::7"),
            ("forwarded", "for=\"[2001:db8::7]\";host=chat.example;proto=https"),
        ],
    );
    check(
        "a mapped address is its IPv4 self",
        "::ffff:203.0.113.9",
        &[],
        "203.0.113.9",
        &[("x-forwarded-for", "203.0.113.9")],
    );
}

#[test]
fn a_trusted_proxy_is_believed_up_to_the_client() {
    let proxy = "10.0.0.2";
    check(
        "one hop",
        proxy,
        &[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "http")],
        "203.0.113.9",
        &[("x-forwarded-for", "203.0.113.9, 10.0.0.2"), ("x-forwarded-proto", "http")],
    );
    check(
        "what the client itself wrote on the left is cut",
        proxy,
        &[("x-forwarded-for", "10.9.9.9, 1.2.3.4, 203.0.113.9, 10.0.0.3")],
        "203.0.113.9",
        &[("x-forwarded-for", "203.0.113.9, 10.0.0.3, 10.0.0.2")],
    );
    check(
        "several lines are one list",
        proxy,
        &[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "203.0.113.9:4711")],
        "203.0.113.9",
        &[("x-forwarded-for", "203.0.113.9, 10.0.0.2")],
    );
    check(
        "an unreadable entry ends the chain",
        proxy,
        &[("x-forwarded-for", "203.0.113.9, unknown, 10.0.0.3")],
        "10.0.0.3",
        &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")],
    );
    check(
        "Forwarded serves where the older field is missing",
        proxy,
        &[("forwarded", "for=\"[2001:db8::9]:4711\";proto=http;host=\"h.example:8443\"")],
        "2001:db8::9",
        &[
            ("x-forwarded-host", "h.example:8443"),
            ("forwarded", "for=\"[2001:db8::9]\";host=\"h.example:8443\";proto=http, for=10.0.0.2"),
        ],
    );
    check(
        "a bad host is not passed on",
        proxy,
        &[("x-forwarded-host", "a b")],
        "10.0.0.2",
        &[("x-forwarded-host", "chat.example")],
    );
}

proptest! {
    /// Whatever header an untrusted client sends, in whatever number, what reaches the backend
    /// about its address is the socket's address alone.
    #[test]
    fn a_client_never_forges(
        lines in prop::collection::vec((claim_name(), "[ -~]{0,40}"), 0..8),
        peer in any::<[u8; 4]>(),
    ) {
        let peer = IpAddr::from(peer);
        prop_assume!(!trusted().contains(peer));
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(&value).unwrap());
        }
        let client = rewrite(&mut headers, arrival(peer), &trusted());
        prop_assert_eq!(client.ip, peer);
        let peer_text = peer.to_string();
        prop_assert_eq!(all(&headers, "x-forwarded-for"), vec![peer_text.as_str()]);
        prop_assert_eq!(all(&headers, "x-forwarded-proto"), vec!["https"]);
        prop_assert_eq!(all(&headers, "x-forwarded-host"), vec!["chat.example"]);
        prop_assert_eq!(all(&headers, "forwarded").len(), 1);
        prop_assert_eq!(headers.len(), 4, "nothing else that speaks of the client is left");
    }

    /// Behind a trusted proxy that appends what it saw, the client can write anything into the
    /// field and still comes out as the address that the proxy saw.
    #[test]
    fn a_client_behind_a_proxy_never_forges(written in "[ -~]{0,60}", seen in any::<[u8; 4]>()) {
        let seen = IpAddr::from(seen);
        prop_assume!(!trusted().contains(seen));
        let mut headers = HeaderMap::new();
        let line = format!("{written}, {seen}");
        headers.insert("x-forwarded-for", HeaderValue::from_str(&line).unwrap());
        let proxy = "10.0.0.2".parse().unwrap();
        let client = rewrite(&mut headers, arrival(proxy), &trusted());
        prop_assert_eq!(client.ip, seen);
        let expected = format!("{seen}, 10.0.0.2");
        prop_assert_eq!(all(&headers, "x-forwarded-for"), vec![expected.as_str()]);
    }
}

fn claim_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "x-forwarded-for",
        "X-FORWARDED-FOR",
        "x_forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-anything",
        "forwarded",
        "Forwarded",
        "x-real-ip",
        "x_real_ip",
        "true-client-ip",
    ])
}

fn trusted() -> TrustedProxies {
    TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()])
}

fn arrival(peer: IpAddr) -> Arrival<'static> {
    Arrival { peer, scheme: Scheme::Https, authority: "chat.example" }
}

fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).into_iter().map(|value| value.to_str().unwrap()).collect()
}

#[track_caller]
fn check(what: &str, peer: &str, sent: &[(&str, &str)], client: &str, expected: &[(&str, &str)]) {
    let mut headers = HeaderMap::new();
    for (name, value) in sent {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, value.parse().unwrap());
    }
    let found = rewrite(&mut headers, arrival(peer.parse().unwrap()), &trusted());
    assert_eq!(found.ip, client.parse::<IpAddr>().unwrap(), "{what}");
    for (name, value) in expected {
        assert_eq!(all(&headers, name), vec![*value], "{what}: {name}");
    }
}
