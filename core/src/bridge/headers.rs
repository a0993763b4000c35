//! Which headers cross: all but those of one hop (RFC 9110 section 7.6.1), as they came.

use antipode_proto::trunk::v1::{Header, RequestHead};
use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TE, TRANSFER_ENCODING, UPGRADE,
};

/// Most fields of one message that are taken from the trunk. Nodes let clients send far fewer; a
/// map of headers panics at 2^15.
const FIELDS_MAX: usize = 4096;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The request's headers for a backend, `Host` included; `None` if some can't be sent.
pub(crate) fn for_backend(head: &RequestHead, host: Option<&HeaderValue>) -> Option<HeaderMap> {
    if head.headers.len() > FIELDS_MAX {
        return None;
    }
    let mut headers = HeaderMap::with_capacity(head.headers.len() + 4);
    for header in &head.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(&header.value).ok()?);
    }
    strip_hop(&mut headers);
    headers.remove(SEC_WEBSOCKET_KEY);
    headers.remove(SEC_WEBSOCKET_VERSION);
    let host = match host {
        Some(host) => host.clone(),
        None => HeaderValue::from_str(&head.authority).ok()?,
    };
    headers.insert(HOST, host);
    Some(headers)
}

/// A backend's headers for the client.
pub(crate) fn for_client(mut headers: HeaderMap, set_cookie: Option<&HeaderValue>) -> Vec<Header> {
    strip_hop(&mut headers);
    headers.remove(SEC_WEBSOCKET_ACCEPT);
    if let Some(cookie) = set_cookie {
        headers.append(http::header::SET_COOKIE, cookie.clone());
    }
    lines(&headers)
}

/// As they stand on the trunk.
pub(crate) fn lines(headers: &HeaderMap) -> Vec<Header> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| Header {
        name: name.as_str().to_owned(),
        value: value.as_bytes().to_vec().into(),
    };
    headers.iter().map(line).collect()
}

/// About what they take on the wire.
pub(crate) fn bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// From the trunk, leaving out what is no header, and what is beyond [`FIELDS_MAX`].
pub(crate) fn map(lines: &[Header]) -> HeaderMap {
    let lines = &lines[..lines.len().min(FIELDS_MAX)];
    let mut headers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&line.value)) {
            headers.append(name, value);
        }
    }
    headers
}

fn strip_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .into_iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_hop_stays() {
        let response = header_map(&[
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "trailers"),
            ("sec-websocket-accept", "x"),
            ("sec-websocket-protocol", "chat"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ]);
        let cookie = HeaderValue::from_static("c=3");
        let crossed = for_client(response, Some(&cookie));
        let shown: Vec<_> = crossed
            .iter()
            .map(|h| format!("{}: {}", h.name, String::from_utf8_lossy(&h.value)))
            .collect();
        let expected = [
            "sec-websocket-protocol: chat",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "set-cookie: c=3",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_backend_gets_one_host_and_no_key_of_the_clients() {
        let head = RequestHead {
            authority: "chat.example".to_owned(),
            headers: lines(&header_map(&[
                ("host", "evil"),
                ("sec-websocket-key", "x"),
                ("sec-websocket-version", "13"),
                ("origin", "https://chat.example"),
            ])),
            ..RequestHead::default()
        };
        let headers = for_backend(&head, None).unwrap();
        assert_eq!(headers.len(), 2);
        assert_eq!(headers[HOST], "chat.example");
        assert_eq!(headers["origin"], "https://chat.example");
        let host = HeaderValue::from_static("internal");
        assert_eq!(for_backend(&head, Some(&host)).unwrap()[HOST], "internal");
    }

    /// A map of headers panics beyond 2^15 names; a node may say anything.
    #[test]
    fn a_flood_of_headers_is_refused() {
        let line = |n: u32| Header { name: format!("x-{n}"), value: "x".into() };
        let flood: Vec<_> = (0..40_000).map(line).collect();
        let head = RequestHead { headers: flood.clone(), ..RequestHead::default() };
        assert!(for_backend(&head, None).is_none());
        assert!(map(&flood).len() <= FIELDS_MAX);
    }

    #[test]
    fn what_is_no_header_is_not_sent() {
        let line = Header { name: "a b".to_owned(), value: "x".into() };
        let head = RequestHead { headers: vec![line], ..RequestHead::default() };
        assert!(for_backend(&head, None).is_none());
    }

    fn header_map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).fold(
            HeaderMap::new(),
            |mut headers, (name, value): (HeaderName, HeaderValue)| {
                headers.append(name, value);
                headers
            },
        )
    }
}
