//! The registry from outside, by clients made by hand: what it takes, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::time::Duration;

use antipode_gateway::member::Role;
use antipode_proto::registry::v1 as wire;
use antipode_runtime::clock;
use antipode_runtime::member::Refusal;
use tonic::{Code, Status};
use wire::directive::Kind as Directive;
use wire::report::Kind as Report;

mod support;
use support::stream::Stream;
use support::{Gateway, Raw, eventually, heartbeat, introduction, request_of};

const SECOND: Duration = Duration::from_secs(1);

fn said() -> wire::Introduction {
    introduction(1.3, 103.8, "wss://sg.example")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_stream_wins_and_the_older_is_told() {
    let gateway = Gateway::start().await;
    let sg = gateway.enrol("sg", Role::Node, 1).await.unwrap();
    let (mut first, old_lease) = Stream::seated(&gateway, &sg, said()).await;
    let (second, new_lease) = Stream::seated(&gateway, &sg, said()).await;
    assert!(new_lease > old_lease);
    let status = first.next().await.unwrap_err();
    assert_eq!(Refusal::of(&status), Some(Refusal::Superseded));
    for _ in 0..3 {
        second.report(Report::Heartbeat(heartbeat())).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert_eq!(gateway.health("sg"), "alive", "the end of the older changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_says_nothing_more_is_dead_in_under_three_seconds() {
    let gateway = Gateway::start().await;
    let sg = gateway.enrol("sg", Role::Node, 1).await.unwrap();
    let (stream, _) = Stream::seated(&gateway, &sg, said()).await;
    for _ in 0..3 {
        stream.report(Report::Heartbeat(heartbeat())).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(gateway.health("sg"), "alive");
    stream.report(Report::Heartbeat(heartbeat())).await;
    let last = clock::now();
    eventually("suspect", 2 * SECOND, || gateway.health("sg") == "suspect").await;
    let answer = gateway.get("/v1/steer?lat=1&lon=1").await;
    assert_eq!(answer.2["reason"], "last_resort", "{}", answer.2);
    eventually("dead", 3 * SECOND, || gateway.health("sg") == "dead").await;
    assert!(last.elapsed() < 3 * SECOND, "{:?}", last.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_removed_are_cut_off_within_a_second_everywhere() {
    let gateway = Gateway::start().await;
    let sg = gateway.enrol("sg", Role::Node, 1).await.unwrap();
    let eu = gateway.enrol("eu", Role::Core, 2).await.unwrap();
    let (mut node, _) = Stream::seated(&gateway, &sg, said()).await;
    let (mut core, _) = Stream::seated(&gateway, &eu, said()).await;
    let Directive::Roster(roster) = node.next().await.unwrap() else { panic!("no roster") };
    assert_eq!(roster.peers[0].name, "eu");
    assert_eq!(roster.peers[0].wireguard_public_key.as_ref(), [2; 32]);

    let started = clock::now();
    gateway.app.remove(&sg.member_id).await.unwrap().expect("by id too");
    assert!(matches!(node.next().await.unwrap(), Directive::Removed(_)));
    assert_eq!(Refusal::of(&node.next().await.unwrap_err()), Some(Refusal::Removed));
    let Directive::Roster(roster) = core.next().await.unwrap() else { panic!("no roster") };
    assert!(roster.peers.is_empty());
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());

    let refused = Stream::open(&gateway, Some(&sg)).await.map(|_| ()).unwrap_err();
    assert_eq!(Refusal::of(&refused), Some(Refusal::Removed), "its certificate is worth nothing");
    let key = rcgen::KeyPair::generate().unwrap();
    let request = wire::RenewRequest { certificate_request: request_of(&key) };
    let refused = gateway.client(Some(&sg)).await.unwrap().renew(request).await.unwrap_err();
    assert_eq!(Refusal::of(&refused), Some(Refusal::Removed));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_our_certificate_there_is_only_enrolment() {
    let gateway = Gateway::start().await;
    let refused = Stream::open(&gateway, None).await.map(|_| ()).unwrap_err();
    assert_eq!(
        (refused.code(), Refusal::of(&refused)),
        (Code::Unauthenticated, Some(Refusal::NotAMember))
    );
    let renew = gateway.client(None).await.unwrap().renew(wire::RenewRequest::default()).await;
    assert_eq!(Refusal::of(&renew.unwrap_err()), Some(Refusal::NotAMember));

    // Another gateway's member: refused in the handshake, so no call comes through.
    let other = Gateway::start().await;
    let foreign = other.enrol("sg", Role::Node, 1).await.unwrap();
    let sg = gateway.enrol("sg", Role::Node, 1).await.unwrap();
    let forged = Raw { member_id: sg.member_id, ..foreign };
    let refused = match gateway.client(Some(&forged)).await {
        Ok(mut client) => client.renew(wire::RenewRequest::default()).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_can_be_renewed_and_both_are_good() {
    let gateway = Gateway::start().await;
    let sg = gateway.enrol("sg", Role::Node, 1).await.unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let request = wire::RenewRequest { certificate_request: request_of(&key) };
    let renewed = gateway.client(Some(&sg)).await.unwrap().renew(request).await.unwrap();
    let certificate = renewed.into_inner().certificate.to_vec().into();
    let member_id = sg.member_id.clone();
    let renewed = Raw { member_id, certificate, key: key.serialize_der() };
    Stream::seated(&gateway, &renewed, said()).await;
    Stream::seated(&gateway, &sg, said()).await;
    let bad = wire::RenewRequest { certificate_request: vec![0x30; 5000].into() };
    let refused = gateway.client(Some(&sg)).await.unwrap().renew(bad).await.unwrap_err();
    assert_eq!(Refusal::of(&refused), Some(Refusal::Malformed));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_enrolment_refuses_it_names() {
    let gateway = Gateway::start_with("members_max = 2").await;
    let label = |status: Status| (status.code(), Refusal::of(&status));
    let token = gateway.token(Role::Node, 9).await;
    let strange = antipode_runtime::member::JoinToken::new(
        "gw:1".into(),
        token.parse::<antipode_runtime::member::JoinToken>().unwrap().pin(),
        "guess".to_owned().into(),
    );
    let strange = strange.unwrap().expose();
    let strange = secrecy::ExposeSecret::expose_secret(&strange).to_owned();
    let refused = gateway.enrol_with(&strange, "sg", Role::Node, 1).await.map(|_| ()).unwrap_err();
    assert_eq!(label(refused), (Code::Unauthenticated, Some(Refusal::UnknownToken)));
    gateway.enrol_with(&token, "sg", Role::Node, 1).await.unwrap();
    let refused = gateway.enrol_with(&token, "sg", Role::Node, 2).await.map(|_| ()).unwrap_err();
    assert!(refused.message().contains("antipode-gateway remove sg"), "{refused:?}");
    assert_eq!(label(refused), (Code::AlreadyExists, Some(Refusal::NameTaken)));
    let refused = gateway.enrol_with(&token, "syd", Role::Node, 1).await.map(|_| ()).unwrap_err();
    assert!(refused.message().contains("must not share keys"), "{refused:?}");
    assert_eq!(label(refused), (Code::AlreadyExists, None));
    let refused = gateway.enrol_with(&token, "S.G", Role::Node, 2).await.map(|_| ()).unwrap_err();
    assert_eq!(label(refused), (Code::InvalidArgument, Some(Refusal::Malformed)));
    let refused = gateway.enrol_with(&token, "syd", Role::Node, 0).await.map(|_| ()).unwrap_err();
    assert_eq!(label(refused), (Code::InvalidArgument, Some(Refusal::Malformed)));
    gateway.enrol_with(&token, "syd", Role::Node, 2).await.unwrap();
    let refused = gateway.enrol_with(&token, "gru", Role::Node, 3).await.map(|_| ()).unwrap_err();
    assert!(refused.message().contains("members_max"), "{refused:?}");
    assert_eq!(label(refused), (Code::ResourceExhausted, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed_down() {
    let gateway = Gateway::start_with("enrol = { per_minute_max = 3 }").await;
    let mut client = gateway.client(None).await.unwrap();
    let mut codes = Vec::new();
    for _ in 0..5 {
        let guess = wire::EnrolRequest { secret: "guess".into(), ..Default::default() };
        codes.push(client.enrol(guess).await.unwrap_err().code());
    }
    let (malformed, slow) = (Code::InvalidArgument, Code::ResourceExhausted);
    assert_eq!(codes, [malformed, malformed, malformed, slow, slow]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_a_stream_ends_it_with_a_word() {
    let gateway = Gateway::start().await;
    let sg = gateway.enrol("sg", Role::Node, 1).await.unwrap();
    let mut stream = Stream::open(&gateway, Some(&sg)).await.unwrap();
    stream.report(Report::Heartbeat(heartbeat())).await;
    let status = stream.next().await.unwrap_err();
    assert!(status.message().contains("introduction"), "{status:?}");

    let mut stream = Stream::open(&gateway, Some(&sg)).await.unwrap();
    let bad = wire::Introduction { region: "Asia!".into(), ..said() };
    stream.report(Report::Introduction(bad)).await;
    let status = stream.next().await.unwrap_err();
    assert!(status.message().contains("region"), "{status:?}");
    assert_eq!(Refusal::of(&status), Some(Refusal::Malformed));

    // A flood is passed over, and a message beyond the bound ends the stream only.
    let (stream, _) = Stream::seated(&gateway, &sg, said()).await;
    for _ in 0..500 {
        stream.report(Report::Heartbeat(heartbeat())).await;
    }
    let tunnels =
        vec![wire::TunnelReport { member_id: "x".repeat(100), ..Default::default() }; 9000];
    let huge = wire::Heartbeat { tunnels, ..heartbeat() };
    stream.report(Report::Heartbeat(huge)).await;
    eventually("ended", 3 * SECOND, || gateway.health("sg") == "suspect").await;
    Stream::seated(&gateway, &sg, said()).await;
}
