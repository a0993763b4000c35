//! What of a request reaches the backend, what is added, and what nobody outside may say.

use std::net::{IpAddr, Ipv4Addr};

use antipode_tests::backend::Backend;
use antipode_tests::client::Client;
use antipode_tests::world::{Plan, World};
use bytes::Bytes;
use futures_util::StreamExt;
use http::Request;
use http_body_util::Empty;
use serde_json::Value;

/// What a client may say, and the backend hears unchanged.
const PASSED: [(&str, &str); 5] = [
    ("authorization", "Bearer abc"),
    ("cookie", "a=1; b=2"),
    ("origin", "https://app.example"),
    ("user-agent", "a browser"),
    ("x-own", "kept"),
];

/// What is between the client and the node only, or what clients don't get to say.
const DROPPED: [(&str, &str); 8] = [
    ("forwarded", "for=203.0.113.9"),
    ("keep-alive", "timeout=5"),
    ("proxy-authorization", "Basic abc"),
    ("proxy-connection", "keep-alive"),
    ("te", "gzip"),
    ("x-forwarded-for", "203.0.113.9"),
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-proto", "gopher"),
];

#[tokio::test(flavor = "multi_thread")]
async fn headers_pass_and_spoofs_do_not() -> anyhow::Result<()> {
    let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let world = World::start(Plan::with_backend(backend.address())).await?;
    let client = world.client(0);
    let host = format!("{}:{}", client.name, client.address.port());

    for heard in [by_websocket(&client).await?, by_http(&client).await?] {
        assert_eq!(heard["target"], "/headers?q=%C3%A9&r");
        for (name, value) in PASSED {
            assert_eq!(all(&heard, name), [value], "{name}");
        }
        assert_eq!(all(&heard, "host"), [host.as_str()]);
        assert_eq!(all(&heard, "x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(all(&heard, "x-forwarded-proto"), ["https"]);
        assert_eq!(all(&heard, "x-forwarded-host"), [host.as_str()]);
        let forwarded = format!("for=127.0.0.1;host=\"{host}\";proto=https");
        assert_eq!(sorted(&all(&heard, "forwarded")), sorted(&[&forwarded]));
        for (name, value) in DROPPED {
            assert!(!all(&heard, name).contains(&value), "{name}: {value} went through");
        }
        assert_eq!(all(&heard, "x-private"), [""; 0], "named by Connection");
    }
    Ok(())
}

/// With the client's address on the list, the client is a proxy and its word counts.
#[tokio::test(flavor = "multi_thread")]
async fn trusted_proxies_are_believed() -> anyhow::Result<()> {
    let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let plan = Plan {
        node_more: "[forwarded]\ntrusted_proxies = [\"127.0.0.0/8\"]\n".into(),
        ..Plan::with_backend(backend.address())
    };
    let world = World::start(plan).await?;
    let heard = by_http(&world.client(0)).await?;
    let chain = all(&heard, "x-forwarded-for").join(", ");
    assert!(chain.starts_with("203.0.113.9"), "{chain}");
    Ok(())
}

fn sent() -> Vec<(&'static str, &'static str)> {
    PASSED.into_iter().chain(DROPPED).collect()
}

async fn by_websocket(client: &Client) -> anyhow::Result<Value> {
    let (mut socket, _) = client.open_with("/headers?q=%C3%A9&r", &sent()).await?;
    let message = socket.next().await.expect("the backend tells")?;
    Ok(serde_json::from_str(message.to_text()?)?)
}

async fn by_http(client: &Client) -> anyhow::Result<Value> {
    let mut request = Request::get("/headers?q=%C3%A9&r").header("connection", "x-private");
    request = request.header("x-private", "for the next hop only");
    for (name, value) in sent() {
        request = request.header(name, value);
    }
    let (_, text) = client.request(request.body(Empty::<Bytes>::new())?).await?.text().await?;
    Ok(serde_json::from_str(&text)?)
}

/// Every value that the backend heard under a name.
fn all<'a>(heard: &'a Value, name: &str) -> Vec<&'a str> {
    let pairs = heard["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = pairs.iter().filter(|pair| pair[0] == name);
    named.filter_map(|pair| pair[1].as_str()).collect()
}

/// `Forwarded` says the same in any order of its parts.
fn sorted(values: &[&str]) -> Vec<String> {
    let mut parts: Vec<_> = values.join(",").split(';').map(str::to_lowercase).collect();
    parts.sort();
    parts
}
