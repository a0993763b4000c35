//! A TCP path with a length: a stream's first byte waits for the round trip that its opening costs,
//! and every byte takes one way more.
//!
//! Loopback opens a TCP connection at once; on a real path SYN and SYN-ACK cross first. The relay
//! accepts, lets that time pass, and only then reads. Half-closes and resets travel like bytes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use antipode_runtime::shutdown::Shutdown;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tracing::debug;

/// Streams at once through one relay; more wait in the listener's queue.
pub(super) const STREAMS_MAX: usize = 4_096;

/// Bytes under way in one direction of one stream; then the relay stops reading, as TCP's window
/// would. 250 ms at 64 MB/s.
pub(super) const UNDER_WAY_BYTES_MAX: usize = 16 << 20;

const READ_BYTES: usize = 64 << 10;

/// Pieces under way in one direction of one stream; bounds the bookkeeping, not the bytes.
const PIECES_MAX: usize = 16_384;

/// A path that waits to be told where it leads. Streams that come earlier wait with it.
#[derive(Debug)]
pub struct TcpRelay {
    listener: TcpListener,
}

/// What crosses a stream.
#[derive(Debug)]
enum Piece {
    Bytes(Bytes, OwnedSemaphorePermit),
    /// The writer has finished; the other direction may go on.
    HalfClose,
    Reset,
}

/// The stream was reset at one end, so it is at the other.
struct Broken;

impl TcpRelay {
    /// Opens the near end on a free port of `host`.
    ///
    /// # Errors
    /// The system's, if there is no port to be had.
    pub async fn bind(host: IpAddr) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind((host, 0)).await? })
    }

    /// Where clients reach the path.
    ///
    /// # Errors
    /// The system's, if the listener has gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Carries streams to `target`, `one_way` long, until `shutdown` stops.
    pub fn serve(self, target: SocketAddr, one_way: Duration, shutdown: &Shutdown) {
        let tasks = shutdown.clone();
        shutdown.spawn_service(async move {
            let places = Arc::new(Semaphore::new(STREAMS_MAX));
            loop {
                let place = Arc::clone(&places).acquire_owned().await;
                let Ok((client, _)) = self.listener.accept().await else {
                    // Out of file descriptors, most likely: let some streams end.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                tasks.spawn_service(async move {
                    let _place = place;
                    carry(client, target, one_way).await;
                });
            }
        });
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, one_way: Duration) {
    let opened = Instant::now();
    tokio::time::sleep_until(opened + one_way).await;
    let mut far = match TcpStream::connect(target).await {
        Ok(far) => far,
        Err(error) => {
            debug!(%target, error = &error as &dyn std::error::Error, "far end refuses");
            tokio::time::sleep_until(opened + 2 * one_way).await;
            reset(&client);
            return;
        }
    };
    let _ = client.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let (client_reads, client_writes) = client.split();
    let (far_reads, far_writes) = far.split();
    let up = async {
        tokio::time::sleep_until(opened + 2 * one_way).await;
        pipe(client_reads, far_writes, one_way).await
    };
    let down = pipe(far_reads, client_writes, one_way);
    if tokio::try_join!(up, down).is_err() {
        reset(&client);
        reset(&far);
    }
}

/// Makes the coming close of `stream` a reset instead of an orderly end.
pub(super) fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Carries one direction of a stream.
async fn pipe(reads: ReadHalf<'_>, writes: WriteHalf<'_>, one_way: Duration) -> Result<(), Broken> {
    let (pieces, under_way) = mpsc::channel(PIECES_MAX);
    let mut sending = pin!(send_off(reads, pieces, one_way));
    let mut arriving = pin!(arrive(writes, under_way, one_way));
    tokio::select! {
        () = &mut sending => arriving.await,
        outcome = &mut arriving => outcome,
    }
}

async fn send_off(
    mut reads: ReadHalf<'_>,
    pieces: mpsc::Sender<(Instant, Piece)>,
    one_way: Duration,
) {
    let room = Arc::new(Semaphore::new(UNDER_WAY_BYTES_MAX));
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        let piece = match reads.read_buf(&mut buffer).await {
            Ok(0) => Piece::HalfClose,
            Ok(_) => {
                let bytes = buffer.split().freeze();
                let Some(place) = room_for(&room, bytes.len()).await else { return };
                Piece::Bytes(bytes, place)
            }
            Err(_) => Piece::Reset,
        };
        let last = !matches!(piece, Piece::Bytes(..));
        let due = Instant::now() + one_way;
        if pieces.send((due, piece)).await.is_err() || last {
            return;
        }
    }
}

async fn room_for(room: &Arc<Semaphore>, len: usize) -> Option<OwnedSemaphorePermit> {
    let len = u32::try_from(len.min(UNDER_WAY_BYTES_MAX)).ok()?;
    Arc::clone(room).acquire_many_owned(len).await.ok()
}

async fn arrive(
    mut writes: WriteHalf<'_>,
    mut under_way: mpsc::Receiver<(Instant, Piece)>,
    one_way: Duration,
) -> Result<(), Broken> {
    while let Some((due, piece)) = under_way.recv().await {
        tokio::time::sleep_until(due).await;
        let written = match piece {
            Piece::Bytes(bytes, place) => {
                let written = writes.write_all(&bytes).await;
                drop(place);
                written
            }
            Piece::HalfClose => return writes.shutdown().await.map_err(|_| Broken),
            Piece::Reset => return Err(Broken),
        };
        if written.is_err() {
            // This end was reset: the word of it needs its time to the other one.
            tokio::time::sleep(one_way).await;
            return Err(Broken);
        }
    }
    Ok(())
}
