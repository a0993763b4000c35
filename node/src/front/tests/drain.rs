//! A drain: who can go on elsewhere is invited, the others are closed, nobody new comes in.

use std::time::Duration;

use antipode_proto::registry::v1::{Neighbour, Neighbours};
use antipode_proto::trunk::v1::Cause;
use antipode_runtime::clock;
use antipode_runtime::shutdown::{Finish, Shutdown};
use antipode_websocket::Event;
use tokio::sync::oneshot;

use antipode_trunk::Body;

use super::bench::{Client, UPGRADE, next, offering, value_of, within};
use super::*;

const GRACE: Duration = Duration::from_secs(3);

/// Begins the drain; what comes out is how it ended.
fn drain(bench: &Bench) -> oneshot::Receiver<Finish> {
    let near = Neighbour { public_urls: vec!["wss://near".into()], weight: 1, name: "n".into() };
    bench.front.elsewhere().set(&Neighbours { nodes: vec![near] });
    let (shutdown, tasks) = (bench.shutdown.clone(), Shutdown::default());
    let (told, finished) = oneshot::channel();
    tasks.spawn(async move {
        let _ = told.send(shutdown.finish(GRACE).await);
    });
    finished
}

fn with_grace() -> String {
    format!("drain_grace = \"{}s\"", GRACE.as_secs())
}

/// The relay's close, answered.
async fn is_closed(client: &mut Client) -> u16 {
    let Some(Event::Close(Some((code, _)))) = client.event().await else { panic!("no close") };
    client.say(|w, out| w.close(out, Some((code, ""))).unwrap()).await;
    code
}

#[tokio::test]
async fn a_drain_tells_everybody_to_go_and_ends_with_the_last() {
    let mut bench = Bench::with(&with_grace()).await;
    let (mut one, one_core) = bench.open().await;
    let (mut two, two_core) = bench.open().await;
    let (mut mobile, mobile_core) = bench.open_resumable().await;
    let kept = bench.client().await;
    let began = clock::now();
    let finished = drain(&bench);

    let go_away = within(mobile_core.invited()).await;
    let _idler = bench.client().await;
    assert_eq!((go_away.url.as_str(), go_away.after_ms), ("wss://near", 0));
    assert!((2000..3000).contains(&go_away.grace_ms), "{}", go_away.grace_ms);
    for (client, core) in [(&mut one, one_core), (&mut two, two_core)] {
        assert_eq!(is_closed(client).await, 1001);
        let told = next(&core).await;
        assert_eq!(told, end(Cause::NodeDraining, Some(1001), "the relay goes away"));
        core.send(end(Cause::BackendClosed, Some(1001), "")).unwrap();
        assert_eq!(client.event().await, None);
    }
    bench.counted("sessions_invited_total 1").await;
    bench.counted("sessions_drained_total 3").await;
    mobile.frame(0x82, b"still here").await;
    assert_eq!(next(&mobile_core).await, whole(0x82, b"still here"), "nothing is cut meanwhile");

    drop((mobile, kept));
    let Body::End(lost) = next(&mobile_core).await else { panic!("no end") };
    assert_eq!(lost.cause(), Cause::ClientLost);
    mobile_core.send(end(Cause::ClientLost, None, "")).unwrap();
    assert_eq!(within(finished).await.unwrap(), Finish::Drained);
    let took = began.elapsed();
    assert!(took < GRACE * 2 / 3, "it ends with the last that was there before: {took:?}");
}

#[tokio::test]
async fn nobody_new_comes_in_and_everybody_is_told_where_to_go() {
    let mut bench = Bench::with(&with_grace()).await;
    let (_mobile, _core) = bench.open_resumable().await;
    let _finished = drain(&bench);
    within(bench.shutdown.draining()).await;
    let resume = offering("antipode.resume.v1, antipode.core.in-memory");
    for request in [UPGRADE, &resume, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let answer = bench.tell(request).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert_eq!(value_of(&answer, "antipode-error"), Some("node_draining"));
        assert_eq!(value_of(&answer, "antipode-candidates"), Some("wss://near"));
        assert_eq!(value_of(&answer, "connection"), Some("close"));
        let after: u32 = value_of(&answer, "retry-after").unwrap().parse().unwrap();
        assert!((1..=10).contains(&after), "{after}");
    }
}

#[tokio::test]
async fn one_that_does_not_go_is_closed_before_it_is_cut() {
    let mut bench = Bench::with(&with_grace()).await;
    let (mut mobile, core) = bench.open_resumable().await;
    let began = clock::now();
    let finished = drain(&bench);
    assert_eq!(is_closed(&mut mobile).await, 1001);
    let took = began.elapsed();
    assert!(took > GRACE.mul_f64(0.89) && took < GRACE, "{took:?}");
    let Body::End(told) = next(&core).await else { panic!("no end") };
    assert_eq!(told.cause(), Cause::NodeDraining);
    core.send(end(Cause::NodeDraining, None, "")).unwrap();
    assert_eq!(within(finished).await.unwrap(), Finish::Drained);
}
