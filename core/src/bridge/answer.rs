//! Answers that the core makes where no backend's answer is to be had. `antipode-error` says that
//! it was us, and why.

use antipode_proto::body::Body;
use antipode_proto::trunk::v1::{Cause, Chunk, End, Header, RequestHead, ResponseHead};
use antipode_trunk::{Ended, SessionPort};

use crate::backend::connect::ConnectError;

/// Why the core answers itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// `sessions_max` is reached.
    CoreFull,
    /// No backend takes a socket.
    BackendUnreachable,
    /// Too many connects to the backend are under way.
    BackendBusy,
    /// No socket in time.
    ConnectTimeout,
    /// No answer in time.
    ResponseTimeout,
    /// The backend's socket ended before its answer. The request is not sent again: it may have had
    /// its effect.
    BackendLost,
    /// The backend's answer is not HTTP/1.1, or its upgrade breaks RFC 6455.
    BackendProtocol,
    /// The backend's answer has too many headers, or too long ones.
    HeadTooLarge,
    /// The request can't be put into HTTP/1.1 for a backend.
    BadRequest,
}

impl Answer {
    /// The value of `antipode-error`, and `reason` of `antipode_core_answers_made_total`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::CoreFull => "core_full",
            Self::BackendUnreachable => "backend_unreachable",
            Self::BackendBusy => "backend_busy",
            Self::ConnectTimeout => "backend_connect_timeout",
            Self::ResponseTimeout => "backend_timeout",
            Self::BackendLost => "backend_lost",
            Self::BackendProtocol => "backend_protocol",
            Self::HeadTooLarge => "backend_head_too_large",
            Self::BadRequest => "bad_request",
        }
    }

    pub(crate) fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::BackendUnreachable
            | Self::BackendLost
            | Self::BackendProtocol
            | Self::HeadTooLarge => 502,
            Self::CoreFull | Self::BackendBusy => 503,
            Self::ConnectTimeout | Self::ResponseTimeout => 504,
        }
    }

    pub(crate) fn cause(self) -> Cause {
        match self {
            Self::CoreFull | Self::BackendBusy => Cause::Policy,
            Self::BackendUnreachable => Cause::BackendUnreachable,
            Self::ConnectTimeout | Self::ResponseTimeout => Cause::BackendTimeout,
            Self::BackendLost => Cause::BackendLost,
            Self::BackendProtocol | Self::HeadTooLarge => Cause::BackendProtocol,
            Self::BadRequest => Cause::ClientProtocol,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::CoreFull => "The relay is full. Try again in a moment.\n",
            Self::BackendUnreachable => "The server behind the relay can't be reached.\n",
            Self::BackendBusy => "The server behind the relay is busy. Try again in a moment.\n",
            Self::ConnectTimeout | Self::ResponseTimeout => {
                "The server behind the relay did not answer in time.\n"
            }
            Self::BackendLost => "The server behind the relay hung up before it answered.\n",
            Self::BackendProtocol => "The server behind the relay gave an invalid answer.\n",
            Self::HeadTooLarge => "The server behind the relay sent too many headers.\n",
            Self::BadRequest => "The request can't be passed on.\n",
        }
    }

    /// Sends the whole answer. A client that has its upgrade already gets a close instead of a
    /// text.
    pub(crate) fn send(self, head: &RequestHead, port: &SessionPort) -> Result<(), Ended> {
        let text = self.text();
        let mut headers = vec![
            header("content-type", "text/plain; charset=utf-8"),
            header("content-length", &text.len().to_string()),
            header("cache-control", "no-store"),
            header("antipode-error", self.label()),
        ];
        if self.status() == 503 {
            headers.push(header("retry-after", "1"));
        }
        let status = u32::from(self.status());
        port.send(ResponseHead { status, headers, ..ResponseHead::default() }.into())?;
        if head.answered_early {
            let end = End {
                cause: self.cause().into(),
                reason: self.label().to_owned(),
                ..End::default()
            };
            return port.send(end.into());
        }
        if head.method != "HEAD" {
            let payload = text.as_bytes().into();
            port.send(Body::Chunk(Chunk { payload, ..Chunk::default() }))?;
        }
        port.send(super::end(Cause::Complete))
    }
}

impl From<&ConnectError> for Answer {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::Resolve(_) | ConnectError::Socket(_) | ConnectError::Tls(_) => {
                Self::BackendUnreachable
            }
            ConnectError::Busy => Self::BackendBusy,
            ConnectError::Timeout => Self::ConnectTimeout,
        }
    }
}

/// What a failed exchange over an open socket means.
impl From<&hyper::Error> for Answer {
    fn from(error: &hyper::Error) -> Self {
        if error.is_parse_too_large() {
            return Self::HeadTooLarge;
        }
        if error.is_parse() || error.is_parse_status() {
            return Self::BackendProtocol;
        }
        Self::BackendLost
    }
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.as_bytes().to_vec().into() }
}
