//! The opening handshake: what a server must check in a request (RFC 6455 section 4.2.1), and a
//! client in an answer (section 4.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    ALLOW, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{Method, StatusCode, Version};
use tungstenite::handshake::derive_accept_key;

#[cfg(test)]
mod tests;

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`.
#[must_use]
pub fn accept_key(key: &str) -> String {
    derive_accept_key(key.as_bytes())
}

/// `Sec-WebSocket-Key` from 16 random bytes.
#[must_use]
pub fn request_key(random: [u8; 16]) -> String {
    STANDARD.encode(random)
}

/// Whether a request means to open a WebSocket, well formed or not: then [`check_request`] says
/// what it is worth. Anything else is plain HTTP.
#[must_use]
pub fn is_wanted(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket") || headers.contains_key(SEC_WEBSOCKET_KEY)
}

/// Checks a client's request and returns its key.
///
/// # Errors
/// What is wrong with it, and so which 4xx to answer.
pub fn check_request<'a>(
    method: &Method,
    version: Version,
    headers: &'a HeaderMap,
) -> Result<&'a str, RequestError> {
    if method != Method::GET {
        return Err(RequestError::Method);
    }
    if version < Version::HTTP_11 {
        return Err(RequestError::HttpVersion);
    }
    let host = only(headers, &HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_authority) {
        return Err(RequestError::Host);
    }
    if !has_token(headers, &UPGRADE, "websocket") {
        return Err(RequestError::Upgrade);
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err(RequestError::Connection);
    }
    if only(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version.as_bytes() != b"13") {
        return Err(RequestError::WebSocketVersion);
    }
    let key = only(headers, &SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    key.filter(|key| is_key(key)).ok_or(RequestError::Key)
}

/// Why a request opens no WebSocket.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// Section 4.2.1 item 1.
    #[error("a websocket is opened with GET")]
    Method,
    /// Section 4.2.1 item 1.
    #[error("a websocket needs HTTP/1.1")]
    HttpVersion,
    /// Section 4.2.1 item 2, and RFC 9112 section 3.2: exactly one, and an authority.
    #[error("Host is missing, repeated or malformed")]
    Host,
    /// Section 4.2.1 item 3.
    #[error("Upgrade does not say websocket")]
    Upgrade,
    /// Section 4.2.1 item 4.
    #[error("Connection does not say Upgrade")]
    Connection,
    /// Section 4.2.1 item 5: exactly one, 16 bytes in base64.
    #[error("Sec-WebSocket-Key is missing, repeated or not 16 bytes in base64")]
    Key,
    /// Section 4.2.2 item 4.
    #[error("Sec-WebSocket-Version is not 13")]
    WebSocketVersion,
}

impl RequestError {
    /// The status to answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::HttpVersion | Self::Host | Self::Upgrade | Self::Connection | Self::Key => {
                StatusCode::BAD_REQUEST
            }
        }
    }

    /// Headers that the answer owes, such as the version that would do.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        match self {
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET"));
            }
            Self::WebSocketVersion => {
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            }
            Self::HttpVersion | Self::Host | Self::Upgrade | Self::Connection | Self::Key => {}
        }
        headers
    }

    /// One of a fixed set, for a counter.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::HttpVersion => "http_version",
            Self::Host => "host",
            Self::Upgrade => "upgrade",
            Self::Connection => "connection",
            Self::Key => "key",
            Self::WebSocketVersion => "websocket_version",
        }
    }
}

/// Checks a server's 101 against what was asked with `key` in `request`.
///
/// # Errors
/// What the server did against RFC 6455 section 4.1; the WebSocket must not be used.
pub fn check_response(
    status: StatusCode,
    response: &HeaderMap,
    key: &str,
    request: &HeaderMap,
) -> Result<(), ResponseError> {
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(ResponseError::Status);
    }
    if !has_token(response, &UPGRADE, "websocket") {
        return Err(ResponseError::Upgrade);
    }
    if !has_token(response, &CONNECTION, "upgrade") {
        return Err(ResponseError::Connection);
    }
    let accept = only(response, &SEC_WEBSOCKET_ACCEPT);
    if accept.is_none_or(|accept| accept.as_bytes().trim_ascii() != accept_key(key).as_bytes()) {
        return Err(ResponseError::Accept);
    }
    if response.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        let chosen = only(response, &SEC_WEBSOCKET_PROTOCOL).and_then(|v| v.to_str().ok());
        let offered = |chosen: &str| tokens(request, &SEC_WEBSOCKET_PROTOCOL).any(|t| t == chosen);
        if !chosen.is_some_and(offered) {
            return Err(ResponseError::Protocol);
        }
    }
    let mut agreed = tokens(response, &SEC_WEBSOCKET_EXTENSIONS).map(extension_name);
    let offered =
        |name: &str| tokens(request, &SEC_WEBSOCKET_EXTENSIONS).any(|t| extension_name(t) == name);
    if !agreed.all(offered) {
        return Err(ResponseError::Extension);
    }
    Ok(())
}

/// Why a server's answer opens no WebSocket.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ResponseError {
    /// Not 101: an ordinary answer.
    #[error("status is not 101")]
    Status,
    /// Section 4.1, second list, item 2.
    #[error("Upgrade does not say websocket")]
    Upgrade,
    /// Item 3.
    #[error("Connection does not say Upgrade")]
    Connection,
    /// Item 4.
    #[error("Sec-WebSocket-Accept does not match the key")]
    Accept,
    /// Item 5.
    #[error("extension was not offered")]
    Extension,
    /// Item 6.
    #[error("subprotocol was not offered")]
    Protocol,
}

impl ResponseError {
    /// One of a fixed set, for a counter.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Upgrade => "upgrade",
            Self::Connection => "connection",
            Self::Accept => "accept",
            Self::Extension => "extension",
            Self::Protocol => "protocol",
        }
    }
}

/// Whether the headers of a 101 agree on permessage-deflate, and so on RSV1 (RFC 7692).
#[must_use]
pub fn deflate_agreed(response: &HeaderMap) -> bool {
    tokens(response, &SEC_WEBSOCKET_EXTENSIONS)
        .any(|extension| extension_name(extension) == "permessage-deflate")
}

/// Items of a comma-separated header, over all its lines.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

/// The name before an extension's parameters.
fn extension_name(extension: &str) -> &str {
    extension.split(';').next().unwrap_or_default().trim()
}

/// The header's value if it has exactly one line.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).into_iter();
    let line = lines.next()?;
    lines.next().is_none().then_some(line)
}

fn is_key(key: &str) -> bool {
    STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// RFC 9110 section 7.2: host and port, no user, no path.
fn is_authority(host: &str) -> bool {
    !host.contains('@') && host.parse::<http::uri::Authority>().is_ok()
}
