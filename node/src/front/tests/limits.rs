//! Limits are hit, told and counted.

use std::sync::Arc;
use std::time::Duration;

use antipode_proto::trunk::v1::Cause;
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::{SessionConfig, Trunks, TrunksConfig};
use antipode_tunnel::TrunkTuning;
use tokio::sync::mpsc;

use super::bench::{UPGRADE, within};
use super::*;

#[tokio::test]
async fn a_full_node_says_so_and_takes_the_next_when_it_has_room() {
    let mut bench = Bench::with("session = { sessions_max = 1 }").await;
    let (mut client, core) = bench.open().await;
    let answer = bench.ask(UPGRADE).await;
    refused(&answer, "503", "full");
    bench.counted("requests_refused_total{reason=\"full\"} 1").await;
    client.say(|w, out| w.close(out, None).unwrap()).await;
    core.send(end(Cause::BackendClosed, None, "")).unwrap();
    while client.event().await.is_some() {}
    within(async {
        while bench.front.admission.sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    bench.open().await;
}

#[tokio::test]
async fn one_address_can_t_have_every_session() {
    let mut bench = Bench::with("session = { sessions_per_ip_max = 1 }").await;
    let _first = bench.open().await;
    refused(&bench.ask(UPGRADE).await, "429", "sessions_per_ip");
    bench.counted("requests_refused_total{reason=\"sessions_per_ip\"} 1").await;
}

#[tokio::test]
async fn sockets_are_limited() {
    let bench = Bench::with("front = { clients_max = 1 }").await;
    let first = bench.client().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(bench.tell("GET / HTTP/1.1\r\n").await, "");
    bench.counted("clients_refused_total{limit=\"clients_max\"} 1").await;
    drop(first);
}

#[tokio::test]
async fn heads_are_limited() {
    let bench = Bench::with("front = { head_bytes_max = 8192, headers_max = 10 }").await;
    let long = format!("x: {}\r\n", "a".repeat(9000));
    for headers in [long, "x: 1\r\n".repeat(11)] {
        let answer = bench.tell(format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    bench.counted("requests_refused_total{reason=\"head_too_large\"} 2").await;
}

#[tokio::test]
async fn without_a_core_a_client_is_told_to_come_back() {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    let config = TrunksConfig {
        tls: Arc::new(tls),
        tuning: TrunkTuning::default(),
        session: SessionConfig::default(),
        budget: antipode_trunk::Budget::unlimited(),
        bulk_lanes: 0,
        lanes: 1,
        run: [0; 16],
        software: String::new(),
    };
    let shutdown = Shutdown::default();
    let metrics = antipode_trunk::Metrics::default();
    let trunks = Trunks::start(config, None, &shutdown, metrics).unwrap();
    let bench = Bench::on(trunks, mpsc::channel(1).1, "", false).await;
    refused(&bench.ask(UPGRADE).await, "503", "no_core");
    let health = format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", crate::front::HEALTH_PATH);
    refused(&bench.ask(health).await, "503", "no_core");
}

#[track_caller]
fn refused(answer: &str, status: &str, label: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(has_line(answer, &format!("antipode-error: {label}")), "{answer}");
    assert!(has_line(answer, "retry-after: 5"), "{answer}");
}
