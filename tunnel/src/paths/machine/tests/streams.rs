//! Streams that die, hang, or are left too soon.

use std::time::Duration;

use super::lab::{Lab, Path, target, udp};
use crate::paths::{Candidate, Order, StreamEvent};
use crate::way::{StreamId, Way};

/// What a return that fails costs grows shorter in share each time.
#[test]
fn udp_that_dies_after_each_return_is_trusted_less_and_less() {
    let mut lab = Lab::new(1);
    lab.path(udp(1), Path::delay(20)).stream(Path::delay(20));
    lab.begin();
    lab.run(Duration::from_secs(5));
    let mut returns = 0;
    for _ in 0..1200 {
        // A wall that closes whenever UDP carries.
        let is_udp = lab.used() == Some(udp(1)) && lab.paths.is_up();
        if is_udp {
            returns += 1;
            lab.set(udp(1), Path::dead());
            lab.run(Duration::from_secs(4));
        }
        lab.set(udp(1), Path::delay(20));
        lab.run(Duration::from_secs(1));
    }
    assert!((3..25).contains(&returns), "{returns} returns in 20 minutes");
}

#[test]
fn a_stream_that_dies_is_closed_and_opened_again() {
    let mut lab = Lab::new(1);
    lab.path(udp(1), Path::dead()).stream(Path::delay(50));
    lab.begin();
    lab.run(Duration::from_secs(5));
    let Some(Way::Stream(first)) = lab.paths.using() else { panic!("a stream") };
    lab.set(Candidate::Stream(target()), Path::dead());
    lab.run(Duration::from_secs(6));
    assert!(lab.did(|order| *order == Order::CloseStream(first)));
    assert!(!lab.paths.is_up());
    lab.set(Candidate::Stream(target()), Path::delay(50));
    lab.run(Duration::from_secs(12));
    assert!(lab.paths.is_up() && lab.paths.using() != Some(Way::Stream(first)));

    let now = lab.now();
    lab.paths.handle_stream(&target(), StreamEvent::Gone, now);
    assert!(!lab.paths.is_up(), "its end is told, and not waited for");
    lab.run(Duration::from_secs(12));
    assert!(lab.paths.is_up());
}

#[test]
fn a_stream_that_nothing_is_heard_of_is_ordered_again_and_a_late_one_closed() {
    let mut lab = Lab::new(1);
    lab.streams_hang = true;
    lab.path(udp(1), Path::dead()).stream(Path::delay(50));
    lab.begin();
    lab.run(Duration::from_secs(10));
    assert_eq!(lab.count(|order| matches!(order, Order::OpenStream(_))), 2);
    lab.set(udp(1), Path::delay(50));
    lab.run(Duration::from_secs(20));
    let (now, late) = (lab.now(), StreamId(99));
    lab.paths.handle_stream(&target(), StreamEvent::Opened(late), now);
    lab.obey();
    assert!(lab.did(|order| *order == Order::CloseStream(late)));
}

/// What failed before it carried says nothing of the next attempt.
#[test]
fn a_stream_that_had_carried_is_opened_again_soon() {
    let mut lab = Lab::new(1);
    lab.path(udp(1), Path::dead()).stream(Path::dead());
    lab.begin();
    lab.run(Duration::from_secs(60));
    lab.set(Candidate::Stream(target()), Path::delay(50));
    lab.run_until(|lab| lab.paths.is_up());
    lab.run(Duration::from_secs(10));
    let now = lab.now();
    lab.paths.handle_stream(&target(), StreamEvent::Gone, now);
    lab.run(Duration::from_secs(3));
    assert!(lab.paths.is_up());
}
