//! Which host a request is for: RFC 9112 section 3.2.

use http::header::{HOST, HeaderMap};
use http::uri::{Authority, Uri};

/// Why a request names no host that can be used; each is answered with 400.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HostError {
    /// RFC 9112 section 3.2: a server must answer 400.
    #[error("the request has no Host header")]
    Missing,
    /// As above.
    #[error("the request has more than one Host header")]
    Several,
    /// Not `host` or `host:port`.
    #[error("the Host header is not a host name with an optional port")]
    Invalid,
}

/// The host and port that the request is for: the target's own, if it is in absolute form, else
/// `Host`.
///
/// # Errors
///
/// A missing, doubled or bad `Host`, even where the target would outrank it.
pub fn authority(target: &Uri, headers: &HeaderMap) -> Result<String, HostError> {
    let mut hosts = headers.get_all(HOST).into_iter();
    let host = hosts.next().ok_or(HostError::Missing)?;
    if hosts.next().is_some() {
        return Err(HostError::Several);
    }
    let host = host.to_str().map_err(|_| HostError::Invalid)?;
    if !is_valid(host) {
        return Err(HostError::Invalid);
    }
    let Some(authority) = target.authority() else {
        return Ok(host.to_owned());
    };
    if !is_valid(authority.as_str()) {
        return Err(HostError::Invalid);
    }
    Ok(authority.as_str().to_owned())
}

/// `uri-host [ ":" port ]` with no user part.
pub(super) fn is_valid(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let rest = host.strip_prefix(authority.host()).unwrap_or("@");
    let port_ok = match rest.strip_prefix(':') {
        Some(port) => !port.is_empty() && port.parse::<u16>().is_ok(),
        None => rest.is_empty(),
    };
    // A comma is legal in a name, but stands there only where two fields were joined.
    !authority.host().is_empty() && !host.contains(['@', ',']) && port_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_request_is_for() {
        use HostError::{Invalid, Missing, Several};

        check("/", &["chat.example"], Ok("chat.example"));
        check("/", &["chat.example:8443"], Ok("chat.example:8443"));
        check("/", &["[2001:db8::1]:80"], Ok("[2001:db8::1]:80"));
        check("/", &["192.0.2.1"], Ok("192.0.2.1"));
        check("/", &[], Err(Missing));
        check("/", &["a.example", "b.example"], Err(Several));
        check("/", &["a.example", "a.example"], Err(Several));
        for bad in
            ["", "a b", "a@b", "a:port", "a:", "a:65536", "a/b", "a,b", "[::1", "http://a", ":80"]
        {
            check("/", &[bad], Err(Invalid));
        }
        check("http://t.example/x", &["h.example"], Ok("t.example"));
        check("http://t.example/x", &[], Err(Missing));
        check("http://u@t.example/x", &["h.example"], Err(Invalid));
    }

    #[track_caller]
    fn check(target: &str, hosts: &[&str], expected: Result<&str, HostError>) {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        let found = authority(&target.parse().unwrap(), &headers);
        assert_eq!(found.as_deref(), expected.as_deref(), "{target} {hosts:?}");
    }
}
