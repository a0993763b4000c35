//! Tables for the handshake checks.

use super::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const GOOD: &[(&str, &str)] = &[
    ("host", "chat.example:8443"),
    ("upgrade", "websocket"),
    ("connection", "keep-alive, Upgrade"),
    ("sec-websocket-key", KEY),
    ("sec-websocket-version", "13"),
];

#[test]
fn requests() {
    use RequestError::{Connection, Host, Key, Upgrade, WebSocketVersion};

    request("as browsers send it", &[], &[], Ok(KEY));
    request("case does not matter", &["upgrade"], &[("upgrade", "WebSocket")], Ok(KEY));
    request("an ipv6 host", &["host"], &[("host", "[::1]:80")], Ok(KEY));
    request("no host", &["host"], &[], Err(Host));
    request("two hosts", &[], &[("host", "other.example")], Err(Host));
    request("a path in host", &["host"], &[("host", "a/b")], Err(Host));
    request("a space in host", &["host"], &[("host", "a b")], Err(Host));
    request("a user in host", &["host"], &[("host", "me@a")], Err(Host));
    request("an empty host", &["host"], &[("host", "")], Err(Host));
    request("no upgrade", &["upgrade"], &[], Err(Upgrade));
    request("another upgrade", &["upgrade"], &[("upgrade", "h2c")], Err(Upgrade));
    request("no connection", &["connection"], &[], Err(Connection));
    request("close", &["connection"], &[("connection", "close")], Err(Connection));
    request("no key", &["sec-websocket-key"], &[], Err(Key));
    request("two keys", &[], &[("sec-websocket-key", KEY)], Err(Key));
    let key = |key| [("sec-websocket-key", key)];
    request("a key of 15 bytes", &["sec-websocket-key"], &key("AAAAAAAAAAAAAAAAAAAA"), Err(Key));
    request("a key not in base64", &["sec-websocket-key"], &key("!!!"), Err(Key));
    request("no version", &["sec-websocket-version"], &[], Err(WebSocketVersion));
    let version = |version| [("sec-websocket-version", version)];
    request("version 8", &["sec-websocket-version"], &version("8"), Err(WebSocketVersion));
}

#[test]
fn methods_versions_and_what_to_answer() {
    let good = headers(GOOD);
    let post = check_request(&Method::POST, Version::HTTP_11, &good).unwrap_err();
    assert_eq!((post.status().as_u16(), post.headers()[ALLOW].as_bytes()), (405, &b"GET"[..]));
    let old = check_request(&Method::GET, Version::HTTP_10, &good).unwrap_err();
    assert_eq!(old.status(), 400);

    let mut other = good;
    other.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("12"));
    let error = check_request(&Method::GET, Version::HTTP_11, &other).unwrap_err();
    assert_eq!(error.status(), 426);
    assert_eq!(error.headers()[SEC_WEBSOCKET_VERSION], "13");
}

#[test]
fn what_counts_as_an_attempt() {
    assert!(is_wanted(&headers(GOOD)));
    assert!(is_wanted(&headers(&[("sec-websocket-key", KEY)])));
    assert!(!is_wanted(&headers(&[("upgrade", "h2c"), ("connection", "upgrade")])));
}

/// RFC 6455 section 1.3 has this pair.
#[test]
fn accept_key_of_the_rfc() {
    assert_eq!(accept_key(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(request_key(*b"the sample nonce"), KEY);
}

#[test]
fn responses() {
    use ResponseError::{Accept, Connection, Extension, Protocol, Upgrade};

    response("plain", &[], &[], Ok(()));
    response("no upgrade", &["upgrade"], &[], Err(Upgrade));
    response("no connection", &["connection"], &[], Err(Connection));
    response("no accept", &["sec-websocket-accept"], &[], Err(Accept));
    let accept = [("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOA=")];
    response("a wrong accept", &["sec-websocket-accept"], &accept, Err(Accept));
    response("an offered protocol", &[], &[("sec-websocket-protocol", "chat.v2")], Ok(()));
    response("another protocol", &[], &[("sec-websocket-protocol", "x")], Err(Protocol));
    let twice = [("sec-websocket-protocol", "chat"), ("sec-websocket-protocol", "chat.v2")];
    response("two protocols", &[], &twice, Err(Protocol));
    let deflate = [("sec-websocket-extensions", "permessage-deflate; server_no_context_takeover")];
    response("the offered extension", &[], &deflate, Ok(()));
    response("another extension", &[], &[("sec-websocket-extensions", "x; y=1")], Err(Extension));
}

#[test]
fn a_status_other_than_101_is_no_websocket() {
    let outcome = check_response(StatusCode::OK, &HeaderMap::new(), KEY, &HeaderMap::new());
    assert_eq!(outcome, Err(ResponseError::Status));
}

#[test]
fn deflate() {
    let agreed = |value| deflate_agreed(&headers(&[("sec-websocket-extensions", value)]));
    assert!(agreed("permessage-deflate"));
    assert!(agreed("x; y=1, permessage-deflate;client_max_window_bits=12"));
    assert!(!agreed("x-permessage-deflate"));
    assert!(!deflate_agreed(&HeaderMap::new()));
}

/// The good request without `left_out` and with `added`.
#[track_caller]
fn request(
    what: &str,
    left_out: &[&str],
    added: &[(&'static str, &str)],
    expected: Result<&str, RequestError>,
) {
    let headers = changed(GOOD, left_out, added);
    assert_eq!(check_request(&Method::GET, Version::HTTP_11, &headers), expected, "{what}");
}

#[track_caller]
fn response(
    what: &str,
    left_out: &[&str],
    added: &[(&'static str, &str)],
    expected: Result<(), ResponseError>,
) {
    let good = [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ];
    let asked = headers(&[
        ("sec-websocket-protocol", "chat, chat.v2"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
    ]);
    let answer = changed(&good, left_out, added);
    let outcome = check_response(StatusCode::SWITCHING_PROTOCOLS, &answer, KEY, &asked);
    assert_eq!(outcome, expected, "{what}");
}

fn changed(
    good: &[(&'static str, &str)],
    left_out: &[&str],
    added: &[(&'static str, &str)],
) -> HeaderMap {
    let kept = good.iter().filter(|(name, _)| !left_out.contains(name));
    let all: Vec<_> = kept.chain(added).copied().collect();
    headers(&all)
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}
