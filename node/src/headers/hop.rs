//! Headers that belong to one hop and go no further: RFC 9110 section 7.6.1.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::{drop_fields, forwarded};

/// Fields of one hop, whether or not `Connection` names them.
///
/// `Connection`, `Keep-Alive`, `Proxy-Connection`, `TE`, `Transfer-Encoding` and `Upgrade` are
/// named by
/// [RFC 9110 §7.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1); the `Proxy-*` fields
/// speak to the proxy next to the client
/// ([§11.7](https://www.rfc-editor.org/rfc/rfc9110#section-11.7)).
const OF_ONE_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Takes off every field that must not be forwarded.
///
/// `TE: trailers` is put back, since trailers are carried to the far end. A `Content-Length` beside
/// a `Transfer-Encoding` is dropped with it (RFC 9112 section 6.3).
pub fn strip(headers: &mut HeaderMap) {
    let named = named_by_connection(headers);
    let trailers = accepts_trailers(headers);
    let is_chunked = headers.contains_key(http::header::TRANSFER_ENCODING);
    drop_fields(headers, |name| {
        OF_ONE_HOP.contains(&name.as_str())
            || named.contains(name)
            || (is_chunked && name == http::header::CONTENT_LENGTH)
    });
    if trailers {
        headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
    }
}

/// The fields that `Connection` lists, but for those that a client has no say in: `Content-Length`,
/// which frames the message, and what proxies say of the client.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    tokens(headers, http::header::CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| *name != http::header::CONTENT_LENGTH && !forwarded::is_claim(name))
        .collect()
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    tokens(headers, http::header::TE).any(|token| token.eq_ignore_ascii_case("trailers"))
}

/// The comma-separated members of every line of one field.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left() {
        check("plain fields stay", &[("cookie", "a=b")], &[("cookie", "a=b")]);
        check(
            "the listed ones go",
            &[
                ("connection", "keep-alive"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("proxy-authorization", "Basic eA=="),
                ("upgrade", "h2c"),
                ("accept", "*/*"),
            ],
            &[("accept", "*/*")],
        );
        check(
            "so do those that Connection names, in any case, on any line",
            &[
                ("connection", "close, X-One"),
                ("connection", "x-two"),
                ("x-one", "1"),
                ("x-two", "2"),
            ],
            &[],
        );
        check(
            "chunked outranks a length",
            &[("transfer-encoding", "chunked"), ("content-length", "5")],
            &[],
        );
        check(
            "a length can't be taken off",
            &[("connection", "content-length"), ("content-length", "5")],
            &[("content-length", "5")],
        );
        check(
            "what a proxy said can't be taken off",
            &[("connection", "x-forwarded-for"), ("x-forwarded-for", "192.0.2.1")],
            &[("x-forwarded-for", "192.0.2.1")],
        );
        check("trailers are understood", &[("te", "gzip, Trailers")], &[("te", "trailers")]);
        check("other codings are not", &[("te", "gzip;q=0.5")], &[]);
        check("a bad name is passed over", &[("connection", "b@d, x-one"), ("x-one", "1")], &[]);
    }

    #[track_caller]
    fn check(what: &str, given: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers
                .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        strip(&mut headers);
        let left: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(left, expected, "{what}");
    }
}
