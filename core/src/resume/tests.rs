//! Whole sessions: a client with the same machine as the core, nodes as ports in memory, and real
//! sockets to a backend.

use std::time::Duration;

use antipode_proto::resume::Frame;
use antipode_proto::trunk::v1::Cause;
use tokio::time::timeout;

use crate::bridge::tests::{Core, PATIENCE, accept, answer_upgrade, listen, upgrade};

mod begins;
mod client;
mod ends;
mod handover;
mod older;
mod refusals;
mod resumes;

use client::{Backend, Client, Told, Wire};

/// A core, a client that has been welcomed and is heard, its wire, and the backend's end.
async fn begun(extra: &str) -> (Core, Client, Wire, Backend) {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], extra);
    let opened = core.open(upgrade(&[("sec-websocket-protocol", "antipode.resume.v1")]));
    let served = async {
        let mut backend = accept(&listener).await;
        answer_upgrade(&mut backend, "", b"").await;
        Backend::new(backend)
    };
    let (node, mut backend) = tokio::join!(opened, served);
    let (client, wire) = Client::welcomed(node).await;
    client.send(b"hello").await;
    assert_eq!(backend.next().await.1, b"hello");
    (core, client, wire, backend)
}

/// Waits until `done` is true.
async fn until(what: &str, done: impl Fn() -> bool) {
    let looking = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{what}"));
}

/// The session is gone from the core, and so is its place.
async fn assert_over(core: &Core, cause: Cause) {
    until("the session is over", || core.metrics.sessions.get() == 0).await;
    assert_eq!(core.metrics.resume.sessions.get(), 0);
    assert_eq!(core.metrics.resume.detached.get(), 0);
    assert_eq!(core.bridge.sessions_len(), 0);
    let label = crate::metrics::cause_label(cause);
    let closed = &core.metrics.sessions_closed;
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register("closed", "", closed.clone());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains(&format!("closed_total{{cause=\"{label}\"}} 1")), "{label}: {text}");
}

#[track_caller]
fn refused(told: &Told) -> Cause {
    let Told::Frame(Frame::Refused(refused)) = told else { panic!("not refused: {told:?}") };
    refused.cause()
}
