//! Answers that the node gives by itself, and the type of all answers.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::session::http::{Broken, Download};

/// Names the reason of an answer that did not come from the backend; one of a fixed set.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("antipode-error");

/// When a client should come back: about as long as a trunk takes to come up again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// The same where many are refused at once: a burst of ten seconds' worth is spread evenly.
const RETRY_SPREAD_SECONDS: RangeInclusive<u32> = 1..=10;

/// Where else a refused client may try: addresses, best first.
pub const CANDIDATES_HEADER: HeaderName = HeaderName::from_static("antipode-candidates");

/// An answer's body.
#[derive(Debug)]
pub enum AnswerBody {
    /// Given by the node; taken when it is sent.
    Whole(Option<Bytes>),
    /// Streamed from the far end.
    Streamed(Box<Download>),
}

/// An answer to a client.
pub type Answer = Response<AnswerBody>;

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(download) => download.poll_frame(task),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                let len = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(len).unwrap_or(0))
            }
            Self::Streamed(_) => SizeHint::default(),
        }
    }
}

/// An answer without a body.
#[must_use]
pub fn empty(status: StatusCode, headers: HeaderMap) -> Answer {
    let mut answer = Response::new(AnswerBody::Whole(None));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// A short text for people.
#[must_use]
pub fn text(status: StatusCode, text: &str) -> Answer {
    let body = Bytes::from(format!("{text}\n"));
    let mut answer = Response::new(AnswerBody::Whole(Some(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A refusal on its way to become an answer.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// The answer's status.
    pub status: StatusCode,
    /// For programs; one of a fixed set.
    pub label: &'static str,
    /// For people.
    pub words: &'static str,
    /// What a 503 or 429 says about coming back.
    pub retry: Retry,
}

/// When a refused client should come back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retry {
    /// About when a trunk is up again.
    Fixed,
    /// At a time drawn for it alone: many are refused at once, and shall not come back at once.
    Spread,
}

impl From<Refusal> for Answer {
    fn from(Refusal { status, label, words, retry }: Refusal) -> Self {
        let mut answer = refusal(status, label, words);
        if retry == Retry::Spread && answer.headers().contains_key(RETRY_AFTER) {
            let seconds: u32 = rand::random_range(RETRY_SPREAD_SECONDS);
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

/// A refusal: `label` for programs, `text` for people. A 503 says when to come back.
#[must_use]
pub fn refusal(status: StatusCode, label: &'static str, words: &str) -> Answer {
    let mut answer = text(status, words);
    let headers = answer.headers_mut();
    headers.insert(ERROR_HEADER, HeaderValue::from_static(label));
    if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
        headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    answer
}

/// A refusal after which the client's socket is closed: what follows on it can't be trusted, or the
/// node goes away.
#[must_use]
pub fn last_refusal(status: StatusCode, label: &'static str, words: &str) -> Answer {
    let mut answer = refusal(status, label, words);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// What the node lets through, for `Allow`.
pub fn allow(answer: &mut Answer) {
    let methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
}
