//! What each fuzz target does with its bytes: a plain function, so that the same bytes can be
//! replayed by an ordinary test.
//!
//! | module | targets |
//! |---|---|
//! | [`frames`] | resume frames, trunk batches, WebSocket frames, messages put together |
//! | [`texts`] | handshakes, headers, tokens, ranges, what members say of themselves |
//! | [`packets`] | what comes out of the tunnel, and into it |
//! | [`links`] | what travels beside WireGuard: probes, streams and how they are opened |
//! | [`mesh`] | what neighbours send on |
//! | [`sessions`] | session machines: any calls in any order, and states that are handed over |
//!
//! A target that returns has passed. The fuzzers stand in `fuzz/`, their corpora in `fuzz/corpus/`.

pub mod frames;
mod input;
pub mod links;
pub mod mesh;
pub mod packets;
pub mod sessions;
pub mod texts;

/// What a fuzzer does with an input.
pub type Target = fn(&[u8]);

/// Every target under the name of its fuzzer and its corpus.
pub const TARGETS: [(&str, Target); 19] = [
    ("resume_frame", frames::resume_frame),
    ("resume_message", frames::resume_message),
    ("trunk_batch", frames::trunk_batch),
    ("websocket_reader", frames::websocket_reader),
    ("websocket_state", frames::websocket_state),
    ("websocket_handshake", texts::websocket_handshake),
    ("http_headers", texts::http_headers),
    ("join_token", texts::join_token),
    ("resume_token", texts::resume_token),
    ("cidr", texts::cidr),
    ("member_words", texts::member_words),
    ("tunnel_packet", packets::tunnel_packet),
    ("tunnel_device", packets::tunnel_device),
    ("tunnel_forward", mesh::tunnel_forward),
    ("tunnel_probe", links::tunnel_probe),
    ("tunnel_stream", links::tunnel_stream),
    ("tunnel_upgrade", links::tunnel_upgrade),
    ("session_state", sessions::session_state),
    ("session_calls", sessions::session_calls),
];
