//! The JavaScript client, for pages: a module and its types under `/.antipode/`.
//!
//! | path | what |
//! |---|---|
//! | `/.antipode/client.js` | the client, one ES module |
//! | `/.antipode/client.d.ts` | its types |
//!
//! Any page may load it (CORS): a module script is fetched with CORS, and pages seldom come from
//! the relay. Nothing else is under this path, and nothing under it reaches the backend.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ALLOW,
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::answer::{self, Answer, AnswerBody};

/// Everything under it is the relay's own.
pub const FOLDER: &str = "/.antipode/";

/// An hour: a page that is open longer has loaded the module already, and a fix arrives the same
/// day. After it the ETag spares the transfer.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=3600");
const ANYBODY: HeaderValue = HeaderValue::from_static("*");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
/// Pages that isolate themselves (COEP) take scripts of other origins only with this.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

static CLIENT: LazyLock<File> = LazyLock::new(|| {
    let text = include_bytes!("../../client-js/dist/antipode-client.js");
    File::new(text, "text/javascript; charset=utf-8")
});
static TYPES: LazyLock<File> = LazyLock::new(|| {
    let text = include_bytes!("../../client-js/index.d.ts");
    File::new(text, "text/plain; charset=utf-8")
});

#[derive(Debug)]
struct File {
    text: Bytes,
    kind: HeaderValue,
    etag: HeaderValue,
}

impl File {
    fn new(text: &'static [u8], kind: &'static str) -> Self {
        let etag = format!("\"{:016x}\"", fnv1a(text));
        let etag = HeaderValue::from_str(&etag).expect("hexadecimal digits fit a header");
        Self { text: Bytes::from_static(text), kind: HeaderValue::from_static(kind), etag }
    }
}

/// Answers a request under [`FOLDER`].
pub(super) fn respond(method: &Method, path: &str, headers: &HeaderMap) -> Answer {
    let file = match path.strip_prefix(FOLDER) {
        Some("client.js") => &CLIENT,
        Some("client.d.ts") => &TYPES,
        Some(_) | None => {
            let words = "the relay has client.js and client.d.ts here";
            return open(answer::refusal(StatusCode::NOT_FOUND, "not_found", words));
        }
    };
    let mut answer = match *method {
        Method::GET | Method::HEAD => content(file, method, headers),
        Method::OPTIONS => {
            let mut answer = answer::empty(StatusCode::NO_CONTENT, HeaderMap::new());
            let headers = answer.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
            answer
        }
        _ => answer::refusal(StatusCode::METHOD_NOT_ALLOWED, "method", "files are read with GET"),
    };
    if answer.status() == StatusCode::METHOD_NOT_ALLOWED {
        answer.headers_mut().insert(ALLOW, METHODS);
    }
    open(answer)
}

fn content(file: &File, method: &Method, asked: &HeaderMap) -> Answer {
    let is_known = asked.get_all(IF_NONE_MATCH).iter().any(|line| names(line, &file.etag));
    let (status, body) = match (is_known, method == Method::HEAD) {
        (true, _) => (StatusCode::NOT_MODIFIED, None),
        (false, true) => (StatusCode::OK, None),
        (false, false) => (StatusCode::OK, Some(file.text.clone())),
    };
    let mut answer = Answer::new(AnswerBody::Whole(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(ETAG, file.etag.clone());
    headers.insert(CACHE_CONTROL, CACHED);
    if !is_known {
        headers.insert(CONTENT_TYPE, file.kind.clone());
        headers.insert(CONTENT_LENGTH, HeaderValue::from(file.text.len()));
    }
    answer
}

/// Whether a line of `If-None-Match` names this ETag (RFC 9110 section 13.1.2: weakly compared).
fn names(line: &HeaderValue, etag: &HeaderValue) -> bool {
    let Ok(line) = line.to_str() else { return false };
    let tags = line.split(',').map(|tag| tag.trim().trim_start_matches("W/"));
    tags.into_iter().any(|tag| tag == "*" || tag.as_bytes() == etag.as_bytes())
}

fn open(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANYBODY);
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// FNV-1a, 64 bits: the same on every node of one version, which is all that an ETag needs.
fn fnv1a(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}
