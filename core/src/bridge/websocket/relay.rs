//! Frames both ways, and how the two directions come to their end together.

use antipode_proto::trunk::v1::{Cause, End};
use antipode_trunk::{Delivery, Ended, SessionPort};
use antipode_websocket::close;
use tokio::time::timeout;
use tracing::debug;

use super::down::{Down, DownEnd, Signs};
use super::parts::{self, Parts};
use super::up::{Up, UpEnd};
use crate::backend::stream::SharedStream;
use crate::bridge::Bridge;
use crate::handover::{Verdict, Wave};
use crate::resume::token::SessionId;

/// One upgraded socket and one port.
pub(super) struct Relay<'a> {
    bridge: &'a Bridge,
    port: &'a SessionPort,
    parts: Parts,
}

/// The direction that ended first.
enum First {
    Down(DownEnd),
    Up(UpEnd),
    /// Neither: another process goes on with both.
    Moved,
}

impl<'a> Relay<'a> {
    pub(super) fn new(bridge: &'a Bridge, port: &'a SessionPort, parts: Parts) -> Self {
        Self { bridge, port, parts }
    }

    /// Relays until both directions have ended, or another process has them. `early` came from the
    /// client before the upgrade.
    pub(super) async fn run(self, early: Vec<Delivery>) -> Result<Cause, Ended> {
        let Self { bridge, port, parts } = self;
        let Parts { stream, assigned, reader, input, writer, output, .. } = parts;
        let Parts { unwritten, end, pongs, session, .. } = parts;
        let (buffers, metrics) = (&bridge.buffers, &bridge.metrics);
        let signs = &Signs::new(pongs);
        let socket = SharedStream::new(stream);
        let reading = socket.clone();
        let mut down = Down { port, buffers, metrics, signs, socket: reading, reader, input };
        let table = &bridge.config.websocket;
        let mut up = Up {
            port,
            buffers,
            metrics,
            signs,
            table,
            write_timeout: bridge.config.timeouts.write,
            socket,
            writer,
            output,
            unwritten,
            end,
            ping_at: table.ping_interval.map(|interval| tokio::time::Instant::now() + interval),
        };
        let first = match early.into_iter().try_for_each(|early| up.add_early(early)) {
            Err(end) => First::Up(end),
            Ok(()) => {
                let backend = assigned.as_ref().map_or("", |assigned| &assigned.backend.id);
                Self::both_ways(bridge, (session, backend), &mut down, &mut up).await
            }
        };
        let closing = async {
            match first {
                First::Down(end) => Self::after_down(bridge, end, &mut down, &mut up).await,
                First::Up(end) => Self::after_up(bridge, end, &mut down, &mut up).await,
                First::Moved => Ok(Cause::CoreDraining),
            }
        };
        bridge.unless_left(port, closing).await.unwrap_or(Ok(Cause::CoreDraining))
    }

    /// Carries frames until a direction ends, or a successor asks for what it can go on with.
    async fn both_ways(
        bridge: &Bridge,
        (session, backend): (Option<SessionId>, &str),
        down: &mut Down<'_>,
        up: &mut Up<'_>,
    ) -> First {
        let port = up.port;
        if !up.socket.is_portable() {
            return tokio::select! {
                biased;
                end = down.run() => First::Down(end),
                end = up.run() => First::Up(end),
                ended = over(port) => First::Up(UpEnd::Reset(ended)),
                () = bridge.summons.told_to_leave() => {
                    bridge.reset_for_successor(port);
                    First::Moved
                }
            };
        }
        let mut movable = bridge.summons.movable(Wave::Sockets);
        loop {
            let offers = tokio::select! {
                biased;
                end = down.run() => return First::Down(end),
                end = up.run() => return First::Up(end),
                ended = over(port) => return First::Up(UpEnd::Reset(ended)),
                offers = bridge.summons.gathered(Wave::Sockets) => offers,
            };
            let export = || parts::export(port, session, backend, (down, up));
            match movable.go(offers, export).await {
                Verdict::Taken => {
                    port.release();
                    return First::Moved;
                }
                Verdict::Stays => {}
                // The next round finds the session at its end.
                Verdict::Unable => bridge.reset_for_successor(port),
            }
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
                up.say_reset(&ended, closing).await;
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
                up.say_reset(&ended, closing).await;
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

/// Resolves when the session is over before its time. The directions notice too, but one of them
/// may wait for a backend that takes nothing, and the other for one that says nothing.
async fn over(port: &SessionPort) -> Ended {
    // Nothing is heard out before its end is sent, and in both directions there is none yet.
    port.heard_out().await;
    match port.look(|machine| machine.ended().cloned()) {
        Some(ended) => ended,
        None => std::future::pending().await,
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
