//! `[limits]`, `[timeouts]`, `[websocket]` and `[resume]`: each with its default and what it is
//! good for.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use serde::Deserialize;

use super::at_least_one;

/// `[limits]`. Each has a counter for when it is hit.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsTable {
    /// Sessions at once; more are answered 503.
    pub sessions_max: NonZeroUsize,
    /// Connects under way to one backend; more wait, for as long as a connect may take.
    pub connects_max: NonZeroUsize,
    /// Bytes of a backend's response head; more is answered 502.
    pub response_head_bytes_max: usize,
    /// Header lines of a backend's response; more is answered 502.
    pub response_headers_max: usize,
    /// Idle sockets kept open to one backend.
    pub idle_sockets_max: usize,
    /// Bytes that all sessions may hold together; as it fills up those that hold much and don't
    /// move are ended.
    pub held_bytes_max: NonZeroU64,
}

impl Default for LimitsTable {
    fn default() -> Self {
        Self {
            // Below what one source address can open to one TCP backend: about 28,000 ports.
            sessions_max: at_least_one(25_000),
            connects_max: at_least_one(256),
            // Node.js sends heads of at most 16 KiB by default, and few sites come near it.
            response_head_bytes_max: 64 * 1024,
            response_headers_max: 128,
            idle_sockets_max: 64,
            // Leaves half of a machine with 1 GiB; 2,000 sessions that fill their first window.
            held_bytes_max: NonZeroU64::new(512 << 20).expect("not zero"),
        }
    }
}

/// `[timeouts]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutsTable {
    /// For a socket to the backend: name, connect, TLS and the wait for a turn.
    #[serde(with = "humantime_serde")]
    pub connect: Duration,
    /// From the last of the request to the first of the answer. Long polling answers late.
    #[serde(with = "humantime_serde")]
    pub response_head: Duration,
    /// An HTTP body that stands still for so long, either way, is cut.
    #[serde(with = "humantime_serde")]
    pub body_idle: Duration,
    /// A backend that takes nothing of what is written to it for so long is cut.
    #[serde(with = "humantime_serde")]
    pub write: Duration,
    /// After our close frame: for the backend's own, and then for the end of its socket.
    #[serde(with = "humantime_serde")]
    pub closing: Duration,
    /// How long an idle socket to a backend is kept for the next HTTP request.
    #[serde(with = "humantime_serde")]
    pub idle_socket: Duration,
}

impl Default for TimeoutsTable {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            response_head: Duration::from_secs(120),
            body_idle: Duration::from_secs(15 * 60),
            write: Duration::from_secs(60),
            closing: Duration::from_secs(10),
            // Node.js closes idle sockets after 5 s: be first, or a request meets a closing socket.
            idle_socket: Duration::from_secs(4),
        }
    }
}

/// `[websocket]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebSocketTable {
    /// Largest frame that a backend may send; a larger one ends the session with 1009.
    pub frame_bytes_max: u64,
    /// Pings to the backend; absent: none are sent.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Option<Duration>,
    /// With pings: a backend silent for so long is lost.
    #[serde(with = "humantime_serde")]
    pub ping_timeout: Duration,
}

impl Default for WebSocketTable {
    fn default() -> Self {
        Self {
            frame_bytes_max: 128 << 20,
            ping_interval: None,
            ping_timeout: Duration::from_secs(60),
        }
    }
}

impl WebSocketTable {
    pub(super) fn validate(&self) -> Result<(), String> {
        match self.ping_interval {
            Some(interval) if interval.is_zero() => {
                Err("websocket.ping_interval must be above zero; leave it out for no pings".into())
            }
            Some(interval) if self.ping_timeout <= interval => {
                Err("websocket.ping_timeout must exceed websocket.ping_interval".into())
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// `[resume]`: clients that speak `antipode.resume.v1`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResumeTable {
    /// Whether it is spoken; if not, such clients get an ordinary WebSocket.
    pub enabled: bool,
    /// How long a session waits for its client to come back.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// How often clients ping, to find out early that their socket leads nowhere.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// A socket that is opened to go on with a session has to say with which one.
    #[serde(with = "humantime_serde")]
    pub attach_timeout: Duration,
    /// Resumable sessions at once; clients beyond that get an ordinary WebSocket.
    pub sessions_max: NonZeroUsize,
}

impl Default for ResumeTable {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Duration::from_secs(120),
            // Two lost in a row, and a proxy that forgets idle sockets after 30 s is still awake.
            ping_interval: Duration::from_secs(10),
            attach_timeout: Duration::from_secs(10),
            sessions_max: at_least_one(25_000),
        }
    }
}

impl ResumeTable {
    pub(super) fn validate(&self) -> Result<(), String> {
        let least = Duration::from_millis(1);
        for (key, value) in [
            ("window", self.window),
            ("ping_interval", self.ping_interval),
            ("attach_timeout", self.attach_timeout),
        ] {
            if value < least {
                return Err(format!("resume.{key} must be at least 1ms"));
            }
        }
        // Nothing that a session waits for is of use after a year; and milliseconds fit then.
        if self.window > Duration::from_secs(366 * 86_400) {
            return Err("resume.window can't exceed a year".into());
        }
        Ok(())
    }
}
