//! Frames both ways, and how the two directions come to their end together.

use antipode_proto::trunk::v1::{Cause, End};
use antipode_trunk::{Delivery, Ended, SessionPort};
use antipode_websocket::{Reader, Writer, close};
use bytes::BytesMut;
use tokio::time::timeout;
use tracing::debug;

use super::down::{Down, DownEnd, Signs};
use super::up::{Up, UpEnd, code_for};
use crate::backend::stream::BackendStream;
use crate::bridge::Bridge;

/// One upgraded socket and one port.
pub(super) struct Relay<'a> {
    bridge: &'a Bridge,
    port: &'a SessionPort,
    stream: BackendStream,
    reader: Reader,
    writer: Writer,
}

/// The direction that ended first.
enum First {
    Down(DownEnd),
    Up(UpEnd),
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        bridge: &'a Bridge,
        port: &'a SessionPort,
        stream: BackendStream,
        reader: Reader,
        writer: Writer,
    ) -> Self {
        Self { bridge, port, stream, reader, writer }
    }

    /// Relays until both directions have ended. `early` came from the client before the upgrade,
    /// `read` from the backend right behind it.
    pub(super) async fn run(self, early: Vec<Delivery>, read: BytesMut) -> Result<Cause, Ended> {
        let Self { bridge, port, stream, reader, writer } = self;
        let (buffers, metrics) = (&bridge.buffers, &bridge.metrics);
        let signs = &Signs::new();
        let (input, output) = tokio::io::split(stream);
        let mut down = Down { port, buffers, metrics, signs, socket: input, reader, input: read };
        let table = &bridge.config.websocket;
        let mut up = Up {
            port,
            buffers,
            metrics,
            signs,
            table,
            write_timeout: bridge.config.timeouts.write,
            socket: output,
            writer,
            output: BytesMut::new(),
            unwritten: None,
            end: None,
            ping_at: table.ping_interval.map(|interval| tokio::time::Instant::now() + interval),
        };
        let first = match early.into_iter().try_for_each(|early| up.add_early(early)) {
            Err(end) => First::Up(end),
            Ok(()) => tokio::select! {
                biased;
                end = down.run() => First::Down(end),
                end = up.run() => First::Up(end),
            },
        };
        match first {
            First::Down(end) => Self::after_down(bridge, end, &mut down, &mut up).await,
            First::Up(end) => Self::after_up(bridge, end, &mut down, &mut up).await,
        }
    }

    /// The backend's direction ended first.
    async fn after_down(
        bridge: &Bridge,
        end: DownEnd,
        down: &mut Down<'_>,
        up: &mut Up<'_>,
    ) -> Result<Cause, Ended> {
        let closing = bridge.config.timeouts.closing;
        let cause = match end {
            DownEnd::Reset(ended) => {
                let code = code_for(ended.cause).unwrap_or(close::GOING_AWAY);
                up.say_close(code, &ended.detail, closing).await;
                return Err(ended);
            }
            DownEnd::Closed(close) => {
                send_close(up.port, close)?;
                // The client's own close frame, and what it sent before it, still go up.
                let port = up.port;
                match bridge.while_closing(port, up.run()).await {
                    Some(UpEnd::Closed(_)) => end_socket(bridge, down, up).await,
                    Some(UpEnd::Reset(ended)) => return Err(ended),
                    Some(UpEnd::Cut(_) | UpEnd::Lost | UpEnd::Slow | UpEnd::Silent) => {}
                    None => {
                        let reason = "the client did not close";
                        up.say_close(close::GOING_AWAY, reason, closing).await;
                    }
                }
                Cause::BackendClosed
            }
            DownEnd::Lost => {
                send_end(up.port, Cause::BackendLost, "")?;
                Cause::BackendLost
            }
            DownEnd::Broke(error) => {
                debug!(error = error.label(), "backend broke the protocol");
                bridge.metrics.backend_broke(error.label());
                send_end(up.port, Cause::BackendProtocol, error.label())?;
                up.say_close(error.close_code(), error.label(), closing).await;
                Cause::BackendProtocol
            }
        };
        up.shut(closing).await;
        settle(bridge, up).await?;
        Ok(cause)
    }

    /// The client's direction ended first, or the backend takes no more.
    async fn after_up(
        bridge: &Bridge,
        end: UpEnd,
        down: &mut Down<'_>,
        up: &mut Up<'_>,
    ) -> Result<Cause, Ended> {
        let closing = bridge.config.timeouts.closing;
        let cause = match end {
            UpEnd::Reset(ended) => {
                let code = code_for(ended.cause).unwrap_or(close::GOING_AWAY);
                up.say_close(code, &ended.detail, closing).await;
                return Err(ended);
            }
            UpEnd::Cut(cause) => {
                // A session that was reset over it is past an end of its own.
                let _ = send_end(up.port, cause, "");
                return Ok(cause);
            }
            UpEnd::Slow => Cause::BackendSlow,
            UpEnd::Silent => Cause::BackendTimeout,
            // What the backend sent before it went is still to be read.
            UpEnd::Lost => return Self::last_words(bridge, Cause::BackendLost, down, up).await,
            UpEnd::Closed(cause) => return Self::last_words(bridge, cause, down, up).await,
        };
        send_end(up.port, cause, "")?;
        settle(bridge, up).await?;
        Ok(cause)
    }

    /// Reads the backend to its close frame, or to the end of its socket, or until patience ends.
    async fn last_words(
        bridge: &Bridge,
        cause: Cause,
        down: &mut Down<'_>,
        up: &mut Up<'_>,
    ) -> Result<Cause, Ended> {
        match timeout(bridge.config.timeouts.closing, down.run()).await {
            Ok(DownEnd::Closed(close)) => {
                send_close(up.port, close)?;
                if up.end.is_some() {
                    end_socket(bridge, down, up).await;
                }
            }
            Ok(DownEnd::Lost) => send_end(up.port, Cause::BackendLost, "")?,
            Ok(DownEnd::Broke(error)) => {
                bridge.metrics.backend_broke(error.label());
                send_end(up.port, Cause::BackendProtocol, error.label())?;
            }
            Ok(DownEnd::Reset(ended)) => return Err(ended),
            Err(_) => send_end(up.port, Cause::BackendTimeout, "the backend did not close")?,
        }
        settle(bridge, up).await?;
        Ok(cause)
    }
}

/// Nothing more goes to the backend: what it has not taken is thrown away, up to the client's end.
async fn settle(bridge: &Bridge, up: &mut Up<'_>) -> Result<(), Ended> {
    up.drop_unwritten();
    if up.end.is_none() {
        bridge.discard(up.port).await?;
    }
    Ok(())
}

/// Both close frames are out. RFC 6455 section 7.1.1: the server ends TCP first; not for ever.
async fn end_socket(bridge: &Bridge, down: &mut Down<'_>, up: &mut Up<'_>) {
    let closing = bridge.config.timeouts.closing;
    let _ = timeout(closing, down.drain()).await;
    up.shut(closing).await;
}

fn send_close(port: &SessionPort, close: Option<(u16, String)>) -> Result<(), Ended> {
    let (code, reason) = close.unzip();
    let end = End {
        cause: Cause::BackendClosed.into(),
        close_code: code.map(u32::from),
        reason: reason.unwrap_or_default(),
        trailers: Vec::new(),
    };
    port.send(end.into())
}

fn send_end(port: &SessionPort, cause: Cause, reason: &str) -> Result<(), Ended> {
    let reason = reason.to_owned();
    port.send(End { cause: cause.into(), reason, ..End::default() }.into())
}
