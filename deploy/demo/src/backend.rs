//! The address of the user's own server, as given on the command line.

use std::net::SocketAddr;
use std::str::FromStr;

use http::Uri;

/// A server that the demo puts behind its relays.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BackendUrl {
    uri: Uri,
    /// Whether it speaks TLS itself.
    pub tls: bool,
    host: String,
    port: u16,
}

/// The text is no usable address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BackendUrlError {
    /// Not a URL at all.
    #[error("not a URL; it should look like http://127.0.0.1:3000 or wss://chat.example/socket")]
    NotAUrl,
    /// A scheme that the core doesn't speak, or none.
    #[error("the demo takes http://, https://, ws:// and wss://, as in http://127.0.0.1:3000")]
    Scheme,
}

/// The server can't be used.
#[derive(Debug, thiserror::Error)]
pub enum UnreachableError {
    /// No address by that name.
    #[error("the name {host:?} has no address: check the spelling of --backend")]
    Name {
        /// The host's name.
        host: String,
        /// What the resolver said.
        #[source]
        source: Option<std::io::Error>,
    },
    /// Nobody answers there.
    #[error("nothing answers at {address}: start your server first, or correct --backend")]
    Nobody {
        /// Where it should be.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl FromStr for BackendUrl {
    type Err = BackendUrlError;

    fn from_str(text: &str) -> Result<Self, BackendUrlError> {
        if !text.contains("://") {
            return Err(BackendUrlError::Scheme);
        }
        let uri: Uri = text.parse().map_err(|_| BackendUrlError::NotAUrl)?;
        let tls = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err(BackendUrlError::Scheme),
        };
        let host = uri.host().ok_or(BackendUrlError::NotAUrl)?.to_owned();
        if host.is_empty() {
            return Err(BackendUrlError::NotAUrl);
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { uri, tls, host, port })
    }
}

impl std::fmt::Display for BackendUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.uri.fmt(f)
    }
}

impl BackendUrl {
    /// Path and query, `/` at the least.
    #[must_use]
    pub fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }

    /// `http://host:port` or `https://host:port`: what the core's configuration takes.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }

    /// `host:port`.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Where the server is; somebody has to answer there.
    ///
    /// # Errors
    /// If its name has no address, or nobody listens.
    pub async fn reach(&self) -> Result<SocketAddr, UnreachableError> {
        let unknown = |source| UnreachableError::Name { host: self.host.clone(), source };
        let found = tokio::net::lookup_host(self.authority()).await;
        let mut refusal = None;
        for address in found.map_err(|error| unknown(Some(error)))? {
            match tokio::net::TcpStream::connect(address).await {
                Ok(_) => return Ok(address),
                Err(source) => refusal = Some(UnreachableError::Nobody { address, source }),
            }
        }
        Err(refusal.unwrap_or_else(|| unknown(None)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        check("http://127.0.0.1:3000", "http://127.0.0.1:3000", "/");
        check("ws://[::1]:3000/socket?v=1", "http://[::1]:3000", "/socket?v=1");
        check("wss://chat.example", "https://chat.example:443", "/");
        check("http://localhost/chat", "http://localhost:80", "/chat");
    }

    #[test]
    fn what_is_no_url_says_why() {
        for (text, error) in [
            ("localhost:3000", BackendUrlError::Scheme),
            ("ftp://example", BackendUrlError::Scheme),
            ("http://", BackendUrlError::NotAUrl),
            ("http://a b", BackendUrlError::NotAUrl),
        ] {
            assert_eq!(text.parse::<BackendUrl>().unwrap_err(), error, "{text}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_told_with_the_way_out() {
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let url: BackendUrl = format!("http://{address}").parse().unwrap();
        assert_eq!(url.reach().await.unwrap(), address);
        drop(taken);
        let error = url.reach().await.unwrap_err().to_string();
        assert!(error.contains("start your server first"), "{error}");
    }

    #[track_caller]
    fn check(text: &str, origin: &str, path: &str) {
        let url: BackendUrl = text.parse().unwrap();
        assert_eq!((url.origin().as_str(), url.path()), (origin, path), "{text}");
    }
}
