//! The JavaScript client as a browser fetches it.

use super::bench::value_of;
use super::*;

fn get(line: &str, more: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n")
}

#[tokio::test]
async fn a_page_of_any_origin_can_load_it_and_keep_it() {
    let bench = Bench::start().await;
    let origin = "Origin: https://app.example\r\n";
    let answer = bench.tell(get("GET /.antipode/client.js", origin)).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(value_of(head, "content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(value_of(head, "access-control-allow-origin"), Some("*"));
    assert_eq!(value_of(head, "cross-origin-resource-policy"), Some("cross-origin"));
    assert_eq!(value_of(head, "cache-control"), Some("public, max-age=3600"));
    assert_eq!(value_of(head, "content-length"), Some(body.len().to_string().as_str()));
    assert!(body.contains("antipode.resume.v1") && body.contains("export"), "it is the client");

    let etag = value_of(head, "etag").unwrap();
    for known in [etag.to_owned(), format!("\"x\", W/{etag}"), "*".to_owned()] {
        let again = get("GET /.antipode/client.js", &format!("If-None-Match: {known}\r\n"));
        let again = bench.tell(again).await;
        assert!(again.starts_with("HTTP/1.1 304 ") && again.ends_with("\r\n\r\n"), "{again}");
        assert_eq!(value_of(&again, "etag"), Some(etag));
    }
    let other = bench.tell(get("GET /.antipode/client.js", "If-None-Match: \"x\"\r\n")).await;
    assert!(other.starts_with("HTTP/1.1 200 "));
    let head = bench.tell(get("HEAD /.antipode/client.js", "")).await;
    assert_eq!(value_of(&head, "content-length"), Some(body.len().to_string().as_str()));
    assert!(head.ends_with("\r\n\r\n"));
}

#[tokio::test]
async fn nothing_else_is_there_and_nothing_reaches_the_backend() {
    let bench = Bench::start().await;
    let status = async |request: String| bench.tell(request).await[9..12].to_owned();
    assert_eq!(status(get("GET /.antipode/client.d.ts", "")).await, "200");
    assert_eq!(status(get("GET /.antipode/", "")).await, "404");
    assert_eq!(status(get("GET /.antipode/../secret", "")).await, "404");
    assert_eq!(status(get("POST /.antipode/client.js", "")).await, "405");
    let preflight = bench.tell(get("OPTIONS /.antipode/client.js", "")).await;
    assert!(preflight.starts_with("HTTP/1.1 204 "), "{preflight}");
    assert_eq!(value_of(&preflight, "access-control-allow-methods"), Some("GET, HEAD, OPTIONS"));
    assert_eq!(bench.front.metrics.opened(crate::metrics::Kind::Http), 0);
}
