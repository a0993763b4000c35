//! The mesh from outside: who is told of whom, and what is shown of it.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::time::Duration;

use antipode_gateway::member::Role;
use antipode_proto::registry::v1 as wire;
use wire::directive::Kind as Directive;
use wire::report::Kind as Report;

mod support;
use support::stream::Stream;
use support::{Gateway, Raw, heartbeat, introduction};

/// Reports until the test ends; answers with what `wanted` takes.
async fn told<T>(stream: &mut Stream, wanted: impl Fn(Directive) -> Option<T>) -> T {
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        assert!(tokio::time::Instant::now() < until, "it is told in time");
        stream.report(Report::Heartbeat(heartbeat())).await;
        if let Some(found) = stream.next_within(Duration::from_millis(400)).await.and_then(&wanted)
        {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_told_who_sends_on_for_whom() {
    let gateway = Gateway::start().await;
    let sg: Raw = gateway.enrol("sg", Role::Node, 1).await.unwrap();
    let jp: Raw = gateway.enrol("jp", Role::Node, 2).await.unwrap();
    let said = introduction(1.3, 103.8, "wss://sg.example");
    let (mut sg_stream, _) = Stream::seated(&gateway, &sg, said).await;
    let said = wire::Introduction {
        endpoints: vec!["jp.example:51820".into()],
        forwards: true,
        ..introduction(35.7, 139.7, "wss://jp.example")
    };
    let (mut jp_stream, _) = Stream::seated(&gateway, &jp, said).await;
    let (forwarders, forwarded) = tokio::join!(
        told(&mut sg_stream, |directive| {
            if let Directive::Forwarders(told) = directive { Some(told) } else { None }
        }),
        told(&mut jp_stream, |directive| {
            if let Directive::Forwarded(told) = directive { Some(told) } else { None }
        }),
    );
    let jp_as_told = wire::Forwarder {
        member_id: jp.member_id,
        name: "jp".into(),
        wireguard_public_key: vec![2; 32].into(),
        endpoints: vec!["jp.example:51820".into()],
    };
    assert_eq!(forwarders.nodes, [jp_as_told]);
    let sg_as_told = wire::ForwardedNode {
        member_id: sg.member_id,
        name: "sg".into(),
        wireguard_public_key: vec![1; 32].into(),
    };
    assert_eq!(forwarded.nodes, [sg_as_told]);

    let (status, head, body) = gateway.get("/v1/routes").await;
    assert_eq!(status, 200);
    assert!(head.contains("access-control-allow-origin: *"), "{head}");
    let expected = serde_json::json!({ "routes": [
        { "node": "jp", "via": [], "forwarders": [] },
        { "node": "sg", "via": [], "forwarders": ["jp"] },
    ] });
    assert_eq!(body, expected);
}
