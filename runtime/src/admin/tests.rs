//! The endpoint over a real socket, with HTTP written by hand.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

struct Served {
    address: SocketAddr,
    readiness: Readiness,
    shutdown: Shutdown,
}

#[tokio::test]
async fn tells_alive_ready_and_measured() {
    let served = start().await;
    check(&served, "/healthz", "200", "ok\n").await;
    check(&served, "/readyz", "200", "ready\n").await;
    check(&served, "/metrics", "200", "antipode_build_info{program=\"node\",version=\"1.2.3\"} 1")
        .await;
    check(&served, "/metrics", "200", "content-type: application/openmetrics-text").await;
    check(&served, "/secrets", "404", "").await;

    served.readiness.waiting("trunk", "no core is connected");
    served.readiness.waiting("trunk", "the core is gone");
    check(&served, "/readyz", "503", "trunk: the core is gone\n").await;
    served.readiness.ready("trunk");
    check(&served, "/readyz", "200", "ready\n").await;

    served.shutdown.begin_drain();
    check(&served, "/readyz", "503", "draining\n").await;
    check(&served, "/healthz", "200", "ok\n").await;
}

#[tokio::test]
async fn is_off_unless_configured_and_names_its_key() {
    let shutdown = Shutdown::default();
    let serve = |table| {
        let readiness = Readiness::new(&shutdown);
        serve(table, readiness, Arc::new(Registry::default()), &shutdown)
    };
    assert_eq!(serve(AdminTable::default()).await.unwrap(), None);

    let bound = serve(AdminTable { listen: Some("127.0.0.1:0".parse().unwrap()) }).await.unwrap();
    let told = serve(AdminTable { listen: bound }).await.unwrap_err().to_string();
    assert!(told.contains("`admin.listen`"), "{told}");
}

async fn start() -> Served {
    let shutdown = Shutdown::default();
    let readiness = Readiness::new(&shutdown);
    let mut registry = Registry::default();
    register_build_info(&mut registry, "node", "1.2.3");
    let table = AdminTable { listen: Some("127.0.0.1:0".parse().unwrap()) };
    let bound = serve(table, readiness.clone(), Arc::new(registry), &shutdown).await.unwrap();
    Served { address: bound.unwrap(), readiness, shutdown }
}

async fn check(served: &Served, path: &str, status: &str, contained: &str) {
    let mut socket = TcpStream::connect(served.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    assert!(answer.contains(contained), "{path} lacks {contained:?}: {answer}");
}
