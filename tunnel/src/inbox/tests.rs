//! The queue's promises: order, runs, an end.

use std::task::Waker;

use proptest::prelude::*;

use super::*;

fn from(port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0)
}

/// Reads all there is into `count` buffers of `size`, as datagrams with their source ports.
fn take(inbox: &Inbox, count: usize, size: usize) -> Vec<(u16, Vec<u8>)> {
    let mut store = vec![vec![0; size]; count];
    let mut bufs: Vec<IoSliceMut<'_>> = store.iter_mut().map(|b| IoSliceMut::new(b)).collect();
    let mut metas = vec![RecvMeta::default(); count];
    let mut cx = Context::from_waker(Waker::noop());
    let mut found = Vec::new();
    while let Poll::Ready(filled) =
        inbox.poll_take(&mut cx, Ipv6Addr::LOCALHOST, &mut bufs, &mut metas)
    {
        for (meta, buf) in metas.iter().zip(&bufs).take(filled.unwrap()) {
            let datagrams = buf[..meta.len].chunks(meta.stride);
            found.extend(datagrams.map(|datagram| (meta.addr.port(), datagram.to_vec())));
        }
    }
    found
}

#[test]
fn equal_payloads_share_a_buffer_and_keep_their_bounds() {
    let inbox = Inbox::default();
    let pushed = [(1, 100), (1, 100), (1, 40), (1, 100), (2, 100), (1, 300), (1, 100)];
    for (port, len) in pushed {
        inbox.push(from(port), &vec![7; len]).unwrap();
    }
    assert_eq!(inbox.queue.lock().runs.len(), 4);
    let found: Vec<_> =
        take(&inbox, 32, 5000).into_iter().map(|(port, bytes)| (port, bytes.len())).collect();
    assert_eq!(found, pushed);
    assert_eq!(inbox.queue.lock().bytes, 0, "all room is back");
}

#[test]
fn a_full_inbox_refuses_and_has_room_again_when_read() {
    let inbox = Inbox::default();
    let mut pushed = 0;
    while inbox.push(from(1), &[0; 1200]).is_ok() {
        pushed += 1;
    }
    assert!((3_400..3_500).contains(&pushed), "{pushed} of 1,200 bytes in 4 MiB");
    assert_eq!(take(&inbox, 32, 20_000).len(), pushed);
    assert_eq!(inbox.push(from(1), &[0; 1200]), Ok(()));
}

#[test]
fn small_packets_cost_no_more_memory_than_large_ones() {
    let inbox = Inbox::default();
    let mut pushed = 0;
    while inbox.push(from(pushed % 2), &[0]).is_ok() {
        pushed += 1;
    }
    assert!(usize::from(pushed) < INBOX_BYTES_MAX / RUN_OVERHEAD_BYTES + 2, "{pushed}");
}

#[test]
fn a_closed_inbox_ends_its_reader_and_takes_nothing() {
    let inbox = Inbox::default();
    inbox.push(from(1), b"x").unwrap();
    inbox.close();
    assert_eq!(inbox.push(from(1), b"x"), Err(Full));
    let mut cx = Context::from_waker(Waker::noop());
    let outcome = inbox.poll_take(&mut cx, Ipv6Addr::LOCALHOST, &mut [], &mut []);
    assert!(matches!(outcome, Poll::Ready(Err(_))));
}

#[test]
fn a_payload_larger_than_the_buffer_is_cut_as_the_kernel_would() {
    let inbox = Inbox::default();
    inbox.push(from(1), &[1; 300]).unwrap();
    inbox.push(from(1), &[2; 10]).unwrap();
    let found = take(&inbox, 1, 200);
    assert_eq!(found, [(1, vec![1; 200]), (1, vec![2; 10])]);
    assert_eq!(inbox.queue.lock().bytes, 0);
}

proptest! {
    #[test]
    fn everything_comes_out_once_and_in_order(
        pushed in prop::collection::vec((0..3u16, 1..400usize), 0..60),
        count in 1..5usize,
        size in 400..3000usize,
    ) {
        let inbox = Inbox::default();
        let pushed: Vec<_> = pushed
            .into_iter()
            .enumerate()
            .map(|(at, (port, len))| (port, vec![u8::try_from(at).unwrap(); len]))
            .collect();
        for (port, payload) in &pushed {
            inbox.push(from(*port), payload).unwrap();
        }
        prop_assert_eq!(take(&inbox, count, size), pushed);
        prop_assert_eq!(inbox.queue.lock().bytes, 0);
    }
}
