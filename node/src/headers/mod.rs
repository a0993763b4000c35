//! What is forwarded of a request's and a response's headers, what is taken off and what is added.
//!
//! Everything that is not listed here goes through as it came, in its order.

pub mod forwarded;
pub mod hop;
pub mod host;
pub mod trusted;

use antipode_proto::trunk::v1::Header;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Most fields of one message that are taken from the trunk. Cores let backends send far fewer; a
/// map of headers panics at 2^15.
const FIELDS_MAX: usize = 4096;

/// Takes off what `is_dropped` names and keeps the order of the rest, which `HeaderMap::remove`
/// does not.
pub fn drop_fields(headers: &mut HeaderMap, is_dropped: impl Fn(&HeaderName) -> bool) {
    if !headers.keys().any(&is_dropped) {
        return;
    }
    let mut kept = HeaderMap::with_capacity(headers.len());
    let mut name = None;
    for (next, value) in std::mem::take(headers) {
        name = next.or(name);
        if let Some(name) = name.as_ref().filter(|name| !is_dropped(name)) {
            kept.append(name.clone(), value);
        }
    }
    *headers = kept;
}

/// The headers as the trunk carries them.
#[must_use]
pub fn to_wire(headers: &HeaderMap) -> Vec<Header> {
    let fields = headers.iter();
    fields
        .map(|(name, value)| Header {
            name: name.as_str().to_owned(),
            value: Bytes::copy_from_slice(value.as_bytes()),
        })
        .collect()
}

/// The headers of the far end as hyper wants them. A name or value that HTTP can't carry is left
/// out: the core checked them, so this is only our guard against splitting a response.
#[must_use]
pub fn from_wire(fields: Vec<Header>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(fields.len().min(FIELDS_MAX));
    for Header { name, value } in fields.into_iter().take(FIELDS_MAX) {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(value)) {
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_keeps_order_repeats_and_bytes() {
        let mut headers = HeaderMap::new();
        headers.append("set-cookie", HeaderValue::from_static("a=1"));
        headers.append("set-cookie", HeaderValue::from_static("b=2"));
        headers.append("x-latin", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        assert_eq!(from_wire(to_wire(&headers)), headers);
    }

    #[test]
    fn dropping_keeps_the_order_of_the_rest() {
        let mut headers = HeaderMap::new();
        for name in ["a", "b", "c", "b", "d"] {
            headers.append(name, HeaderValue::from_static("1"));
        }
        drop_fields(&mut headers, |name| name == "a");
        let names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!((names, headers.len()), (vec!["b", "c", "d"], 4));
    }

    /// A map of headers panics beyond 2^15 names; a core may say anything.
    #[test]
    fn a_flood_of_headers_is_cut() {
        let field = |n: u32| Header { name: format!("x-{n}"), value: Bytes::from_static(b"1") };
        assert_eq!(from_wire((0..40_000).map(field).collect()).len(), FIELDS_MAX);
    }

    #[test]
    fn what_would_split_a_response_is_left_out() {
        let field = |name: &str, value: &'static [u8]| Header {
            name: name.to_owned(),
            value: Bytes::from_static(value),
        };
        let fields = vec![field("a b", b"1"), field("x", b"1\r\ny: 2"), field("ok", b"1")];
        let headers = from_wire(fields);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["ok"], "1");
    }
}
