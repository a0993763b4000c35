//! Limits towards backends: each is reached, told and counted.

use super::ends::{assert_closed, relayed};
use super::*;

#[tokio::test]
async fn connects_take_turns_and_last_no_longer_than_they_may() {
    let (listener, url) = listen().await;
    let extra = "[limits]\nconnects_max = 1\n[timeouts]\nconnect = \"400ms\"\n";
    // Nobody there speaks TLS.
    let core = Core::new(&[&url.replace("http:", "https:")], extra);
    let waiting = [core.open(upgrade(&[])).await, core.open(upgrade(&[])).await];
    let _first = accept(&listener).await;
    let second = timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(second.is_err(), "one at a time");
    let mut told = Vec::new();
    for node in waiting {
        told.push(value(&node.response().await, "antipode-error"));
    }
    let in_vain = ["backend_busy", "backend_connect_timeout"];
    assert!(told.iter().all(|label| in_vain.contains(&label.as_str())), "{told:?}");
    assert!(told.iter().any(|label| label == "backend_connect_timeout"), "{told:?}");
    let counted = counted(&core);
    assert!(counted.contains("outcome=\"timeout\"} "), "{counted}");
    assert!(counted.contains("reason=\"backend_connect_timeout\"} "), "{counted}");
}

#[tokio::test]
async fn an_answer_that_stands_still_is_cut() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "[timeouts]\nbody_idle = \"200ms\"\n");
    let node = core.open(get("/")).await;
    node.send_end(Cause::Complete);
    let mut backend = accept(&listener).await;
    read_head(&mut backend).await;
    backend.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
    assert_eq!(node.response().await.status, 200);
    let (half, end) = node.rest().await;
    assert_eq!((&half[..], end.cause()), (&b"half"[..], Cause::BackendTimeout));
    assert_closed(&core, "backend_timeout").await;
}

#[tokio::test]
async fn a_request_that_stands_still_is_cut() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "[timeouts]\nbody_idle = \"200ms\"\n");
    let node = core.open(request(SessionKind::Http, "POST", "/", &[("content-length", "9")])).await;
    node.send_body(b"half").await;
    let mut backend = accept(&listener).await;
    read_head(&mut backend).await;
    assert_eq!(read_to_end(&mut backend).await, b"half");
    assert_closed(&core, "client_idle").await;
}

#[tokio::test]
async fn a_backend_that_takes_nothing_is_slow() {
    let (core, node, _backend) = relayed("[timeouts]\nwrite = \"300ms\"\n").await;
    let payload = [7; 16 * 1024];
    while timeout(Duration::from_millis(100), node.port.ready()).await.is_ok_and(|r| r.is_ok()) {
        node.send_frame(0x82, &payload).await;
    }
    assert_eq!(node.end().await.cause(), Cause::BackendSlow);
    node.send_end(Cause::BackendSlow);
    assert_closed(&core, "backend_slow").await;
}

#[tokio::test]
async fn idle_sockets_are_few_and_not_kept_for_long() {
    let (listener, url) = listen().await;
    let extra = "[limits]\nidle_sockets_max = 1\n[timeouts]\nidle_socket = \"300ms\"\n";
    let core = Core::new(&[&url], extra);
    let mut asked = Vec::new();
    for _ in 0..2 {
        let node = core.open(get("/")).await;
        node.send_end(Cause::Complete);
        let mut backend = accept(&listener).await;
        read_head(&mut backend).await;
        asked.push((node, backend));
    }
    let mut idle = Vec::new();
    for (node, mut backend) in asked {
        backend.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        assert_eq!(node.response().await.status, 204);
        idle.push(backend);
    }
    let (mut one, mut two) = (idle.remove(0), idle.remove(0));
    let (mut first, mut second) = ([0], [0]);
    let kept = tokio::select! {
        read = one.read(&mut first) => (read.unwrap_or(0), two),
        read = two.read(&mut second) => (read.unwrap_or(0), one),
        () = tokio::time::sleep(PATIENCE) => panic!("both are kept"),
    };
    assert_eq!(kept.0, 0, "one is closed");
    tokio::time::sleep(Duration::from_millis(400)).await;
    let node = core.open(get("/")).await;
    node.send_end(Cause::Complete);
    read_head(&mut accept(&listener).await).await;
    assert!(counted(&core).contains("outcome=\"ok\"} 3"), "{}", counted(&core));
}

#[tokio::test]
async fn a_check_that_is_not_answered_counts_as_failed() {
    let (listener, url) = listen().await;
    let text = crate::config::tests::with_member(&format!(
        "[health]\ncheck = \"http\"\ninterval = \"20ms\"\ntimeout = \"100ms\"\nup = 1\ndown = 1\n\
         [[backend]]\nurl = \"{url}\"\n"
    ));
    let core = Core::with(&text);
    let mut backend = accept(&listener).await;
    read_head(&mut backend).await;
    backend.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    becomes(&core, true).await;
    becomes(&core, false).await;
    assert!(counted(&core).contains("up{backend="), "{}", counted(&core));
}

async fn becomes(core: &Core, healthy: bool) {
    let seen = async {
        while core.bridge.backends().any_healthy() != healthy {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("{healthy}"));
}

/// What the core has counted of its backends and of its own answers.
fn counted(core: &Core) -> String {
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register("connects", "", core.metrics.backend_connects.clone());
    registry.register("answers", "", core.metrics.answers_made.clone());
    registry.register("up", "", core.metrics.backend_up.clone());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}
