//! The WebSocket half of the test backend, by tungstenite.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::backend::Query;

/// Read at once. tungstenite zeroes as much before each read: with its default of 128 KiB that was
/// a sixth of a client's and a quarter of the backend's processor time in the crowd's row.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// How one socket ended, seen from the backend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ending {
    /// A close frame came, with this code and reason; 1005 if it had none.
    Closed(u16, String),
    /// The socket ended without one.
    Lost,
}

/// Endings by the target asked for, as they happen.
#[derive(Clone, Debug, Default)]
pub struct Closes(Arc<Mutex<Vec<(String, Ending)>>>);

impl Closes {
    /// The ending of the socket opened at `target`, once there is one.
    ///
    /// # Errors
    ///
    /// If it has not ended within `limit`.
    ///
    /// # Panics
    ///
    /// If another user of the list did.
    pub async fn of(&self, target: &str, limit: Duration) -> anyhow::Result<Ending> {
        const STEP: Duration = Duration::from_millis(10);
        let mut waited = Duration::ZERO;
        loop {
            let list = self.0.lock().expect("nobody panics with this lock").clone();
            if let Some((_, ending)) = list.iter().find(|(seen, _)| seen == target) {
                return Ok(ending.clone());
            }
            anyhow::ensure!(waited < limit, "{target} has not ended: {list:?}");
            tokio::time::sleep(STEP).await;
            waited += STEP;
        }
    }

    fn push(&self, target: &str, ending: Ending) {
        self.0.lock().expect("nobody panics with this lock").push((target.to_owned(), ending));
    }
}

/// No limits: what a message may hold is the relay's business here.
#[must_use]
pub fn unlimited() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None)
        .read_buffer_size(READ_BUFFER_BYTES)
}

pub(crate) async fn serve_socket<S>(
    io: S,
    target: &str,
    query: &Query,
    described: String,
    closes: &Closes,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(unlimited())).await;
    let path = target.split('?').next().unwrap_or(target);
    let ending = match path {
        "/close" => {
            let code = u16::try_from(query.number("code")).unwrap_or(1000);
            let reason = query.text("reason").into();
            let frame = CloseFrame { code: code.into(), reason };
            drop(socket.close(Some(frame)).await);
            echo(&mut socket).await
        }
        "/drop" => {
            drop(socket.next().await);
            return;
        }
        "/flood" => {
            let message = Message::binary(vec![7; 16 * 1024]);
            while socket.send(message.clone()).await.is_ok() {}
            Ending::Lost
        }
        "/deaf" => {
            // Reads nothing for as long as a test could take.
            tokio::time::sleep(Duration::from_secs(600)).await;
            return;
        }
        "/headers" => {
            drop(socket.send(Message::text(described)).await);
            echo(&mut socket).await
        }
        _ => echo(&mut socket).await,
    };
    closes.push(target, ending);
}

async fn echo<S>(socket: &mut WebSocketStream<S>) -> Ending
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut ending = Ending::Lost;
    while let Some(read) = socket.next().await {
        let sent = match read {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message).await,
            Ok(Message::Close(frame)) => {
                ending = frame.map_or(Ending::Closed(1005, String::new()), |frame| {
                    Ending::Closed(frame.code.into(), frame.reason.to_string())
                });
                Ok(())
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(()),
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) | Err(Error::ConnectionClosed) => {}
            Err(_) => return ending,
        }
    }
    ending
}
