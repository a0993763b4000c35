//! Open WebSockets: frames, closes, and clients that misbehave.

use antipode_proto::trunk::v1::Cause;
use antipode_trunk::{Body, SessionPort};
use antipode_websocket::Event;
use bytes::Bytes;
use tokio::io::AsyncWriteExt;

use super::bench::{Client, UPGRADE, head, next, within};
use super::*;

#[tokio::test]
async fn frames_cross_both_ways() {
    let mut bench = Bench::start().await;
    let (mut client, core) = bench.open().await;
    client.frame(0x81, b"up").await;
    assert_eq!(next(&core).await, whole(0x81, b"up"));
    core.send(whole(0x82, b"down")).unwrap();
    let Some(Event::Chunk { start, payload, last_of_frame: true }) = client.event().await else {
        panic!("no frame")
    };
    assert_eq!((start.unwrap().first_byte, &payload[..]), (0x82, &b"down"[..]));
}

#[tokio::test]
async fn bytes_behind_the_head_are_kept() {
    let mut bench = Bench::start().await;
    let mut client = bench.client().await;
    client.send([UPGRADE.as_bytes(), b"\x81\x82\0\0\0\0hi"].concat()).await;
    let asked = bench.asked().await;
    asked.port.send(head(101, &[])).unwrap();
    assert_eq!(next(&asked.port).await, whole(0x81, b"hi"));
}

#[tokio::test]
async fn closes_carry_code_and_reason_both_ways() {
    let mut bench = Bench::start().await;
    let (mut client, core) = bench.open().await;
    client.say(|w, out| w.close(out, Some((4000, "mine"))).unwrap()).await;
    assert_eq!(next(&core).await, end(Cause::ClientClosed, Some(4000), "mine"));
    core.send(end(Cause::BackendClosed, Some(4001), "yours")).unwrap();
    assert_eq!(client.event().await, Some(Event::Close(Some((4001, "yours".to_owned())))));
    assert_eq!(client.event().await, None);
    bench.closed("websocket", "client_closed").await;

    let (mut client, core) = bench.open().await;
    core.send(end(Cause::BackendClosed, Some(4002), "go")).unwrap();
    assert_eq!(client.event().await, Some(Event::Close(Some((4002, "go".to_owned())))));
    client.say(|w, out| w.close(out, Some((4002, ""))).unwrap()).await;
    assert_eq!(next(&core).await, end(Cause::BackendClosed, Some(4002), "go"));
    assert_eq!(client.event().await, None);
    within(core.finished()).await;
    bench.closed("websocket", "backend_closed").await;
}

/// Frames as they stand on the wire; the mask is zero.
#[tokio::test]
async fn bad_frames_get_their_close_code() {
    let long_ping = [&b"\x89\xfe\x00\x7e\0\0\0\0"[..], &[0; 126]].concat();
    let rows: [(&str, &[u8], u16); 14] = [
        ("not masked", b"\x81\x02hi", 1002),
        ("RSV1 that nobody agreed on", b"\xc1\x80\0\0\0\0", 1002),
        ("RSV2", b"\xa1\x80\0\0\0\0", 1002),
        ("an unknown opcode", b"\x83\x80\0\0\0\0", 1002),
        ("an unknown control opcode", b"\x8b\x80\0\0\0\0", 1002),
        ("a continuation of nothing", b"\x80\x80\0\0\0\0", 1002),
        ("a message inside a message", b"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 1002),
        ("a ping in pieces", b"\x09\x80\0\0\0\0", 1002),
        ("a long ping", &long_ping, 1002),
        ("a length not in its shortest form", b"\x81\xfe\x00\x01\0\0\0\0x", 1002),
        ("a close of one byte", b"\x88\x81\0\0\0\0\x03", 1002),
        ("a close code that may not be sent", b"\x88\x82\0\0\0\0\x03\xed", 1002),
        ("text that is not UTF-8", b"\x81\x82\0\0\0\0\xc3\x28", 1007),
        ("a frame too large", b"\x82\xff\x00\x00\x00\xff\x00\x00\x00\x00\0\0\0\0", 1009),
    ];
    let mut bench = Bench::start().await;
    let mut told_off = Vec::new();
    for (what, frame, code) in rows {
        let (mut client, core) = bench.open().await;
        client.send(frame).await;
        let told = loop {
            match next(&core).await {
                Body::End(told) => break told,
                Body::Chunk(_) => {}
                Body::Request(_) | Body::Response(_) => panic!("a head"),
            }
        };
        assert_eq!(
            (told.cause(), told.close_code),
            (Cause::ClientProtocol, Some(code.into())),
            "{what}"
        );
        told_off.push((what, code, client, core));
    }
    for (what, code, mut client, _core) in told_off {
        match client.event().await {
            Some(Event::Close(Some((told, _)))) => assert_eq!(told, code, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(client.event().await, None, "{what}: the socket ends");
    }
}

#[tokio::test]
async fn a_client_that_goes_without_a_word_is_lost() {
    let mut bench = Bench::start().await;
    let (mut client, core) = bench.open().await;
    client.socket.shutdown().await.unwrap();
    assert_eq!(next(&core).await, end(Cause::ClientLost, None, ""));
    assert_eq!(client.event().await, None);
    core.send(end(Cause::BackendClosed, Some(1006), "")).unwrap();
    within(core.finished()).await;

    let (client, core) = bench.open().await;
    client.socket.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(next(&core).await, end(Cause::ClientLost, None, ""));
}

#[tokio::test]
async fn a_message_of_64_mib_streams_both_ways() {
    const LEN: usize = 64 << 20;
    let mut bench = Bench::start().await;
    let (mut client, core) = bench.open().await;
    let echo = async {
        let (mut up, mut down) = (0, 0);
        while up < LEN {
            let delivery = within(core.deliver()).await.unwrap();
            if let Body::Chunk(chunk) = &delivery.body {
                assert!(chunk.payload.len() <= 16 * 1024);
                assert_eq!(chunk.frame_len, (up == 0).then_some(64 << 20));
                up += chunk.payload.len();
            }
            within(core.ready()).await.unwrap();
            core.send(delivery.body).unwrap();
            core.consumed(delivery.seq);
            down = up;
        }
        down
    };
    let (read, write) = client.socket.into_split();
    let write = async move {
        let mut write = write;
        let head = [&[0x82, 0xff][..], &(64u64 << 20).to_be_bytes(), &[0; 4]].concat();
        write.write_all(&head).await.unwrap();
        let block: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        for _ in 0..64 {
            write.write_all(&block).await.unwrap();
        }
        write
    };
    let read = async move {
        use tokio::io::AsyncReadExt;
        let (mut read, mut seen) = (read, 0usize);
        let mut block = vec![0; 1 << 16];
        while seen < LEN + 10 {
            let n = within(read.read(&mut block)).await.unwrap();
            for (at, byte) in block[..n].iter().enumerate() {
                let Some(offset) = (seen + at).checked_sub(10) else { continue };
                assert_eq!(usize::from(*byte), offset % 256, "at {offset}");
            }
            seen += n;
        }
        (read, seen)
    };
    client.socket = {
        let (down, write, (read, seen)) = tokio::join!(echo, write, read);
        assert_eq!((down, seen), (LEN, LEN + 10));
        read.reunite(write).unwrap()
    };
    core.send(end(Cause::BackendClosed, Some(1000), "")).unwrap();
    let Some(Event::Close(_)) = client.event().await else { panic!("no close") };
}

#[tokio::test]
async fn a_burst_of_pings_from_a_client_that_does_not_read_is_bounded() {
    let mut bench = Bench::start().await;
    let (mut client, core) = bench.open().await;
    let ping = [&[0x89, 0x80 | 125][..], &[0; 4 + 125]].concat();
    for _ in 0..40 {
        client.send(ping.repeat(1000)).await;
    }
    client.frame(0x81, b"still here").await;
    assert_eq!(next(&core).await, whole(0x81, b"still here"));
    core.send(whole(0x81, b"you too")).unwrap();
    loop {
        match client.event().await.unwrap() {
            Event::Pong(payload) => assert_eq!(payload.len(), 125),
            Event::Chunk { payload, .. } => break assert_eq!(payload, Bytes::from("you too")),
            other @ (Event::Ping(_) | Event::Close(_)) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_slow_and_stops_nobody_else() {
    let mut bench = Bench::with("session = { client_stall_timeout = \"500ms\" }").await;
    let (mut slow, core) = bench.open().await;
    let (mut quick, other) = bench.open().await;
    let flood = async {
        let block = vec![0; 16 * 1024];
        let mut sent = 0usize;
        loop {
            tokio::select! {
                ready = core.ready() => {
                    if ready.is_err() { break sent; }
                    core.send(whole(0x82, &block)).unwrap();
                    sent += block.len();
                }
                delivery = core.deliver() => match delivery.unwrap().body {
                    Body::End(told) => {
                        assert_eq!(told.cause(), Cause::ClientSlow);
                        assert_eq!(told.close_code, Some(4409));
                        break sent;
                    }
                    Body::Request(_) | Body::Response(_) | Body::Chunk(_) => panic!("no end"),
                },
            }
        }
    };
    let talk = async {
        for _ in 0..50 {
            echo_once(&mut quick, &other).await;
        }
    };
    let (sent, ()) = within(async { tokio::join!(flood, talk) }).await;
    assert!(sent < 24 << 20, "{sent} bytes were taken for a client that reads none");
    core.send(end(Cause::ClientSlow, Some(4409), "")).unwrap();
    let code = loop {
        match slow.event().await.expect("a close, for one that reads on at last") {
            Event::Close(close) => break close.unwrap().0,
            Event::Chunk { .. } | Event::Ping(_) | Event::Pong(_) => {}
        }
    };
    assert_eq!(code, 4409, "a code of its own");
    bench.closed("websocket", "client_slow").await;
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_then_left() {
    let quick = "session = { ping_interval = \"100ms\", ping_timeout = \"400ms\" }";
    let mut bench = Bench::with(quick).await;
    let (mut client, core) = bench.open().await;
    assert_eq!(client.event().await, Some(Event::Ping(Bytes::new())));
    client.say(|w, out| w.pong(out, b"").unwrap()).await;
    while let Some(event) = client.event().await {
        match event {
            Event::Ping(_) => {}
            Event::Close(close) => assert_eq!(close.unwrap().0, 1001),
            other @ (Event::Pong(_) | Event::Chunk { .. }) => panic!("{other:?}"),
        }
    }
    assert_eq!(next(&core).await, end(Cause::ClientIdle, None, ""));
    core.send(end(Cause::ClientIdle, None, "")).unwrap();
    bench.closed("websocket", "client_idle").await;
}

#[tokio::test]
async fn a_trunk_that_gives_up_is_told_to_the_client() {
    for (cause, code) in
        [(Cause::TrunkLost, 1013), (Cause::SessionLost, 1012), (Cause::Policy, 1008)]
    {
        let mut bench = Bench::start().await;
        let (mut client, core) = bench.open().await;
        core.reset(cause, "test");
        let Some(Event::Close(Some((told, reason)))) = client.event().await else {
            panic!("{cause:?}")
        };
        assert_eq!(told, code);
        assert!(!reason.is_empty());
    }
}

async fn echo_once(client: &mut Client, core: &SessionPort) {
    client.frame(0x81, b"hello").await;
    let body = next(core).await;
    core.send(body).unwrap();
    let Some(Event::Chunk { payload, .. }) = client.event().await else { panic!("no echo") };
    assert_eq!(payload, Bytes::from("hello"));
}
