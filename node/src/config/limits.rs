//! Every limit on clients, with its default and the reason for it.

use std::time::Duration;

use serde::Deserialize;

/// What clients may use up before, and besides, their sessions.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct FrontLimits {
    /// Open sockets of clients, with a session or without. Most machines give a process about as
    /// many files by default as this.
    pub clients_max: u32,
    /// TLS handshakes under way at once; each costs about 0.4 ms of a core.
    pub handshakes_max: u32,
    /// How long a handshake may take: three slow round trips and a retransmission.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// How long a client may take for a request's head, and how long it may idle between requests.
    #[serde(with = "humantime_serde")]
    pub head_timeout: Duration,
    /// Request line and headers; more is answered with 431.
    pub head_bytes_max: usize,
    /// Header fields of a request; more is answered with 431.
    pub headers_max: usize,
}

impl Default for FrontLimits {
    fn default() -> Self {
        Self {
            clients_max: 65_000,
            handshakes_max: 512,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            head_bytes_max: 32 * 1024,
            headers_max: 100,
        }
    }
}

/// What a session may use up.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct SessionLimits {
    /// Sessions of both kinds at once; more are answered with 503.
    pub sessions_max: u32,
    /// Sessions at once from one address (IPv6: one /64); more are answered with 429. 0: no limit.
    pub sessions_per_ip_max: u32,
    /// Bytes that all sessions may hold together; as it fills up those that hold much and don't
    /// move are ended.
    pub held_bytes_max: u64,
    /// Payload of one WebSocket frame from a client; more is a close 1009. Frames pass in chunks,
    /// so this costs no memory.
    pub frame_bytes_max: u64,
    /// Body of one HTTP request; more is answered with 413. 0: no limit.
    pub http_body_bytes_max: u64,
    /// What may wait for one client's socket before the core is asked to wait.
    pub client_queue_bytes_max: usize,
    /// How long a client may take no byte of what waits for it before it is closed as slow.
    #[serde(with = "humantime_serde")]
    pub client_stall_timeout: Duration,
    /// How long a client may send no byte of a request body it has announced.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// A client that was silent for so long is pinged.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// A client that was silent for so long is closed.
    #[serde(with = "humantime_serde")]
    pub ping_timeout: Duration,
    /// How long the answer to a close is awaited.
    #[serde(with = "humantime_serde")]
    pub close_timeout: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            sessions_max: 50_000,
            sessions_per_ip_max: 0,
            // Leaves half of a machine with 1 GiB; 2,000 sessions that fill their first window.
            held_bytes_max: 512 * 1024 * 1024,
            frame_bytes_max: 128 * 1024 * 1024,
            http_body_bytes_max: 0,
            client_queue_bytes_max: 64 * 1024,
            client_stall_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(10),
        }
    }
}

/// How fast clients are let in when many come at once; each rate has a burst of one second's worth.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Pacing {
    /// TLS handshakes in a second, at 0.4 ms each: two fifths of a core. Beyond, after `wait_max`,
    /// the socket is closed. 0: no limit.
    pub handshakes_per_second_max: u32,
    /// New WebSockets in a second, less those that go on with a session: as many as handshakes.
    /// Beyond, after `wait_max`, 503. 0: no limit.
    pub sessions_per_second_max: u32,
    /// WebSockets in a second whose session goes on: as many again, for they come first. Beyond,
    /// after `wait_max`, 503. 0: no limit.
    pub resumes_per_second_max: u32,
    /// How long a client may wait for its turn: about what it waits before it tries elsewhere.
    #[serde(with = "humantime_serde")]
    pub wait_max: Duration,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            handshakes_per_second_max: 1000,
            sessions_per_second_max: 1000,
            resumes_per_second_max: 1000,
            wait_max: Duration::from_secs(1),
        }
    }
}

impl Pacing {
    /// What contradicts itself.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.wait_max > Duration::from_secs(60) {
            return Err("pacing.wait_max must be at most 60s: nobody waits longer".into());
        }
        Ok(())
    }
}

impl FrontLimits {
    /// What contradicts itself, or what a library refuses.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.head_bytes_max < 8 * 1024 {
            return Err("front.head_bytes_max must be at least 8192: cookies need room".into());
        }
        nonzero("front.clients_max", self.clients_max)?;
        nonzero("front.handshakes_max", self.handshakes_max)?;
        if self.headers_max == 0 {
            return Err("front.headers_max must not be 0".into());
        }
        Ok(())
    }
}

impl SessionLimits {
    /// What contradicts itself.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.ping_timeout <= self.ping_interval {
            return Err("session.ping_timeout must exceed session.ping_interval".into());
        }
        if self.client_queue_bytes_max == 0 || self.frame_bytes_max == 0 {
            let keys = "session.client_queue_bytes_max and session.frame_bytes_max";
            return Err(format!("{keys} must not be 0"));
        }
        nonzero("session.held_bytes_max", self.held_bytes_max)?;
        nonzero("session.sessions_max", self.sessions_max)
    }
}

fn nonzero(key: &str, value: impl Into<u64>) -> Result<(), String> {
    if value.into() == 0 { Err(format!("{key} must not be 0")) } else { Ok(()) }
}
