//! The upgrade that opens a stream: plain HTTP/1.1, as a proxy on the way expects it of a
//! WebSocket.

use antipode_websocket::handshake::{
    RequestError, ResponseError, accept_key, check_request, check_response,
};
use http::header::{HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::{Method, StatusCode, Version};

/// Where streams are opened.
pub(super) const PATH: &str = "/.antipode/tunnel";

/// The subprotocol: a binary message is a datagram.
const SUBPROTOCOL: &str = "antipode.tunnel.v1";

/// Most bytes of a request or an answer; a few hundred are usual.
pub const UPGRADE_HEAD_BYTES_MAX: usize = 8 << 10;

/// Most header lines of either; proxies add a few.
const UPGRADE_HEADERS_MAX: usize = 64;

/// Why no stream was opened.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum UpgradeError {
    /// Not HTTP, or more of it than anyone needs.
    #[error("not an HTTP/1.1 head of at most {UPGRADE_HEAD_BYTES_MAX} bytes")]
    NotHttp,
    /// The request is for something else.
    #[error("asked for another path")]
    Path,
    /// The request speaks another version.
    #[error("no subprotocol {SUBPROTOCOL}")]
    Subprotocol,
    /// The request opens no WebSocket.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The answer opens none.
    #[error("answered {status}")]
    Answer {
        /// What it says instead of 101.
        status: u16,
        /// What is wrong with it.
        #[source]
        source: ResponseError,
    },
}

/// A request for a stream on `host`, with the key that its answer has to match.
pub(super) fn request(host: &str, key: &str) -> Vec<u8> {
    format!(
        "GET {PATH} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    )
    .into_bytes()
}

/// Reads a request: how long it is and what to answer, or `None` if there is more of it to come.
///
/// # Errors
/// Why it is refused; [`refusal`] has the words.
pub(super) fn read_request(bytes: &[u8]) -> Result<Option<(usize, Vec<u8>)>, UpgradeError> {
    let mut lines = [httparse::EMPTY_HEADER; UPGRADE_HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut lines);
    let Some(len) = complete(bytes, parsed.parse(bytes))? else { return Ok(None) };
    let headers = header_map(parsed.headers)?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let method: Method =
        parsed.method.and_then(|text| text.parse().ok()).ok_or(UpgradeError::NotHttp)?;
    if parsed.path.map(|path| path.split('?').next().unwrap_or(path)) != Some(PATH) {
        return Err(UpgradeError::Path);
    }
    let key = check_request(&method, version, &headers)?;
    let mut offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let speaks = |line: &HeaderValue| {
        line.to_str().is_ok_and(|line| line.split(',').any(|one| one.trim() == SUBPROTOCOL))
    };
    if !offered.any(speaks) {
        return Err(UpgradeError::Subprotocol);
    }
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n",
        accept_key(key)
    );
    Ok(Some((len, answer.into_bytes())))
}

/// What whoever asked wrongly is told.
pub(super) fn refusal(error: &UpgradeError) -> Vec<u8> {
    let (status, headers) = match error {
        UpgradeError::NotHttp | UpgradeError::Subprotocol | UpgradeError::Answer { .. } => {
            (StatusCode::BAD_REQUEST, HeaderMap::new())
        }
        UpgradeError::Path => (StatusCode::NOT_FOUND, HeaderMap::new()),
        UpgradeError::Request(error) => (error.status(), error.headers()),
    };
    turn_away(status, &headers)
}

/// An answer that ends the connection.
pub(super) fn turn_away(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n").into_bytes();
    for (name, value) in headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    if !headers.contains_key(http::header::CONNECTION) {
        text.extend_from_slice(b"Connection: close\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// Reads the answer to a request with `key`: how long it is, or `None` if there is more to come.
///
/// # Errors
/// Why there is no stream.
pub(super) fn read_answer(bytes: &[u8], key: &str) -> Result<Option<usize>, UpgradeError> {
    let mut lines = [httparse::EMPTY_HEADER; UPGRADE_HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut lines);
    let Some(len) = complete(bytes, parsed.parse(bytes))? else { return Ok(None) };
    let code = parsed.code.unwrap_or_default();
    let status = StatusCode::from_u16(code).map_err(|_| UpgradeError::NotHttp)?;
    let headers = header_map(parsed.headers)?;
    let mut asked = HeaderMap::new();
    asked.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    check_response(status, &headers, key, &asked)
        .map_err(|source| UpgradeError::Answer { status: code, source })?;
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Err(UpgradeError::Subprotocol);
    }
    Ok(Some(len))
}

/// The length of a head that is whole.
fn complete(
    bytes: &[u8],
    parsed: Result<httparse::Status<usize>, httparse::Error>,
) -> Result<Option<usize>, UpgradeError> {
    match parsed {
        Ok(httparse::Status::Complete(len)) if len <= UPGRADE_HEAD_BYTES_MAX => Ok(Some(len)),
        Ok(httparse::Status::Partial) if bytes.len() < UPGRADE_HEAD_BYTES_MAX => Ok(None),
        Ok(httparse::Status::Complete(_) | httparse::Status::Partial) | Err(_) => {
            Err(UpgradeError::NotHttp)
        }
    }
}

fn header_map(lines: &[httparse::Header<'_>]) -> Result<HeaderMap, UpgradeError> {
    let mut headers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes());
        let value = HeaderValue::from_bytes(line.value);
        let (Ok(name), Ok(value)) = (name, value) else { return Err(UpgradeError::NotHttp) };
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use antipode_websocket::handshake::request_key;

    use super::*;

    #[test]
    fn a_request_is_answered_and_the_answer_taken() {
        let key = request_key([7; 16]);
        let asked = request("core.example.com:443", &key);
        for len in 0..asked.len() {
            assert_eq!(read_request(&asked[..len]), Ok(None), "{len}");
        }
        let mut more = asked.clone();
        more.extend_from_slice(b"\x82\x00");
        let (len, answer) = read_request(&more).unwrap().unwrap();
        assert_eq!(len, asked.len());
        for len in 0..answer.len() {
            assert_eq!(read_answer(&answer[..len], &key), Ok(None), "{len}");
        }
        assert_eq!(read_answer(&answer, &key), Ok(Some(answer.len())));
        let other = read_answer(&answer, &request_key([8; 16])).unwrap_err();
        assert_eq!(other, UpgradeError::Answer { status: 101, source: ResponseError::Accept });
    }

    #[test]
    fn wrong_requests_are_refused_in_words() {
        let good = String::from_utf8(request("a", &request_key([7; 16]))).unwrap();
        for (what, from, to, status) in [
            ("another path", PATH, "/", "404 Not Found"),
            ("a longer path", PATH, "/.antipode/tunnels", "404 Not Found"),
            ("another method", "GET", "POST", "405 Method Not Allowed"),
            ("no upgrade", "Upgrade: websocket\r\n", "", "400 Bad Request"),
            ("another version", "13", "12", "426 Upgrade Required"),
            ("another subprotocol", SUBPROTOCOL, "chat", "400 Bad Request"),
            ("not HTTP", "HTTP/1.1", "SSH-2.0", "400 Bad Request"),
            ("no host", "Host: a\r\n", "", "400 Bad Request"),
        ] {
            let error = read_request(good.replacen(from, to, 1).as_bytes()).unwrap_err();
            let told = String::from_utf8(refusal(&error)).unwrap();
            assert!(told.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{what}: {told}");
            assert!(told.ends_with("\r\n\r\n"), "{what}: {told}");
        }
    }

    #[test]
    fn heads_have_an_end() {
        let endless =
            [b"GET / HTTP/1.1\r\nA: ".as_slice(), &[b'a'; UPGRADE_HEAD_BYTES_MAX]].concat();
        assert_eq!(read_request(&endless).unwrap_err(), UpgradeError::NotHttp);
        assert_eq!(read_request(&endless[..UPGRADE_HEAD_BYTES_MAX - 1]), Ok(None));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
        assert_eq!(read_request(many.as_bytes()).unwrap_err(), UpgradeError::NotHttp);
    }

    #[test]
    fn other_answers_open_nothing() {
        let key = request_key([7; 16]);
        let (_, answer) = read_request(&request("a", &key)).unwrap().unwrap();
        let answer = String::from_utf8(answer).unwrap();
        for (what, from, to, expected) in [
            ("a portal", "101 Switching Protocols", "302 Found", "answered 302"),
            ("no upgrade", "Upgrade: websocket\r\n", "", "answered 101"),
            ("another subprotocol", SUBPROTOCOL, "chat", "answered 101"),
            ("not HTTP", "HTTP/1.1", "220 mail", "not an HTTP"),
        ] {
            let error = read_answer(answer.replacen(from, to, 1).as_bytes(), &key).unwrap_err();
            assert!(error.to_string().contains(expected), "{what}: {error}");
        }
        let line = format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n");
        let none = answer.replacen(&line, "", 1);
        assert_eq!(read_answer(none.as_bytes(), &key), Err(UpgradeError::Subprotocol));
    }
}
