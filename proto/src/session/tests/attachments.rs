//! The rules of resumable clients: the first word, the newest attachment, the window.

use super::*;

#[test]
fn a_client_answers_its_welcome_at_once() {
    let mut client = attached(Side::Client, start());
    assert_eq!(client.epoch(), 1);
    let word = Kind::Ack(Ack { ack: 0, credit: INITIAL_CREDIT_BYTES });
    assert_eq!(client.poll_transmit(), Some(word));
    assert_eq!(client.poll_transmit(), None);
}

#[test]
fn a_server_whose_client_never_spoke_ends_with_its_attachment() {
    let now = start();
    let mut server = attached(Side::Server, now);
    server.send(chunk(1));
    let _ = server.poll_transmit();
    server.handle_link_down(now);
    assert_eq!(cause(&server), Some(Cause::ClientLost));
    assert!(server.is_finished(), "there is nobody to tell");

    let mut server = attached(Side::Server, now);
    server.handle_frame(Kind::Ack(Ack { ack: 0, credit: 0 })).expect("the first word");
    server.handle_link_down(now);
    assert_eq!(cause(&server), None, "a client that has spoken may come back");
}

#[test]
fn a_server_waits_to_be_asked() {
    let now = start();
    let mut server = confirmed(now);
    server.send(chunk(1));
    let _ = server.poll_transmit();
    server.handle_link_down(now);
    server.handle_link_up();
    assert!(!server.wants_transmit(), "another WebSocket alone says nothing");
    server.handle_frame(attach(2, 0)).expect("the question");
    assert!(matches!(server.poll_transmit(), Some(Kind::Attached(Attached { epoch: 2, .. }))));
    assert!(matches!(server.poll_transmit(), Some(Kind::Segment(Segment { seq: 1, .. }))));
}

#[test]
fn the_newest_attachment_wins_while_the_older_lives() {
    let mut server = confirmed(start());
    let newer =
        |server: &Session, epoch| server.attach_is_newer(&Attach { epoch, ..Attach::default() });
    assert!(!newer(&server, 1) && newer(&server, 2));
    server.handle_frame(attach(5, 0)).expect("no break was noticed, and none is needed");
    assert_eq!(server.epoch(), 5);
    assert!(!newer(&server, 5) && !newer(&server, 4));
    server.handle_frame(attach(4, 0)).expect("ignored");
    assert!(matches!(server.poll_transmit(), Some(Kind::Attached(Attached { epoch: 5, .. }))));
    assert_eq!(server.poll_transmit(), None, "one answer");
}

/// On a trunk a core that has spoken had the request. A server needs none to speak.
#[test]
fn a_server_that_heard_nothing_and_spoke_is_no_stranger() {
    let now = start();
    let mut client = attached(Side::Client, now);
    let _ = client.poll_transmit();
    let segment = Segment { seq: 1, ack: 0, credit: 0, body: Some(chunk(5)) };
    client.handle_frame(Kind::Segment(segment)).expect("in place");
    client.send(chunk(1));
    let _ = client.poll_transmit();
    let epoch = ask(&mut client, now);
    let attached = Attached { epoch, received: 0, credit: INITIAL_CREDIT_BYTES };
    client.handle_frame(Kind::Attached(attached)).expect("it lacks the first chunk");
    assert!(matches!(client.poll_transmit(), Some(Kind::Segment(Segment { seq: 1, .. }))));
}

/// Otherwise a client that tries and tries would keep a session alive that its core gave up.
#[test]
fn attempts_do_not_begin_the_window_again() {
    let now = start();
    let mut client = attached(Side::Client, now);
    client.handle_link_down(now);
    let due = client.poll_timeout().expect("it expires");
    for minute in 1..3 {
        client.handle_link_up();
        let _ = client.poll_transmit();
        client.handle_link_down(now + minute * Duration::from_secs(30));
    }
    assert_eq!(client.poll_timeout(), Some(due));
    client.handle_timeout(due);
    assert_eq!(cause(&client), Some(Cause::SessionLost));

    let mut client = attached(Side::Client, now);
    client.handle_link_down(now);
    let epoch = ask(&mut client, now);
    client.handle_frame(Kind::Attached(Attached { epoch, ..Attached::default() })).expect("back");
    let later = now + Duration::from_secs(100);
    client.handle_link_down(later);
    assert_eq!(client.poll_timeout(), Some(later + Config::default().resume_window));
}

#[test]
fn every_side_says_in_its_own_words_that_nobody_came_back() {
    let check = |mut session: Session, expected| {
        let now = start();
        session.handle_link_down(now);
        session.handle_timeout(session.poll_timeout().expect("it expires"));
        assert_eq!(cause(&session), Some(expected));
        assert!(session.is_finished() && session.poll_timeout().is_none());
    };
    let now = start();
    check(attached(Side::Node, now), Cause::TrunkLost);
    check(with_request(now), Cause::TrunkLost);
    check(attached(Side::Client, now), Cause::SessionLost);
    check(confirmed(now), Cause::ClientLost);
}

#[test]
fn a_client_says_which_session_it_resets() {
    let now = start();
    let mut client = attached(Side::Client, now);
    client.handle_link_down(now);
    client.reset(Cause::ClientClosed, "gone");
    client.handle_link_up();
    assert!(matches!(client.poll_transmit(), Some(Kind::Attach(Attach { epoch: 2, .. }))));
    assert!(!client.is_finished());
    assert!(matches!(client.poll_transmit(), Some(Kind::Reset(_))));
    assert!(client.is_finished());
}

#[test]
fn what_is_held_is_what_is_kept_and_what_waits() {
    let now = start();
    let mut server = confirmed(now);
    assert_eq!(server.held_bytes(), 0);
    server.send(chunk(100));
    let segment = Segment { seq: 1, ack: 0, credit: 0, body: Some(chunk(10)) };
    server.handle_frame(Kind::Segment(segment)).expect("in place");
    let kept = 100 + SEGMENT_OVERHEAD_BYTES;
    assert_eq!(server.held_bytes(), kept + 10 + SEGMENT_OVERHEAD_BYTES);
    let (seq, _) = server.poll_deliver().expect("the chunk");
    assert_eq!(server.held_bytes(), kept + 10 + SEGMENT_OVERHEAD_BYTES, "delivered is held yet");
    server.handle_consumed(seq, now);
    assert_eq!(server.held_bytes(), kept);
    server.reset(Cause::Policy, "");
    assert_eq!(server.held_bytes(), 0);
}

#[test]
fn under_pressure_the_window_shrinks_and_never_goes_back() {
    let now = start();
    let mut server = confirmed(now);
    let mut seq = 0;
    let mut take = |server: &mut Session, cost: usize| {
        for _ in 0..cost / 16_384 {
            seq += 1;
            let body = chunk(16_384 - 64);
            let segment = Segment { seq, ack: 0, credit: 0, body: Some(body) };
            server.handle_frame(Kind::Segment(segment)).expect("within the credit");
            let _ = server.poll_deliver();
            server.handle_consumed(seq.into(), now);
        }
        let acks: Vec<u64> = std::iter::from_fn(|| server.poll_transmit())
            .filter_map(|kind| if let Kind::Ack(ack) = kind { Some(ack.credit) } else { None })
            .collect();
        acks.last().copied()
    };
    server.set_pressure(true);
    let granted = INITIAL_CREDIT_BYTES;
    assert_eq!(take(&mut server, 196_608), None, "nothing new to tell");
    assert_eq!(take(&mut server, 49_152), Some(granted + 16_384));
    assert_eq!(take(&mut server, 16_384), Some(granted + PRESSURE_WINDOW_BYTES));
    server.set_pressure(false);
    let Some(Kind::Ack(Ack { credit, .. })) = server.poll_transmit() else {
        panic!("the peer may be waiting for it")
    };
    assert_eq!(credit, 262_144 + INITIAL_CREDIT_BYTES, "the window did not grow meanwhile");
}

fn confirmed(now: Instant) -> Session {
    let mut server = attached(Side::Server, now);
    server.handle_frame(Kind::Ack(Ack { ack: 0, credit: 0 })).expect("the first word");
    server
}

fn attach(epoch: u64, received: u64) -> Kind {
    Kind::Attach(Attach { epoch, received, ..Attach::default() })
}

/// The attachment breaks, the client asks on another one.
fn ask(client: &mut Session, now: Instant) -> u64 {
    client.handle_link_down(now);
    client.handle_link_up();
    let Some(Kind::Attach(Attach { epoch, .. })) = client.poll_transmit() else {
        panic!("the client asks first")
    };
    epoch
}

fn cause(session: &Session) -> Option<Cause> {
    session.ended().map(|ended| ended.cause)
}
