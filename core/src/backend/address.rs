//! Where a backend is, as the operator writes it: `http://`, `https://`, `ws://`, `wss://` or
//! `unix:`.

use std::fmt;
use std::path::PathBuf;

use http::Uri;
use serde::Deserialize;

/// A backend's address.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum Address {
    /// TCP, with TLS on top for `https://` and `wss://`.
    Tcp {
        /// Name or IP address, without brackets.
        host: String,
        /// 80 or 443 unless written.
        port: u16,
        /// What stands on TCP.
        security: Security,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// What protects the bytes to a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Security {
    /// Nothing.
    Plain,
    /// TLS.
    Tls,
}

impl Address {
    /// What `Host` says where the client's own can't be used: for health checks.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    /// Whether TLS is spoken to it.
    pub(crate) fn security(&self) -> Security {
        match self {
            Self::Tcp { security, .. } => *security,
            Self::Unix(_) => Security::Plain,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { security: Security::Plain, .. } => write!(f, "http://{}", self.authority()),
            Self::Tcp { security: Security::Tls, .. } => write!(f, "https://{}", self.authority()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.starts_with('/') {
                true => Ok(Self::Unix(PathBuf::from(path))),
                false => Err(format!("{text:?} needs an absolute path, as in unix:/run/chat.sock")),
            };
        }
        let uri: Uri = text.parse().map_err(|_| wrong(&text))?;
        let (security, default_port) = match uri.scheme_str() {
            Some("http" | "ws") => (Security::Plain, 80),
            Some("https" | "wss") => (Security::Tls, 443),
            _ => return Err(wrong(&text)),
        };
        let authority = uri.authority().ok_or_else(|| wrong(&text))?;
        if authority.as_str().contains('@') {
            return Err("a backend's url holds no user or password".to_owned());
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("{text:?} has a path, but the client's path goes to the backend"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(wrong(&text));
        }
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, port)) if !port.contains(']') => port.parse().map_err(|_| wrong(&text))?,
            _ => default_port,
        };
        Ok(Self::Tcp { host, port, security })
    }
}

fn wrong(text: &str) -> String {
    format!("{text:?} is no backend: write http://host:port, https://host:port or unix:/path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        check("http://127.0.0.1:3000", Ok("http://127.0.0.1:3000"));
        check("ws://chat.internal", Ok("http://chat.internal:80"));
        check("https://chat.internal/", Ok("https://chat.internal:443"));
        check("wss://[::1]:8443", Ok("https://[::1]:8443"));
        check("http://[::1]", Ok("http://[::1]:80"));
        check("unix:/run/chat.sock", Ok("unix:/run/chat.sock"));
        check("unix:///run/chat.sock", Ok("unix:/run/chat.sock"));
        check("unix:chat.sock", Err("absolute path"));
        check("127.0.0.1:3000", Err("is no backend"));
        check("ftp://chat", Err("is no backend"));
        check("http://chat:70000", Err("is no backend"));
        check("http://me:secret@chat", Err("no user or password"));
        check("http://chat/api", Err("has a path"));
    }

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        match (Address::try_from(text.to_owned()), expected) {
            (Ok(address), Ok(shown)) => assert_eq!(address.to_string(), shown),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (outcome, _) => panic!("{text}: {outcome:?}"),
        }
    }
}
