//! The paths hold what they are told to hold, and nothing gets lost, doubled or stuck on them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use antipode_runtime::shutdown::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use super::{TcpRelay, UdpRelay};

const ONE_WAY: Duration = Duration::from_millis(60);
/// A loaded machine wakes late; it must never wake early.
const LATE: Duration = Duration::from_millis(40);
const PATIENCE: Duration = Duration::from_secs(10);

async fn tcp_path(shutdown: &Shutdown) -> (TcpListener, SocketAddr) {
    let far = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let relay = TcpRelay::bind(Ipv4Addr::LOCALHOST.into()).await.unwrap();
    let near = relay.local_addr().unwrap();
    relay.serve(far.local_addr().unwrap(), ONE_WAY, shutdown);
    (far, near)
}

#[track_caller]
fn took(since: Instant, expected: Duration) {
    let took = since.elapsed();
    assert!(took >= expected, "{took:?} is less than {expected:?}");
    assert!(took < expected + LATE, "{took:?} is more than {expected:?}");
}

#[tokio::test]
async fn a_stream_pays_for_its_opening_and_for_each_way() {
    let shutdown = Shutdown::default();
    let (far, near) = tcp_path(&shutdown).await;
    let began = Instant::now();
    let mut client = TcpStream::connect(near).await.unwrap();
    client.write_all(b"marco").await.unwrap();
    let (mut server, _) = far.accept().await.unwrap();
    let mut word = [0; 5];
    server.read_exact(&mut word).await.unwrap();
    took(began, 3 * ONE_WAY);
    server.write_all(b"polo!").await.unwrap();
    client.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"polo!");
    took(began, 4 * ONE_WAY);

    let again = Instant::now();
    client.write_all(b"marco").await.unwrap();
    server.read_exact(&mut word).await.unwrap();
    took(again, ONE_WAY);
}

#[tokio::test]
async fn a_half_close_leaves_the_other_half_open() {
    let shutdown = Shutdown::default();
    let (far, near) = tcp_path(&shutdown).await;
    let mut client = TcpStream::connect(near).await.unwrap();
    client.write_all(b"the question").await.unwrap();
    client.shutdown().await.unwrap();
    let (mut server, _) = far.accept().await.unwrap();
    let mut asked = String::new();
    server.read_to_string(&mut asked).await.unwrap();
    server.write_all(b"the answer").await.unwrap();
    drop(server);
    let mut answered = String::new();
    client.read_to_string(&mut answered).await.unwrap();
    assert_eq!((asked.as_str(), answered.as_str()), ("the question", "the answer"));
}

#[tokio::test]
async fn a_reset_at_one_end_is_a_reset_at_the_other() {
    let shutdown = Shutdown::default();
    let (far, near) = tcp_path(&shutdown).await;
    let mut client = TcpStream::connect(near).await.unwrap();
    client.write_all(b"x").await.unwrap();
    let (mut server, _) = far.accept().await.unwrap();
    server.read_u8().await.unwrap();
    super::tcp::reset(&server);
    let began = Instant::now();
    drop(server);
    let error = timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    took(began, ONE_WAY);
}

#[tokio::test]
async fn nobody_at_the_far_end_is_a_reset_after_a_round_trip() {
    let shutdown = Shutdown::default();
    let (far, near) = tcp_path(&shutdown).await;
    drop(far);
    let began = Instant::now();
    let mut client = TcpStream::connect(near).await.unwrap();
    let error = timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    took(began, 2 * ONE_WAY);
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_writer_and_loses_nothing() {
    const TOTAL: usize = 64 << 20;
    let shutdown = Shutdown::default();
    let (far, near) = tcp_path(&shutdown).await;
    let mut client = TcpStream::connect(near).await.unwrap();
    let (sent, mut progress) = tokio::sync::watch::channel(0);
    shutdown.spawn(async move {
        let mut piece = vec![0; 1 << 20];
        for number in 0..TOTAL >> 20 {
            piece.fill(u8::try_from(number).unwrap());
            client.write_all(&piece).await.unwrap();
            sent.send_replace(number + 1);
        }
    });
    let (mut server, _) = far.accept().await.unwrap();
    // The writer gets stuck well before the end, since nobody reads.
    while timeout(Duration::from_millis(500), progress.changed()).await.is_ok() {}
    let stuck_at = *progress.borrow();
    assert!(stuck_at << 20 < TOTAL, "{stuck_at} MiB went nowhere");

    let mut all = Vec::with_capacity(TOTAL);
    timeout(PATIENCE, server.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!(all.len(), TOTAL);
    assert!(all.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at >> 20));
}

#[tokio::test]
async fn datagrams_arrive_one_way_later_in_order() {
    let shutdown = Shutdown::default();
    let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let relay = UdpRelay::bind().unwrap();
    let near = relay.local_addr().unwrap();
    relay.serve(far.local_addr().unwrap(), ONE_WAY, &shutdown);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();

    let began = Instant::now();
    for number in 0..100 {
        client.send_to(&[number], near).await.unwrap();
    }
    let mut from = near;
    for number in 0..100 {
        let mut datagram = [0; 16];
        let received = timeout(PATIENCE, far.recv_from(&mut datagram)).await.unwrap();
        let (len, sender) = received.unwrap();
        assert_eq!((len, datagram[0]), (1, number));
        from = sender;
    }
    took(began, ONE_WAY);
    let began = Instant::now();
    far.send_to(b"back", from).await.unwrap();
    let mut datagram = [0; 16];
    let (len, sender) = client.recv_from(&mut datagram).await.unwrap();
    assert_eq!((&datagram[..len], sender), (&b"back"[..], near));
    took(began, ONE_WAY);
}

#[tokio::test]
async fn each_sender_gets_its_own_answers_and_strangers_none() {
    let shutdown = Shutdown::default();
    let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let relay = UdpRelay::bind().unwrap();
    let near = relay.local_addr().unwrap();
    relay.serve(far.local_addr().unwrap(), ONE_WAY, &shutdown);
    let mut clients = Vec::new();
    // More than fit: the first ones are forgotten, the last ones served.
    for number in 0..u8::try_from(super::udp::FLOWS_MAX).unwrap() + 8 {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        client.send_to(&[number], near).await.unwrap();
        clients.push(client);
    }
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut datagram = [0; 16];
    while let Ok(received) = timeout(4 * ONE_WAY, far.recv_from(&mut datagram)).await {
        let (len, sender) = received.unwrap();
        stranger.send_to(b"!", sender).await.unwrap();
        far.send_to(&datagram[..len], sender).await.unwrap();
    }
    for (number, client) in clients.iter().enumerate().skip(8) {
        let received = timeout(PATIENCE, client.recv_from(&mut datagram)).await.unwrap().unwrap();
        assert_eq!((received.0, usize::from(datagram[0])), (1, number));
    }
}
