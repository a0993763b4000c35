//! Texts: of handshakes and headers, of tokens, of ranges, of what members say of themselves.

use antipode_core::resume::token::{KEY_BYTES, SessionId, TOKEN_BYTES, TokenKey};
use antipode_gateway::member::{Profile, Role, check_name};
use antipode_node::headers::forwarded::{Arrival, Scheme, rewrite};
use antipode_node::headers::trusted::TrustedProxies;
use antipode_node::headers::{from_wire, hop, host, to_wire};
use antipode_proto::registry::v1::{Directive, Heartbeat, Introduction};
use antipode_runtime::member::token::{JoinToken, Pin};
use antipode_tunnel::Cidr;
use antipode_websocket::handshake;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use prost::Message;
use secrecy::ExposeSecret;

/// A request and an answer with any headers.
///
/// # Panics
///
/// On a bug.
pub fn websocket_handshake(data: &[u8]) {
    let (request, response) = halves(data);
    let (request, response) = (headers(request), headers(response));
    let _ = handshake::is_wanted(&request);
    for method in [Method::GET, Method::POST] {
        for version in [Version::HTTP_10, Version::HTTP_11] {
            match handshake::check_request(&method, version, &request) {
                Ok(key) => assert_eq!(key.len(), 24, "a key is 16 bytes in base64"),
                Err(error) => {
                    assert!(error.status().is_client_error(), "{error}");
                    let _ = (error.headers(), error.label());
                }
            }
        }
    }
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let _ = handshake::check_response(StatusCode::SWITCHING_PROTOCOLS, &response, key, &request);
    let _ = handshake::deflate_agreed(&response);
}

/// What a client claims of itself, what is between two hops, whom a request is for, and headers to
/// the trunk and back.
///
/// # Panics
///
/// On a bug.
pub fn http_headers(data: &[u8]) {
    let (target, rest) = halves(data);
    let fields = headers(rest);
    let target: Uri =
        std::str::from_utf8(target).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    if let Ok(authority) = host::authority(&target, &fields) {
        assert!(!authority.is_empty(), "a host has a name");
    }
    let wire = to_wire(&fields);
    let back = from_wire(wire.clone());
    assert_eq!(to_wire(&back), wire, "headers changed on their way");

    let mut stripped = fields.clone();
    hop::strip(&mut stripped);
    assert!(!stripped.contains_key(http::header::CONNECTION), "a hop's own header passed");

    let peer = "192.0.2.7".parse().expect("an address");
    for trusted in [Vec::new(), vec!["0.0.0.0/0".parse().expect("a range")]] {
        let is_trusted = !trusted.is_empty();
        let proxies = TrustedProxies::new(trusted);
        let arrival = Arrival { peer, scheme: Scheme::Https, authority: "chat.example" };
        let mut rewritten = fields.clone();
        let client = rewrite(&mut rewritten, arrival, &proxies);
        assert!(is_trusted || client.ip == peer, "a stranger said who it is");
    }
}

/// A join token: any text; and what is made of any parts says the same when it is read.
///
/// # Panics
///
/// On a bug.
pub fn join_token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(token) = text.parse::<JoinToken>() {
        assert!(!format!("{token:?}").contains(text.trim()), "the secret shows");
    }
    let (secret, gateway) = text.split_once('@').unwrap_or((text, "gateway.example:443"));
    let pin = Pin::of_public_key_info(data);
    let Ok(token) = JoinToken::new(gateway.to_owned(), pin, secret.into()) else { return };
    let again: JoinToken = token.expose().expose_secret().parse().expect("what was written parses");
    assert_eq!(again.gateway(), gateway, "a token changed on its way");
    assert_eq!(again.secret().expose_secret(), secret, "a token changed on its way");
    assert_eq!(again.pin(), pin, "a token changed on its way");
}

/// A token of a session: nobody but the key's owner makes one.
///
/// # Panics
///
/// If somebody did.
pub fn resume_token(data: &[u8]) {
    let key = TokenKey::new(&[42; KEY_BYTES]);
    let Some(session) = key.verify(data) else { return };
    assert_eq!(data.len(), TOKEN_BYTES, "a token has one length");
    let whole = SessionId::new(session.bytes());
    assert_eq!(key.sign(whole).as_bytes(), data, "a token that nobody has signed");
}

/// A range of addresses: what parses says the same again.
///
/// # Panics
///
/// On a bug.
pub fn cidr(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(range) = text.parse::<Cidr>() else { return };
    let again: Cidr = range.to_string().parse().expect("what was written parses");
    assert_eq!(again, range, "a range changed on its way");
    if let Some(ip) = text.split('/').next().and_then(|ip| ip.parse().ok()) {
        let _ = range.contains(ip);
    }
}

/// What a member says to its gateway, and the gateway to it.
///
/// # Panics
///
/// On a bug.
pub fn member_words(data: &[u8]) {
    if let Ok(said) = Introduction::decode(data) {
        for role in [Role::Node, Role::Core] {
            let Ok(profile) = Profile::check(role, &said) else { continue };
            let _ = profile.position();
            let peer = profile.to_peer("id", "name", role, [3; 32]);
            assert!(peer.encoded_len() < 1 << 20, "a peer is small");
        }
    }
    let _ = Heartbeat::decode(data);
    let _ = Directive::decode(data);
    if let Ok(name) = std::str::from_utf8(data)
        && check_name(name).is_ok()
    {
        assert!(name.len() <= 32, "a name has a limit");
    }
}

/// Lines of `name: value`; what is none is left out.
fn headers(text: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let name = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// What stands before the first empty line, and what behind it.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    match data.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &[]),
    }
}
