//! The chat and its page over real sockets, behind a path with a length, with TLS and without.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use antipode_demo::certificate::Certificate;
use antipode_demo::chat::Room;
use antipode_demo::live::Live;
use antipode_demo::page::Page;
use antipode_demo::probe::{Probe, Way, chat_path};
use antipode_demo::serve;
use antipode_demo::wan::TcpRelay;
use antipode_demo::world::{Backend, World};
use antipode_runtime::shutdown::{Finish, Shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ONE_WAY: Duration = Duration::from_millis(40);
const LATE: Duration = Duration::from_millis(60);

struct Lab {
    shutdown: Shutdown,
    plain: Way,
    tls: Way,
}

impl Lab {
    async fn start() -> Self {
        let shutdown = Shutdown::default();
        let certificate = Certificate::make(Ipv4Addr::LOCALHOST.into()).unwrap();
        let world = Arc::new(World::new(Backend::Chat { path: "/chat" }, 1, Vec::new()));
        let page = Page { world, live: Live::default(), room: Room::default() };
        let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let tls = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let far = [plain.local_addr().unwrap(), tls.local_addr().unwrap()];
        serve::plain(plain, page.router(&shutdown), &shutdown);
        serve::tls(tls, certificate.server().unwrap(), page.router(&shutdown), &shutdown).unwrap();
        let mut near = Vec::new();
        for target in far {
            let relay = TcpRelay::bind(Ipv4Addr::LOCALHOST.into()).await.unwrap();
            near.push(relay.local_addr().unwrap());
            relay.serve(target, ONE_WAY, &shutdown);
        }
        let path = chat_path();
        let client = Some(certificate.client().unwrap());
        Self {
            shutdown,
            plain: Way { address: near[0], tls: None, name: None, path: path.clone() },
            tls: Way { address: near[1], tls: client, name: None, path },
        }
    }
}

#[track_caller]
fn about(what: &str, took: Duration, expected: Duration) {
    assert!(took >= expected && took < expected + LATE, "{what}: {took:?}, not {expected:?}");
}

#[tokio::test]
async fn opening_costs_what_the_protocols_cost() {
    let lab = Lab::start().await;
    // TCP and the upgrade: a round trip each. TLS 1.3 takes one more.
    let mut plain = Probe::open(&lab.plain).await.unwrap();
    about("ws", plain.connect, 4 * ONE_WAY);
    let tls = Probe::open(&lab.tls).await.unwrap();
    about("wss", tls.connect, 6 * ONE_WAY);
    about("echo", plain.round_trip().await.unwrap(), 2 * ONE_WAY);
}

#[tokio::test]
async fn what_one_says_the_other_hears() {
    let lab = Lab::start().await;
    let mut ana = Probe::open(&lab.plain).await.unwrap();
    let mut ben = Probe::open(&lab.tls).await.unwrap();
    ana.hello("Ana", "sydney").await.unwrap();
    ben.hello("Ben", "singapore").await.unwrap();
    ana.say("bom dia").await.unwrap();
    for person in [&mut ana, &mut ben] {
        let said = person.hear("bom dia").await.unwrap();
        assert_eq!((said.name.as_str(), said.region.as_str()), ("Ana", "sydney"));
    }
}

#[tokio::test]
async fn bad_upgrades_get_their_status() {
    let lab = Lab::start().await;
    check(&lab, "GET /chat HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "HTTP/1.1 426").await;
    check(&lab, "POST /chat HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "HTTP/1.1 405")
        .await;
    let keyless = "GET /chat HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\n\
        upgrade: websocket\r\n\
        sec-websocket-version: 13\r\n\r\n";
    check(&lab, keyless, "HTTP/1.1 400").await;
    check(&lab, "GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "HTTP/1.1 404")
        .await;
    check(&lab, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "HTTP/1.1 200").await;
    check(&lab, "GET /demo.json HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "HTTP/1.1 200")
        .await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_talkers() {
    let lab = Lab::start().await;
    let mut ana = Probe::open(&lab.plain).await.unwrap();
    ana.hello("Ana", "").await.unwrap();
    let began = tokio::time::Instant::now();
    let finish = lab.shutdown.finish(Duration::from_secs(5)).await;
    assert_eq!(finish, Finish::Drained);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

async fn check(lab: &Lab, request: &str, expected: &str) {
    let mut stream = TcpStream::connect(lab.plain.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with(expected), "{request:?}: {answer}");
}
