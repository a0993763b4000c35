//! How a WebSocket ends: who closes, who answers, and what if nobody does.

use super::*;

#[test]
fn a_client_s_close_waits_for_the_backend_s() {
    let mut lab = Lab::open();
    lab.client(|w, out| w.close(out, Some((4001, "bye"))));
    assert_eq!(lab.up(), [end(Cause::ClientClosed, Some(4001), "bye")]);
    lab.down(1, chunk(Some(0x81), None, b"last"));
    lab.down(2, end(Cause::BackendClosed, Some(4001), "bye"));
    assert_eq!(lab.out(), b"\x81\x04last\x88\x05\x0f\xa1bye");
    assert!(!lab.relay.is_over());
    lab.write(usize::MAX);
    assert!(lab.relay.is_over() && lab.relay.wants_shutdown());
    assert_eq!(lab.relay.cause(), Cause::ClientClosed);
}

#[test]
fn a_client_s_close_is_echoed_if_the_backend_says_nothing() {
    let mut lab = Lab::open();
    lab.client(|w, out| w.close(out, Some((1000, "x"))));
    lab.up();
    lab.wait(9 * SECOND);
    assert!(lab.out().is_empty());
    lab.wait(2 * SECOND);
    assert_eq!(lab.out(), b"\x88\x03\x03\xe8x");

    let mut lab = Lab::open();
    lab.client(|w, out| w.close(out, None));
    assert_eq!(lab.up(), [end(Cause::ClientClosed, None, "")]);
    lab.relay.handle_reset(Cause::TrunkLost, lab.now);
    assert_eq!(lab.out(), b"\x88\x00");
}

#[test]
fn a_backend_s_close_waits_for_the_client_s() {
    let mut lab = Lab::open();
    lab.down(1, end(Cause::BackendClosed, Some(4002), "go"));
    assert_eq!(lab.out(), b"\x88\x04\x0f\xa2go");
    lab.write(usize::MAX);
    lab.client(|w, out| w.chunk(out, start(0x81, 4), b"late"));
    assert_eq!(lab.up(), [chunk(Some(0x81), None, b"late")], "the client could not know yet");
    lab.client(|w, out| w.close(out, Some((4002, ""))));
    assert_eq!(lab.up(), [end(Cause::BackendClosed, Some(4002), "go")]);
    assert!(lab.relay.is_over());

    let mut lab = Lab::open();
    lab.down(1, end(Cause::BackendClosed, None, ""));
    assert_eq!(lab.out(), b"\x88\x00", "no code stays no code");
    lab.write(usize::MAX);
    lab.wait(11 * SECOND);
    assert!(lab.relay.is_over(), "a client that never answers is left");
    assert_eq!(lab.up(), [end(Cause::BackendClosed, None, "")]);
}

#[test]
fn every_other_end_has_its_close_code() {
    for (cause, code) in [
        (Cause::BackendLost, 1014),
        (Cause::BackendTimeout, 1014),
        (Cause::CoreDraining, 1012),
        (Cause::SessionLost, 1012),
        (Cause::TrunkLost, 1013),
        (Cause::Internal, 1011),
        (Cause::Policy, 1008),
    ] {
        let mut lab = Lab::open();
        lab.down(1, end(cause, None, ""));
        assert_eq!(lab.close_code(), Some(code), "{cause:?} as an end");
        let mut lab = Lab::open();
        lab.relay.handle_reset(cause, lab.now);
        assert_eq!(lab.close_code(), Some(code), "{cause:?} as a reset");
        assert_eq!(lab.relay.cause(), cause);
    }
    let mut lab = Lab::open();
    lab.down(1, end(Cause::BackendClosed, Some(1006), ""));
    assert_eq!(lab.close_code(), Some(1014), "a code that may not be sent becomes another");
}

#[test]
fn nothing_goes_up_after_a_reset() {
    let mut lab = Lab::open();
    lab.relay.handle_reset(Cause::TrunkLost, lab.now);
    lab.client(|w, out| w.chunk(out, start(0x81, 4), b"late"));
    lab.client(|w, out| w.close(out, None));
    assert!(lab.up().is_empty());
}

#[test]
fn a_frame_that_never_ends_gets_no_close_inside() {
    let mut lab = Lab::open();
    lab.down(1, chunk(Some(0x82), Some(10), b"12345"));
    lab.down(2, end(Cause::BackendLost, None, ""));
    assert!(lab.relay.is_over());
    assert!(lab.out().is_empty());
    assert_eq!(lab.up(), [end(Cause::BackendLost, None, "")]);
}

#[test]
fn a_bad_frame_is_told_and_read_off() {
    let mut lab = Lab::open();
    lab.raw(b"\x81\x05hello");
    let up = lab.up();
    let Body::End(told) = &up[0] else { panic!("{up:?}") };
    assert_eq!((told.cause(), told.close_code), (Cause::ClientProtocol, Some(1002)));
    lab.down(1, end(Cause::BackendClosed, Some(1002), ""));
    assert_eq!(lab.close_code(), Some(1002));
    lab.write(usize::MAX);
    assert!(lab.relay.wants_shutdown() && !lab.relay.is_over());
    lab.raw(&[0xff; 5000]);
    assert!(lab.up().is_empty());
    assert_eq!(lab.relay.input.capacity(), 0);
    assert_eq!(lab.relay.poll_consumed(), Some(Seq::from(1)), "thrown away is consumed");
    lab.wait(2 * SECOND);
    assert!(lab.relay.is_over());
}

#[test]
fn what_the_backend_answered_goes_out_before_a_refusal() {
    let mut lab = Lab::open();
    lab.client(|w, out| w.chunk(out, start(0x81, 5), b"hello"));
    lab.raw(b"\x81\x03bad");
    assert_eq!(lab.up().len(), 2, "the good frame, then the end");
    assert!(lab.out().is_empty());
    lab.down(1, chunk(Some(0x81), None, b"hello"));
    assert_eq!(lab.out(), b"\x81\x05hello");
    lab.down(2, end(Cause::BackendClosed, Some(1002), ""));
    assert!(lab.out().starts_with(b"\x81\x05hello\x88"));
}

#[test]
fn a_backend_that_says_nothing_does_not_hold_up_a_refusal() {
    let mut lab = Lab::open();
    lab.raw(b"\x81\x05hello");
    lab.up();
    assert!(lab.out().is_empty());
    lab.wait(2 * SECOND);
    assert_eq!(lab.close_code(), Some(1002));
    lab.down(1, chunk(Some(0x81), None, b"late"));
    assert_eq!(lab.close_code(), Some(1002), "nothing follows the close");
    assert!(!lab.out().ends_with(b"late"));
}

#[test]
fn a_refusal_waits_for_the_end_of_a_frame_down() {
    let mut lab = Lab::open();
    lab.down(1, chunk(Some(0x82), Some(4), b"12"));
    lab.raw(b"\x81\x05hello");
    lab.up();
    lab.wait(2 * SECOND);
    assert_eq!(lab.out(), b"\x82\x0412");
    lab.down(2, chunk(None, None, b"34"));
    assert!(lab.out().starts_with(b"\x82\x041234\x88"));
    lab.down(3, chunk(Some(0x81), None, b"more"));
    assert!(!lab.out().ends_with(b"more"));
}

#[test]
fn a_socket_that_ends_without_a_close_is_lost() {
    let mut lab = Lab::open();
    lab.down(1, chunk(Some(0x81), None, b"unread"));
    lab.relay.handle_eof();
    assert_eq!(lab.up(), [end(Cause::ClientLost, None, "")]);
    assert!(lab.relay.is_over());
    assert_eq!(lab.relay.poll_consumed(), Some(Seq::from(1)));
}

#[test]
fn a_client_that_shuts_its_side_after_its_close_still_gets_the_answer() {
    let mut lab = Lab::open();
    lab.client(|w, out| w.close(out, Some((1000, ""))));
    lab.up();
    lab.relay.handle_eof();
    assert!(!lab.relay.is_over() && !lab.relay.wants_input());
    lab.down(1, end(Cause::BackendClosed, Some(1000), ""));
    assert_eq!(lab.close_code(), Some(1000));
}

#[test]
fn silence_is_pinged_then_closed() {
    let mut lab = Lab::open();
    lab.wait(19 * SECOND);
    assert!(lab.out().is_empty());
    lab.wait(SECOND);
    assert_eq!(lab.out(), b"\x89\x00");
    lab.write(usize::MAX);
    lab.client(|w, out| w.pong(out, b""));
    assert!(lab.up().is_empty());
    lab.wait(19 * SECOND);
    assert!(lab.out().is_empty());

    for _ in 0..41 {
        lab.wait(SECOND);
        if lab.relay.out.starts_with(b"\x89") {
            lab.write(usize::MAX);
        }
    }
    assert_eq!(lab.close_code(), Some(1001));
    assert_eq!(lab.up(), [end(Cause::ClientIdle, None, "")]);
}

#[test]
fn an_invitation_is_repeated_for_as_long_as_the_client_stays() {
    let mut lab = Lab::open();
    lab.relay.handle_invitation(lab.now + 3 * SECOND);
    lab.relay.handle_drain(lab.now + 50 * SECOND);
    let mut invited = Vec::new();
    for second in 1..=55 {
        lab.relay.handle_read(lab.now);
        lab.wait(SECOND);
        assert!(lab.relay.poll_timeout().is_none_or(|at| at > lab.now), "{second}");
        if lab.relay.poll_invite() {
            invited.push(second);
        }
    }
    assert_eq!(invited, [3, 33], "and not any more once it is closed");
    assert_eq!(lab.close_code(), Some(1001));
}

#[test]
fn a_drain_closes_politely() {
    let mut lab = Lab::open();
    lab.relay.handle_drain(lab.now + 3 * SECOND);
    lab.wait(2 * SECOND);
    assert!(lab.out().is_empty());
    lab.wait(SECOND);
    assert_eq!(lab.close_code(), Some(1001));
    lab.write(usize::MAX);
    lab.client(|w, out| w.close(out, Some((1001, ""))));
    let up = lab.up();
    let Body::End(told) = &up[0] else { panic!("{up:?}") };
    assert_eq!((told.cause(), told.close_code), (Cause::NodeDraining, Some(1001)));
    assert!(lab.relay.is_over());
}
