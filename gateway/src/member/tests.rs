//! What an introduction may say.

use super::*;

#[test]
fn names_are_labels() {
    for good in ["a", "sg-1", "ap-southeast", &"x".repeat(32)] {
        assert_eq!(check_name(good), Ok(()), "{good}");
    }
    for bad in ["", "SG", "a.b", "a b", "ä", "a\n", &"x".repeat(33)] {
        assert!(check_name(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_good_introduction_is_kept_as_said() {
    let profile = Profile::check(Role::Core, &introduction()).unwrap();
    assert_eq!(profile.trunk_port, 7443);
    assert_eq!(profile.location, Some((52.0, 5.0)));
    let peer = profile.to_peer("id", "core-1", Role::Core, [7; 32]);
    assert_eq!(peer.endpoints, ["core.example:51820"]);
    assert_eq!(peer.stream_endpoints, ["core.example:443"]);
    assert_eq!((peer.role(), peer.carrier()), (wire::Role::Core, wire::Carrier::Quic));
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    type Change = fn(&mut wire::Introduction);
    let rows: [(&str, Change); 13] = [
        ("region", |i| i.region = "Asia!".into()),
        ("no software", |i| i.software.clear()),
        ("control characters", |i| i.software = "a\u{7}".into()),
        ("long software", |i| i.software = "x".repeat(257)),
        ("many URLs", |i| i.public_urls = vec!["wss://a".into(); 9]),
        ("a script as URL", |i| i.public_urls = vec!["javascript:alert(1)".into()]),
        ("an empty URL", |i| i.public_urls = vec!["wss://".into()]),
        ("no port", |i| i.endpoints = vec!["core.example".into()]),
        ("port 0", |i| i.endpoints = vec!["core.example:0".into()]),
        ("a stream's URL", |i| i.stream_endpoints = vec!["https://core.example".into()]),
        ("many streams", |i| i.stream_endpoints = vec!["core.example:443".into(); 9]),
        ("off the earth", |i| {
            i.location = Some(wire::Location { latitude: 91.0, longitude: 0.0 });
        }),
        ("not a number", |i| {
            i.location = Some(wire::Location { latitude: f64::NAN, longitude: 0.0 });
        }),
    ];
    for (what, change) in rows {
        let mut said = introduction();
        change(&mut said);
        assert!(Profile::check(Role::Node, &said).is_err(), "{what}");
    }
    let no_port = wire::Introduction { trunk_port: 0, ..introduction() };
    assert!(Profile::check(Role::Core, &no_port).is_err(), "a core without a trunk port");
    assert!(Profile::check(Role::Node, &no_port).is_ok(), "a node needs none");
    let big = wire::Introduction { trunk_port: 65_536, ..introduction() };
    assert!(Profile::check(Role::Node, &big).is_err(), "no port is that high");
}

fn introduction() -> wire::Introduction {
    wire::Introduction {
        run: vec![1; 16].into(),
        software: "antipode-core 0.1.0".into(),
        region: "eu-west".into(),
        location: Some(wire::Location { latitude: 52.0, longitude: 5.0 }),
        public_urls: vec!["wss://eu.relay.example".into()],
        sessions_max: 100,
        endpoints: vec!["core.example:51820".into()],
        trunk_port: 7443,
        carrier: wire::Carrier::Quic.into(),
        stream_endpoints: vec!["core.example:443".into()],
        ..wire::Introduction::default()
    }
}
