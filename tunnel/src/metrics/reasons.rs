//! Why packets went no further, and what became of handshakes.

/// What became of a handshake, or of a message of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HandshakeOutcome {
    /// We sent an initiation: the first, a rekey or a retry.
    Initiated,
    /// A peer answered ours: there are new keys.
    Completed,
    /// We answered a peer's.
    Answered,
    /// We asked for proof of the source's address instead of answering.
    CookieSent,
    /// A peer asked us for that proof; the next try carries it.
    CookieReceived,
    /// A source with a proven address asked too often.
    Limited,
    /// An initiation from a key that is no peer of ours.
    UnknownPeer,
    /// A known peer's initiation is not newer than its last: a replay, or its clock went back.
    StaleTimestamp,
    /// Damaged, forged, or an answer to nothing we asked.
    Invalid,
    /// Nobody answered for 90 s.
    Expired,
}

impl HandshakeOutcome {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 10] = [
        Self::Initiated,
        Self::Completed,
        Self::Answered,
        Self::CookieSent,
        Self::CookieReceived,
        Self::Limited,
        Self::UnknownPeer,
        Self::StaleTimestamp,
        Self::Invalid,
        Self::Expired,
    ];

    /// `outcome` of `antipode_tunnel_handshakes_total`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Initiated => "initiated",
            Self::Completed => "completed",
            Self::Answered => "answered",
            Self::CookieSent => "cookie_sent",
            Self::CookieReceived => "cookie_received",
            Self::Limited => "limited",
            Self::UnknownPeer => "unknown_peer",
            Self::StaleTimestamp => "stale_timestamp",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
        }
    }
}

/// Why a packet or datagram went no further.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DropReason {
    /// A UDP datagram of no bytes: to boringtun it would mean "give me what you queued".
    Empty,
    /// Not a WireGuard message.
    Malformed,
    /// For a receiver index that is no peer's.
    UnknownIndex,
    /// For a session that has ended or never was.
    NoSession,
    /// Its counter came before: a copy, sent on purpose or replayed.
    Duplicate,
    /// Its counter is further back than the replay window reaches.
    TooOld,
    /// It does not decrypt.
    NotAuthentic,
    /// What it held is no whole IP packet.
    Runt,
    /// The inner source is not one of its peer's allowed IPs.
    SourceNotAllowed,
    /// The inner packet is not IPv6.
    NotIpv6,
    /// The inner packet has IPv6 extension headers or is a fragment.
    ExtensionHeader,
    /// The inner packet is not UDP.
    NotUdp,
    /// The inner UDP header or its checksum is wrong.
    BadUdp,
    /// The inner destination is not our tunnel address.
    WrongDestination,
    /// No socket inside the tunnel has that port.
    NoSocket,
    /// The socket's queue is full.
    QueueFull,
    /// On the way out: no peer has that inner destination.
    NoPeer,
    /// On the way out: the peer has no known endpoint.
    NoEndpoint,
    /// On the way out: the stream, or the neighbour, is gone.
    NoWay,
    /// On the way out: larger than the tunnel's MTU.
    TooBig,
    /// On the way out: the stream's queue is full.
    StreamFull,
    /// On the way out: the real socket did not take it.
    NotSent,
}

impl DropReason {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 22] = [
        Self::Empty,
        Self::Malformed,
        Self::UnknownIndex,
        Self::NoSession,
        Self::Duplicate,
        Self::TooOld,
        Self::NotAuthentic,
        Self::Runt,
        Self::SourceNotAllowed,
        Self::NotIpv6,
        Self::ExtensionHeader,
        Self::NotUdp,
        Self::BadUdp,
        Self::WrongDestination,
        Self::NoSocket,
        Self::QueueFull,
        Self::NoPeer,
        Self::NoEndpoint,
        Self::NoWay,
        Self::TooBig,
        Self::StreamFull,
        Self::NotSent,
    ];

    /// `reason` of `antipode_tunnel_packets_dropped_total`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Malformed => "malformed",
            Self::UnknownIndex => "unknown_index",
            Self::NoSession => "no_session",
            Self::Duplicate => "duplicate",
            Self::TooOld => "too_old",
            Self::NotAuthentic => "not_authentic",
            Self::Runt => "runt",
            Self::SourceNotAllowed => "source_not_allowed",
            Self::NotIpv6 => "not_ipv6",
            Self::ExtensionHeader => "extension_header",
            Self::NotUdp => "not_udp",
            Self::BadUdp => "bad_udp",
            Self::WrongDestination => "wrong_destination",
            Self::NoSocket => "no_socket",
            Self::QueueFull => "queue_full",
            Self::NoPeer => "no_peer",
            Self::NoEndpoint => "no_endpoint",
            Self::NoWay => "no_way",
            Self::TooBig => "too_big",
            Self::StreamFull => "stream_full",
            Self::NotSent => "not_sent",
        }
    }
}
