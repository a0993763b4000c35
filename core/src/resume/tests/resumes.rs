//! A session goes on over another WebSocket.

use super::client::open_early;
use super::*;

#[tokio::test]
async fn both_directions_go_on_where_they_stood() {
    let (core, client, wire, mut backend) = begun("").await;
    client.send(b"u1").await;
    backend.send(0x82, b"d1").await;
    assert_eq!(backend.next().await.1, b"u1");
    assert_eq!(&client.chunk().await.payload[..], b"d1");

    wire.cut();
    until("the core notices", || core.metrics.resume.detached.get() == 1).await;
    // Both ends speak on, and neither is heard.
    client.send(b"u2").await;
    client.send(b"u3").await;
    backend.send(0x82, b"d2").await;
    backend.send(0x81, b"d3").await;
    assert!(backend.sees_nothing().await, "the backend sees nothing of it");

    let _wire = client.attach(&core).await;
    for expected in [b"u2", b"u3"] {
        assert_eq!(backend.next().await.1, expected);
    }
    for expected in [b"d2", b"d3"] {
        assert_eq!(&client.chunk().await.payload[..], expected);
    }
    assert_eq!(core.metrics.resume.detached.get(), 0);
    client.send(b"u4").await;
    assert_eq!(backend.next().await.1, b"u4");
    assert!(backend.sees_nothing().await, "nothing twice");
}

/// What a dead node had taken is lost with it, both ways.
#[tokio::test]
async fn what_was_under_way_is_sent_again() {
    let (core, client, wire, mut backend) = begun("").await;
    backend.send(0x82, b"d1").await;
    assert_eq!(&client.chunk().await.payload[..], b"d1");
    wire.cut();
    client.detach();
    // The next socket takes everything from the core, and nothing reaches the client.
    until("the core notices", || core.metrics.resume.detached.get() == 1).await;
    let limbo = open_early(&core).await;
    limbo.send(attach_frame(&client, 2, 1)).unwrap();
    until("attached", || core.metrics.resume.detached.get() == 0).await;
    backend.send(0x82, b"d2").await;
    backend.send(0x82, b"d3").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(limbo);
    until("the core notices", || core.metrics.resume.detached.get() == 1).await;

    // The client's own count of attachments catches up with the core's.
    let refused = client.attach(&core).await;
    let mut refused = refused;
    assert_eq!(super::refused(&refused.told().await), Cause::Replaced);
    client.detach();
    let _wire = client.attach(&core).await;
    for expected in [b"d2", b"d3"] {
        assert_eq!(&client.chunk().await.payload[..], expected);
    }
}

#[tokio::test]
async fn a_node_that_dies_in_the_middle_of_a_large_frame_costs_nothing() {
    let (core, client, wire, mut backend) = begun("").await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|i| i.to_le_bytes()[i as usize % 3]).collect();
    let sent = large.clone();
    let sending = async {
        backend.send(0x82, &sent).await;
        backend
    };
    let receiving = async {
        let mut received = client.read(500_000).await;
        wire.cut();
        client.detach();
        let second = client.attach(&core).await;
        received.extend(client.read(1_000_000).await);
        // The socket looks alive to the core, and a newer one comes.
        let _third = client.attach(&core).await;
        received.extend(client.read(sent.len() - received.len()).await);
        drop(second);
        assert!(received == large, "not what was sent");
        _third
    };
    let (mut backend, _wire) = tokio::join!(sending, receiving);
    client.send(b"and up").await;
    assert_eq!(backend.next().await.1, b"and up");
}

#[tokio::test]
async fn large_frames_go_up_in_pieces_across_sockets() {
    let (core, client, wire, mut backend) = begun("").await;
    let large = vec![9; 60_000];
    let (mut wire, mut sent) = (Some(wire), 0);
    for round in 0..20_u32 {
        client.send(&large).await;
        sent += 1;
        if round % 4 == 1 {
            wire.take().unwrap().cut();
            client.detach();
            wire = Some(client.attach(&core).await);
        }
    }
    for _ in 0..sent {
        let (first_byte, payload) = backend.next().await;
        assert_eq!((first_byte, payload.len()), (0x82, large.len()));
    }
    assert!(backend.sees_nothing().await, "nothing twice");
}

#[tokio::test]
async fn a_newer_attachment_wins_while_the_older_looks_alive() {
    let (core, client, mut older, mut backend) = begun("").await;
    client.send(b"u1").await;
    assert_eq!(backend.next().await.1, b"u1");

    let _newer = client.attach(&core).await;
    let told = older.told().await;
    assert!(matches!(told, Told::Frame(Frame::Moved(2))), "{told:?}");
    assert_eq!(older.closed().await, (Cause::Replaced, Some(4411)));
    assert_eq!(core.metrics.resume.moved.get(), 1);
    assert_eq!(core.metrics.resume.detached.get(), 0);
    client.send(b"u2").await;
    assert_eq!(backend.next().await.1, b"u2");
    backend.send(0x82, b"d1").await;
    assert_eq!(&client.chunk().await.payload[..], b"d1");
}

/// The older socket's end, whenever it comes, does not touch the session.
#[tokio::test]
async fn the_end_of_the_older_attachment_is_not_the_sessions() {
    let (core, client, older, mut backend) = begun("").await;
    let _newer = client.attach(&core).await;
    client.send(b"u1").await;
    assert_eq!(backend.next().await.1, b"u1");
    older.cut();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(core.metrics.resume.detached.get(), 0);
    backend.send(0x82, b"d1").await;
    assert_eq!(&client.chunk().await.payload[..], b"d1");
}

/// The newer attachment gets every frame, even those for which the older one was woken.
#[tokio::test]
async fn no_wake_up_is_lost_between_attachments() {
    let (core, client, wire, mut backend) = begun("").await;
    let mut wires = vec![wire];
    for round in 0..50_u8 {
        let payload = [round];
        let (wire, ()) = tokio::join!(client.attach(&core), backend.send(0x82, &payload));
        assert_eq!(client.chunk().await.payload[..], [round]);
        wires.push(wire);
    }
}

#[tokio::test]
async fn pings_are_answered() {
    let (core, client, mut wire, _backend) = begun("").await;
    wire.say(Frame::Ping(7));
    let told = wire.told().await;
    assert!(matches!(told, Told::Frame(Frame::Pong(7))), "{told:?}");
    // On a socket that was attached later, too.
    let mut wire = client.attach(&core).await;
    wire.say(Frame::Ping(8));
    let told = wire.told().await;
    assert!(matches!(told, Told::Frame(Frame::Pong(8))), "{told:?}");
}

#[tokio::test]
async fn a_nodes_invitation_reaches_the_client_with_its_token() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(upgrade(&[("sec-websocket-protocol", "antipode.resume.v1")])).await;
    let mut backend = accept(&listener).await;
    answer_upgrade(&mut backend, "", b"").await;
    let (client, socket) = Client::greeted(node).await;
    socket.port().invite(antipode_proto::trunk::v1::GoAway {
        url: "wss://sg2.example".to_owned(),
        after_ms: 3_000,
        grace_ms: 60_000,
        ..Default::default()
    });
    let mut wire = client.carry(socket);
    let told = wire.told().await;
    let Told::Frame(Frame::GoAway(go_away)) = told else { panic!("{told:?}") };
    assert_eq!(
        (&*go_away.url, go_away.after_ms, go_away.grace_ms),
        ("wss://sg2.example", 3_000, 60_000)
    );
    assert_eq!(go_away.token, client.welcome.token);
}

/// A client that loses nothing but its socket, again and again, while both sides speak.
#[tokio::test]
async fn many_breaks_and_nothing_is_lost() {
    let (core, client, wire, mut backend) = begun("").await;
    let mut wire = Some(wire);
    for round in 0..60_u8 {
        client.send(&[round, 1]).await;
        backend.send(0x82, &[round, 2]).await;
        if round % 3 == 0 {
            wire.take().unwrap().cut();
            client.detach();
        }
        client.send(&[round, 3]).await;
        backend.send(0x82, &[round, 4]).await;
        if wire.is_none() {
            wire = Some(client.attach(&core).await);
        }
    }
    for round in 0..60_u8 {
        assert_eq!(backend.next().await.1, [round, 1]);
        assert_eq!(backend.next().await.1, [round, 3]);
        assert_eq!(client.chunk().await.payload[..], [round, 2]);
        assert_eq!(client.chunk().await.payload[..], [round, 4]);
    }
}

fn attach_frame(client: &Client, epoch: u64, received: u64) -> Frame {
    Frame::Attach(antipode_proto::trunk::v1::Attach {
        epoch,
        received,
        credit: 262_144,
        token: client.welcome.token.clone(),
    })
}
