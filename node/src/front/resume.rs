//! What a client offers of `antipode.resume.v1`: to have a session that can go on elsewhere, or to
//! go on with the one it has (docs/protocol.md, "Resumable clients").

use antipode_proto::resume::{CORE_PREFIX, SUBPROTOCOL};
use antipode_runtime::member::names::is_member_id;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::answer::{Refusal, Retry};

/// What the node agrees on by itself when a client goes on with its session.
pub(super) const AGREED: HeaderValue = HeaderValue::from_static(SUBPROTOCOL);

/// An upgrade, by what its client offers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Offer {
    /// An ordinary WebSocket.
    Plain,
    /// A new session; the client would like to be able to take it elsewhere.
    Resumable,
    /// A session that this core holds goes on.
    Resume {
        /// The core's member id.
        core: String,
    },
}

impl Offer {
    /// Reads the subprotocols of an upgrade.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut is_resumable = false;
        let mut core = None;
        for name in subprotocols(headers) {
            is_resumable |= name == SUBPROTOCOL;
            let Some(id) = name.strip_prefix(CORE_PREFIX) else { continue };
            if core.replace(id).is_some() {
                return Err(malformed("one core holds a session: name it once"));
            }
        }
        match core {
            None if is_resumable => Ok(Self::Resumable),
            None => Ok(Self::Plain),
            Some(_) if !is_resumable => {
                Err(malformed("antipode.core. needs antipode.resume.v1 beside it"))
            }
            Some(id) if is_member_id(id) => Ok(Self::Resume { core: id.to_owned() }),
            Some(_) => {
                Err(malformed("antipode.core. is followed by a core's id: 1 to 63 of a-z0-9-"))
            }
        }
    }
}

/// Whether the answer to an upgrade agrees that the session can go on elsewhere.
pub(super) fn is_agreed(headers: &HeaderMap) -> bool {
    subprotocols(headers).any(|name| name == SUBPROTOCOL)
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim)
}

fn malformed(words: &'static str) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, label: "resume_offer", words, retry: Retry::Fixed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers() {
        check(&[], Ok(Offer::Plain));
        check(&["chat, superchat"], Ok(Offer::Plain));
        check(&["antipode.resume.v2, antipode.x"], Ok(Offer::Plain));
        check(&["antipode.resume.v1"], Ok(Offer::Resumable));
        check(&["chat,antipode.resume.v1 ", "other"], Ok(Offer::Resumable));
        let resume = Offer::Resume { core: "c-1".into() };
        check(&["antipode.resume.v1, antipode.core.c-1, chat"], Ok(resume.clone()));
        check(&["antipode.core.c-1", "antipode.resume.v1"], Ok(resume));
        check(&["antipode.core.c-1"], Err("beside it"));
        check(&["antipode.resume.v1, antipode.core."], Err("1 to 63"));
        check(&["antipode.resume.v1, antipode.core.C_1"], Err("1 to 63"));
        let long = format!("antipode.resume.v1, antipode.core.{}", "a".repeat(64));
        check(&[&long], Err("1 to 63"));
        check(&["antipode.resume.v1, antipode.core.a, antipode.core.a"], Err("once"));
    }

    #[track_caller]
    fn check(lines: &[&str], expected: Result<Offer, &str>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(line).unwrap());
        }
        match (Offer::of(&headers), expected) {
            (Ok(offer), Ok(expected)) => assert_eq!(offer, expected, "{lines:?}"),
            (Err(refusal), Err(words)) => assert!(refusal.words.contains(words), "{lines:?}"),
            (found, expected) => panic!("{lines:?}: {found:?}, not {expected:?}"),
        }
    }
}
