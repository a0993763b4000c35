//! One open stream: reads datagrams into the tunnel and writes what its outbox holds.

use std::io;
use std::time::Duration;

use antipode_websocket::{Side, close};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;

use super::frame::{Decoder, Received};
use super::metrics::StreamEnd;
use super::outbox::Outbox;
use crate::shared::{Intake, Shared};
use crate::tunnel::now;
use crate::way::Way;

/// A stream without a sign of life for so long is closed: paths in use are probed every 250 ms.
pub(super) const STREAM_IDLE_MAX: Duration = Duration::from_secs(60);

/// How long a goodbye may take.
const GOODBYE_TIME: Duration = Duration::from_secs(1);

/// Bytes read at once.
const READ_BYTES: usize = 32 << 10;

/// What TCP has not acknowledged for so long is lost, and so is the stream: a fresh one is open
/// sooner than this one's retransmissions get through, whose gaps double.
const ACKNOWLEDGE_TIME: Duration = Duration::from_secs(10);

/// Bytes that the kernel may hold and not have sent: what waits belongs into the outbox, where it
/// can be dropped.
const NOT_SENT_BYTES: u32 = 16 << 10;

/// Bytes that TLS may hold unwritten: a record.
const TLS_BUFFER_BYTES: usize = 16 << 10;

/// Sets a socket up for datagrams. What the system does not know stays as it is.
pub(super) fn tune(socket: &TcpStream) {
    let socket = socket2::SockRef::from(socket);
    let _ = socket.set_tcp_nodelay(true);
    #[cfg(target_os = "linux")]
    {
        let _ = socket.set_tcp_user_timeout(Some(ACKNOWLEDGE_TIME));
        let _ = socket.set_tcp_notsent_lowat(NOT_SENT_BYTES);
        // The connections inside keep to their share; what carries them should not halve for a
        // lost packet. Few systems have it loaded.
        let _ = socket.set_tcp_congestion(b"bbr");
    }
}

/// A stream that is open: its socket, and what was read beyond the upgrade.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) socket: TlsStream<TcpStream>,
    pub(super) read: BytesMut,
    pub(super) side: Side,
}

/// Carries datagrams until the stream ends, or `closing` asks for it.
pub(super) async fn carry(
    opened: Opened,
    way: Way,
    outbox: &Outbox,
    shared: &Shared,
    closing: &CancellationToken,
) -> StreamEnd {
    let Opened { mut socket, read, side } = opened;
    limit_buffer(&mut socket);
    let (reader, mut writer) = tokio::io::split(socket);
    let mut unwritten = Bytes::new();
    let (end, code) = tokio::select! {
        biased;
        () = closing.cancelled() => (StreamEnd::Closed, close::GOING_AWAY),
        ended = take_in(reader, read, side, way, outbox, shared) => ended,
        _ = write_on(&mut writer, &mut unwritten, outbox) => return StreamEnd::Broken,
    };
    if end != StreamEnd::Broken {
        outbox.close(code);
        let _ = timeout(GOODBYE_TIME, goodbye(&mut writer, unwritten, outbox)).await;
    }
    end
}

/// Keeps rustls from taking more than the socket does: that would wait where it can't be dropped.
fn limit_buffer(socket: &mut TlsStream<TcpStream>) {
    match socket {
        TlsStream::Client(socket) => socket.get_mut().1.set_buffer_limit(Some(TLS_BUFFER_BYTES)),
        TlsStream::Server(socket) => socket.get_mut().1.set_buffer_limit(Some(TLS_BUFFER_BYTES)),
    }
}

/// Reads until the end, and tells with which code to close.
async fn take_in(
    mut reader: ReadHalf<TlsStream<TcpStream>>,
    mut input: BytesMut,
    side: Side,
    way: Way,
    outbox: &Outbox,
    shared: &Shared,
) -> (StreamEnd, u16) {
    let (mut decoder, mut intake) = (Decoder::new(side), Intake::default());
    loop {
        let arrived = now();
        loop {
            match decoder.read(&mut input) {
                Ok(Some(Received::Datagram(datagram))) => {
                    shared.receive(way, &datagram, arrived, &mut intake);
                }
                Ok(Some(Received::Ping(payload))) => outbox.pong(&payload),
                Ok(Some(Received::Close)) => return (StreamEnd::FarEnd, close::NORMAL),
                Ok(None) => break,
                Err(error) => return (StreamEnd::Protocol, error.close_code()),
            }
        }
        shared.finish(&mut intake).await;
        input.reserve(READ_BYTES);
        match timeout(STREAM_IDLE_MAX, reader.read_buf(&mut input)).await {
            Ok(Ok(0)) => return (StreamEnd::FarEnd, close::NORMAL),
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return (StreamEnd::Broken, close::GOING_AWAY),
            Err(_) => return (StreamEnd::Idle, close::GOING_AWAY),
        }
    }
}

/// Writes what there is and comes. Dropped at any time, `unwritten` has the rest of a frame that is
/// begun.
async fn write_on(
    writer: &mut WriteHalf<TlsStream<TcpStream>>,
    unwritten: &mut Bytes,
    outbox: &Outbox,
) -> io::Result<()> {
    loop {
        if !unwritten.has_remaining() {
            match outbox.try_take() {
                Some(bytes) => *unwritten = bytes,
                None => {
                    writer.flush().await?;
                    *unwritten = outbox.take().await;
                }
            }
        }
        writer.write_buf(unwritten).await?;
    }
}

async fn goodbye(
    writer: &mut WriteHalf<TlsStream<TcpStream>>,
    mut unwritten: Bytes,
    outbox: &Outbox,
) -> io::Result<()> {
    writer.write_all_buf(&mut unwritten).await?;
    while let Some(mut bytes) = outbox.try_take() {
        writer.write_all_buf(&mut bytes).await?;
    }
    writer.shutdown().await
}
