//! What a client offers among its subprotocols, and what of that is for a backend's eyes.

use antipode_proto::resume::{PROTOCOL_BYTES_MAX, SUBPROTOCOL};
use antipode_proto::trunk::v1::{Header, RequestHead, SessionKind};

/// Subprotocols that begin so are between the client and us.
const OURS: &str = "antipode.";

const PROTOCOL_HEADER: &str = "sec-websocket-protocol";
const EXTENSIONS_HEADER: &str = "sec-websocket-extensions";

/// What the client wants of us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Offer {
    /// An ordinary exchange or WebSocket.
    Plain,
    /// A new session, resumable if we are able to.
    Begin,
    /// To go on with a session. The node has answered the upgrade already.
    Attach,
}

/// Reads the offer, and takes out of the request what no backend should see.
pub(crate) fn take(head: &mut RequestHead) -> Offer {
    if head.kind() != SessionKind::Websocket {
        return Offer::Plain;
    }
    if head.answered_early && head.resumable {
        return Offer::Attach;
    }
    let names = protocols(head);
    if !names.iter().any(|name| name.starts_with(OURS)) {
        return Offer::Plain;
    }
    let speaks_resume = names.iter().any(|name| name == SUBPROTOCOL);
    let of_the_app: Vec<_> = names.into_iter().filter(|name| !name.starts_with(OURS)).collect();
    // The backend's choice goes into the welcome, which bounds it.
    let fits = of_the_app.iter().all(|name| name.len() <= PROTOCOL_BYTES_MAX);
    head.headers.retain(|header| !is(header, PROTOCOL_HEADER));
    if !of_the_app.is_empty() {
        let value = of_the_app.join(", ").into_bytes().into();
        head.headers.push(Header { name: PROTOCOL_HEADER.to_owned(), value });
    }
    if speaks_resume && fits && !head.answered_early { Offer::Begin } else { Offer::Plain }
}

/// A resume may begin between any two messages, so that no compressor may span them.
pub(crate) fn drop_extensions(head: &mut RequestHead) {
    head.headers.retain(|header| !is(header, EXTENSIONS_HEADER));
}

/// Puts our subprotocol in the place of the one that the backend chose, which is returned.
pub(crate) fn answer(headers: &mut Vec<Header>) -> String {
    let chosen = headers.iter().find(|header| is(header, PROTOCOL_HEADER));
    let chosen = chosen.map(|header| String::from_utf8_lossy(&header.value).into_owned());
    headers.retain(|header| !is(header, PROTOCOL_HEADER));
    headers.push(ours());
    chosen.unwrap_or_default()
}

/// The header that chooses our subprotocol.
pub(crate) fn ours() -> Header {
    Header { name: PROTOCOL_HEADER.to_owned(), value: SUBPROTOCOL.into() }
}

/// All subprotocols offered, in order, from all lines.
fn protocols(head: &RequestHead) -> Vec<String> {
    let lines = head.headers.iter().filter(|header| is(header, PROTOCOL_HEADER));
    let texts = lines.filter_map(|header| std::str::from_utf8(&header.value).ok());
    let names = texts.flat_map(|text| text.split(',')).map(str::trim);
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn is(header: &Header, name: &str) -> bool {
    header.name.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_does_not_reach_a_backend() {
        check("no subprotocol", &[], Offer::Plain, &[]);
        check("the app's own", &["chat, v2.chat"], Offer::Plain, &["chat, v2.chat"]);
        check("ours alone", &["antipode.resume.v1"], Offer::Begin, &[]);
        check("with the app's", &["antipode.resume.v1, chat,v2"], Offer::Begin, &["chat, v2"]);
        check("on two lines", &["chat", "antipode.resume.v1 , v2"], Offer::Begin, &["chat, v2"]);
        check("a later version", &["antipode.resume.v2, chat"], Offer::Plain, &["chat"]);
        check("the hint alone", &["antipode.core.abc, chat"], Offer::Plain, &["chat"]);
        check("not quite ours", &["antipode-resume.v1"], Offer::Plain, &["antipode-resume.v1"]);
        let long = "x".repeat(PROTOCOL_BYTES_MAX + 1);
        let offered = format!("antipode.resume.v1, {long}");
        check("too long for a welcome", &[&offered], Offer::Plain, &[&long]);
    }

    #[test]
    fn a_client_that_was_answered_early_begins_nothing() {
        let mut head = head(&["antipode.resume.v1, chat"]);
        head.answered_early = true;
        assert_eq!(take(&mut head), Offer::Plain);
        head.resumable = true;
        assert_eq!(take(&mut head), Offer::Attach);
        head.kind = SessionKind::Http.into();
        assert_eq!(take(&mut head), Offer::Plain, "an exchange is never resumed");
    }

    #[test]
    fn extensions_are_dropped_on_all_lines() {
        let mut head = head(&["chat"]);
        for name in ["sec-websocket-extensions", "Sec-WebSocket-Extensions"] {
            head.headers.push(Header { name: name.to_owned(), value: "permessage-deflate".into() });
        }
        drop_extensions(&mut head);
        assert_eq!(head.headers.len(), 1);
    }

    #[test]
    fn the_backends_choice_is_told_apart() {
        let mut headers = head(&["chat"]).headers;
        assert_eq!(answer(&mut headers), "chat");
        assert_eq!(headers, [ours()]);
        assert_eq!(answer(&mut Vec::new()), "");
    }

    #[track_caller]
    fn check(what: &str, offered: &[&str], expected: Offer, left: &[&str]) {
        let mut head = head(offered);
        assert_eq!(take(&mut head), expected, "{what}");
        let values: Vec<_> =
            head.headers.iter().map(|header| String::from_utf8_lossy(&header.value)).collect();
        assert_eq!(values, left, "{what}");
    }

    fn head(offered: &[&str]) -> RequestHead {
        let line = |value: &&str| Header {
            name: PROTOCOL_HEADER.to_owned(),
            value: value.as_bytes().to_vec().into(),
        };
        RequestHead {
            kind: SessionKind::Websocket.into(),
            headers: offered.iter().map(line).collect(),
            ..RequestHead::default()
        }
    }
}
