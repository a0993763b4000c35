//! Real lanes on loopback: QUIC and TCP, who is let in, and what a break does.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod world;

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use antipode_proto::registry::v1::Carrier;
use antipode_proto::trunk::v1::{Cause, RequestHead, ResponseHead};
use antipode_trunk::{Body, CoreTarget, OpenError, Sockets};
use tokio::time::{Instant, timeout};

use world::{Core, Node, World, chunk, end, next, request, udp};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_crosses_quic() {
    crosses(Carrier::Quic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_crosses_tcp() {
    crosses(Carrier::Tcp).await;
}

async fn crosses(carrier: Carrier) {
    let world = World::new();
    let mut core = Core::start(&world, [1; 16]).await;
    let node = Node::start(&world, [2; 16]);
    core.admit(&["node-1"]);
    node.dial(core.target(carrier));
    node.up().await;

    let port = node.trunks.open(request("/chat")).expect("the trunk is up");
    let incoming = core.accepted.recv().await.expect("the session arrives");
    assert_eq!(incoming.node.name, "node-1");
    let far = incoming.port;
    far.send(ResponseHead { status: 101, ..ResponseHead::default() }.into()).unwrap();
    assert!(matches!(next(&port).await, Body::Response(_)));
    for round in 0..200_u32 {
        port.ready().await.unwrap();
        port.send(chunk(&round.to_be_bytes())).unwrap();
        assert_eq!(next(&far).await, chunk(&round.to_be_bytes()));
        far.send(chunk(&round.to_be_bytes())).unwrap();
        assert_eq!(next(&port).await, chunk(&round.to_be_bytes()));
    }
    port.send(end(Cause::ClientClosed)).unwrap();
    assert_eq!(next(&far).await, end(Cause::ClientClosed));
    far.send(end(Cause::BackendClosed)).unwrap();
    assert_eq!(next(&port).await, end(Cause::BackendClosed));
    timeout(Duration::from_secs(5), async { tokio::join!(port.finished(), far.finished()) })
        .await
        .expect("both ends finish");
    assert_eq!(core.server.sessions_count(), 0, "nothing is left behind");
}

/// Of 256 lanes that were opened together, each asked at once: that is 80 ms of a narrow line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_are_silent_do_not_all_speak_at_once() {
    const MANY: u32 = 256;
    let world = World::new();
    let core = Core::start(&world, [1; 16]).await;
    let sent = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&sent);
    core.server.on_quic(move |_, told| {
        counts.fetch_add(told.sent, Ordering::Relaxed);
    });
    core.admit(&["node-1"]);
    let sockets = Sockets { chat: udp().0, bulk: None };
    let node = Node::start_lanes(&world, [2; 16], sockets, MANY);
    node.dial(core.target(Carrier::Quic));
    node.until(|lanes| lanes == MANY).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = sent.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let idle = sent.load(Ordering::Relaxed) - before;
    assert!((6..60).contains(&idle), "{idle} packets, of which QUIC's own keep-alive is 12 to 24");
}

/// What is remembered of a path is true of that path only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_asks_for_the_way_of_whoever_connects() {
    let world = World::new();
    let core = Core::start(&world, [1; 16]).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&asked);
    core.server.ask_way(move |address| {
        assert_eq!(address, Ipv6Addr::LOCALHOST);
        counts.fetch_add(1, Ordering::Relaxed);
        None
    });
    core.admit(&["node-1"]);
    let node = Node::start(&world, [2; 16]);
    node.dial(core.target(Carrier::Quic));
    node.up().await;
    assert!(asked.load(Ordering::Relaxed) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_on_the_roster_is_refused() {
    let world = World::new();
    let core = Core::start(&world, [1; 16]).await;
    let node = Node::start(&world, [2; 16]);
    core.admit(&["somebody-else"]);
    node.dial(core.target(Carrier::Quic));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(node.trunks.open(request("/")).err(), Some(OpenError::TrunkDown));

    core.admit(&["node-1"]);
    node.up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_cut_off() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        let world = World::new();
        let mut core = Core::start(&world, [1; 16]).await;
        let node = Node::start(&world, [2; 16]);
        core.admit(&["node-1"]);
        node.dial(core.target(carrier));
        node.up().await;
        let _port = node.trunks.open(request("/")).expect("the trunk is up");
        let far = core.accepted.recv().await.expect("the session arrives").port;

        core.admit(&[]);
        let ended = timeout(Duration::from_secs(1), far.deliver()).await.expect("within a second");
        assert_eq!(ended.expect_err("cut off").cause, Cause::Policy);
        node.down().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_core_refuses_one_more_and_takes_the_next() {
    let world = World::new();
    let mut core = Core::start(&world, [1; 16]).await;
    let node = Node::start(&world, [2; 16]);
    core.admit(&["node-1"]);
    node.dial(core.target(Carrier::Quic));
    node.up().await;
    let open = || node.trunks.open(request("/")).expect("the trunk is up");
    let ports: Vec<_> = (0..world::SESSIONS_MAX).map(|_| open()).collect();
    let mut far = Vec::new();
    for _ in 0..world::SESSIONS_MAX {
        far.push(core.accepted.recv().await.expect("there is room").port);
    }
    let ended = timeout(Duration::from_secs(5), open().deliver()).await.expect("in time");
    assert_eq!(ended.expect_err("one too many").cause, Cause::CoreFull);

    drop((ports, far));
    while core.server.sessions_count() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _port = open();
    core.accepted.recv().await.expect("there is room again");
}

#[tokio::test]
async fn without_a_core_it_says_so() {
    let node = Node::start(&World::new(), [2; 16]);
    assert_eq!(node.trunks.open(request("/")).err(), Some(OpenError::NoCore));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_outlives_its_lanes() {
    let world = World::new();
    let mut core = Core::start(&world, [1; 16]).await;
    let node = Node::start(&world, [2; 16]);
    let cutter = world::Cutter::start(core.tcp).await;
    core.admit(&["node-1"]);
    node.dial(core.target_at(Carrier::Tcp, cutter.address));
    node.up().await;
    let port = node.trunks.open(request("/")).expect("the trunk is up");
    let far = core.accepted.recv().await.expect("the session arrives").port;
    far.send(ResponseHead::default().into()).unwrap();
    next(&port).await;

    for round in 0..400_u32 {
        if round % 50 == 25 {
            cutter.cut();
        }
        port.ready().await.expect("a break is no end");
        port.send(chunk(&round.to_be_bytes())).unwrap();
        far.ready().await.expect("a break is no end");
        far.send(chunk(&round.to_be_bytes())).unwrap();
        if round % 5 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    for round in 0..400_u32 {
        assert_eq!(next(&far).await, chunk(&round.to_be_bytes()), "upwards, {round}");
        assert_eq!(next(&port).await, chunk(&round.to_be_bytes()), "downwards, {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lane_comes_back_after_an_outage() {
    let world = World::new();
    let core = Core::start(&world, [1; 16]).await;
    let node = Node::start(&world, [2; 16]);
    let cutter = world::Cutter::start(core.tcp).await;
    core.admit(&["node-1"]);
    node.dial(core.target_at(Carrier::Tcp, cutter.address));
    node.up().await;
    for _ in 0..10 {
        // Port 1 of loopback refuses.
        cutter.redirect((Ipv6Addr::LOCALHOST, 1).into());
        node.down().await;
        // Long enough for some lanes to have tried again, and too short for all.
        tokio::time::sleep(Duration::from_millis(30)).await;
        cutter.redirect(core.tcp);
        node.up().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_core_ends_what_it_forgot() {
    let world = World::new();
    let mut core = Core::start(&world, [1; 16]).await;
    let node = Node::start(&world, [2; 16]);
    let cutter = world::Cutter::start(core.tcp).await;
    core.admit(&["node-1"]);
    node.dial(core.target_at(Carrier::Tcp, cutter.address));
    node.up().await;
    let port = node.trunks.open(request("/")).expect("the trunk is up");
    let _far = core.accepted.recv().await.expect("the session arrives").port;

    let other = Core::start(&world, [9; 16]).await;
    other.admit(&["node-1"]);
    cutter.redirect(other.tcp);
    cutter.cut();
    let ended = timeout(Duration::from_secs(10), port.deliver()).await.expect("in time");
    assert_eq!(ended.expect_err("forgotten").cause, Cause::SessionLost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_ends_its_sessions_at_the_core() {
    let world = World::new();
    let mut core = Core::start(&world, [1; 16]).await;
    core.admit(&["node-1"]);
    let node = Node::start(&world, [2; 16]);
    node.dial(core.target(Carrier::Quic));
    node.up().await;
    let _port = node.trunks.open(request("/")).expect("the trunk is up");
    let far = core.accepted.recv().await.expect("the session arrives").port;

    let again = Node::start(&world, [3; 16]);
    again.dial(core.target(Carrier::Quic));
    let ended = timeout(Duration::from_secs(5), far.deliver()).await.expect("in time");
    assert_eq!(ended.expect_err("its clients are gone").cause, Cause::ClientLost);
}

/// Clients keep to their cores, and go to the next one while theirs is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_spread_over_cores_and_keep_to_theirs() {
    let world = World::new();
    let mut one = Core::start(&world, [1; 16]).await;
    let mut two = Core::start(&world, [3; 16]).await;
    let node = Node::start(&world, [2; 16]);
    let cutter = world::Cutter::start(two.tcp).await;
    one.admit(&["node-1"]);
    two.admit(&["node-1"]);
    let second =
        CoreTarget { member_id: "core-2".into(), ..two.target_at(Carrier::Tcp, cutter.address) };
    node.trunks.set_cores(vec![one.target(Carrier::Tcp), second]);
    while !(node.trunks.is_up_to("core-1") && node.trunks.is_up_to("core-2")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut ports = Vec::new();
    let mut open = |client: usize| {
        let client_ip = format!("203.0.113.{client}");
        ports.push(node.trunks.open(RequestHead { client_ip, ..request("/") }).expect("up"));
    };
    let mut homes = Vec::new();
    for _ in 0..2 {
        for client in 0..24 {
            open(client);
            let home = timeout(Duration::from_secs(5), async {
                tokio::select! {
                    incoming = one.accepted.recv() => (1, incoming),
                    incoming = two.accepted.recv() => (2, incoming),
                }
            });
            let (home, incoming) = home.await.expect("it arrives");
            homes.push((home, incoming));
        }
    }
    let home = |at: usize| homes[at].0;
    assert!((0..24).all(|client| home(client) == home(client + 24)), "each keeps to its own");
    let at_two = (0..24).filter(|client| home(*client) == 2).count();
    assert!((4..=20).contains(&at_two), "{at_two} of 24 at the second");

    // Port 1 of loopback refuses.
    cutter.redirect((Ipv6Addr::LOCALHOST, 1).into());
    cutter.cut();
    while node.trunks.is_up_to("core-2") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for client in 0..24 {
        open(client);
        timeout(Duration::from_secs(5), one.accepted.recv()).await.expect("in time");
    }
}

/// Its client is refused once, and not again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_core_gives_its_clients_to_the_next() {
    let world = World::new();
    let mut one = Core::start(&world, [1; 16]).await;
    let mut two = Core::start(&world, [3; 16]).await;
    let node = Node::start(&world, [2; 16]);
    one.admit(&["node-1"]);
    two.admit(&["node-1"]);
    let second = CoreTarget { member_id: "core-2".into(), ..two.target(Carrier::Tcp) };
    node.trunks.set_cores(vec![one.target(Carrier::Tcp), second]);
    while !(node.trunks.is_up_to("core-1") && node.trunks.is_up_to("core-2")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut held = Vec::new();
    for _ in 0..world::SESSIONS_MAX {
        let port = node.trunks.open_at("core-1", request("/")).expect("the trunk is up");
        held.push((port, one.accepted.recv().await.expect("there is room")));
    }
    let (mut refused, mut taken) = (0, 0);
    let began = Instant::now();
    for client in 0..40 {
        let client_ip = format!("203.0.113.{client}");
        let port = node.trunks.open(RequestHead { client_ip, ..request("/") }).expect("up");
        let ended = async { port.deliver().await.expect_err("no answer is to come").cause };
        tokio::select! {
            cause = ended => {
                assert_eq!(cause, Cause::CoreFull);
                refused += 1;
            }
            incoming = two.accepted.recv() => {
                taken += 1;
                held.push((port, incoming.expect("it arrives")));
            }
        }
    }
    // A refusal counts for a second, so a slow machine sees some more.
    let most = 2 + began.elapsed().as_secs();
    let told = format!("{refused} refused of {most} at most, {taken} taken");
    assert!((1..=most).contains(&refused) && refused + taken == 40, "{told}");
}
