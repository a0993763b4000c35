//! Storms: each rate is reached, told and counted, and who goes on with a session comes first.

use antipode_runtime::clock;

use super::bench::{UPGRADE, head, offering, value_of};
use super::*;

/// The bursts: with one a second, two come in before a third has to wait.
const ONE_A_SECOND: &str = "pacing = { handshakes_per_second_max = 1, sessions_per_second_max = 1, \
     resumes_per_second_max = 1, wait_max = \"0s\" }";

#[tokio::test]
async fn new_sessions_are_paced_and_starve_no_resume() {
    let mut bench = Bench::with(ONE_A_SECOND).await;
    let _held = [bench.open().await, bench.open().await];
    for _ in 0..2 {
        let answer = bench.ask(UPGRADE).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert_eq!(value_of(&answer, "antipode-error"), Some("sessions_per_second_max"));
        let after: u32 = value_of(&answer, "retry-after").unwrap().parse().unwrap();
        assert!((1..=10).contains(&after), "{after}");
    }
    bench.counted("requests_refused_total{reason=\"sessions_per_second_max\"} 2").await;
    let resume = offering("antipode.resume.v1, antipode.core.in-memory");
    for _ in 0..2 {
        let answer = bench.ask(&resume).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    }
    let answer = bench.ask(&resume).await;
    assert_eq!(value_of(&answer, "antipode-error"), Some("resumes_per_second_max"));
    bench.counted("requests_refused_total{reason=\"resumes_per_second_max\"} 1").await;
}

#[tokio::test]
async fn resumes_leave_new_sessions_what_they_do_not_need() {
    let bench = Bench::with(ONE_A_SECOND).await;
    let resume = offering("antipode.resume.v1, antipode.core.in-memory");
    let _held = [bench.ask(&resume).await, bench.ask(&resume).await];
    let answer = bench.ask(UPGRADE).await;
    assert_eq!(value_of(&answer, "antipode-error"), Some("sessions_per_second_max"));
}

#[tokio::test]
async fn whoever_can_wait_gets_a_turn() {
    let patient = ONE_A_SECOND.replace("wait_max = \"0s\"", "wait_max = \"5s\"");
    let mut bench = Bench::with(&patient).await;
    let _held = [bench.open().await, bench.open().await];
    let began = clock::now();
    let mut client = bench.client().await;
    client.send(UPGRADE).await;
    bench.counted("turns_waited_total{what=\"session\"} 1").await;
    let asked = bench.asked().await;
    asked.port.send(head(101, &[])).unwrap();
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    let took = began.elapsed().as_millis();
    assert!((500..2000).contains(&took), "{took} ms");
}

#[tokio::test]
async fn requests_are_not_paced() {
    let mut bench = Bench::with(ONE_A_SECOND).await;
    for _ in 0..5 {
        let mut client = bench.client().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let asked = bench.asked().await;
        asked.port.send(head(204, &[])).unwrap();
        assert!(client.head().await.starts_with("HTTP/1.1 204 "));
    }
}

#[tokio::test]
async fn handshakes_are_paced() {
    let bench = tls::over_tls(ONE_A_SECOND).await;
    let _held = [bench.client().await, bench.client().await];
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(bench.tell("").await, "", "closed, and not kept waiting");
    bench.counted("clients_refused_total{limit=\"handshakes_per_second_max\"} 1").await;
}
