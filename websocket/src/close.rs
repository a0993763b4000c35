//! Close codes: [RFC 6455 section 7.4](https://www.rfc-editor.org/rfc/rfc6455#section-7.4) and the
//! [IANA registry](https://www.iana.org/assignments/websocket/).

/// The purpose was fulfilled.
pub const NORMAL: u16 = 1000;
/// The server goes down, or the browser has left the page.
pub const GOING_AWAY: u16 = 1001;
/// The peer broke the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// Never on the wire: the close frame had no code.
pub const NO_STATUS: u16 = 1005;
/// Never on the wire: the socket ended without a close frame.
pub const ABNORMAL: u16 = 1006;
/// Data that does not fit its type, such as text that is not UTF-8.
pub const INVALID_PAYLOAD: u16 = 1007;
/// A rule of the receiver's was broken.
pub const POLICY: u16 = 1008;
/// A frame or message larger than the receiver takes.
pub const TOO_BIG: u16 = 1009;
/// The server met something unexpected.
pub const INTERNAL_ERROR: u16 = 1011;
/// The service restarts; come back.
pub const SERVICE_RESTART: u16 = 1012;
/// The service is overloaded, or can't be reached now; come back later.
pub const TRY_AGAIN_LATER: u16 = 1013;
/// A gateway got no good answer from its upstream.
pub const BAD_GATEWAY: u16 = 1014;

/// Most bytes of a close reason: a control frame's 125 less the code.
pub const REASON_BYTES_MAX: usize = 123;

/// Whether a close frame may carry `code`: as npm `ws` and Autobahn have it.
#[must_use]
pub fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Cuts `reason` to [`REASON_BYTES_MAX`] bytes, at the end of a character.
#[must_use]
pub fn fit_reason(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        for code in [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
            assert!(is_sendable(code), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!is_sendable(code), "{code}");
        }
    }

    #[test]
    fn a_long_reason_ends_at_a_character() {
        let reason = "a".repeat(122) + "é";
        assert_eq!(fit_reason(&reason), "a".repeat(122));
        assert_eq!(fit_reason("short"), "short");
    }
}
