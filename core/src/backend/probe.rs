//! Looks after one backend: a check now and then, whose outcome its health counts.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rand::Rng;
use tokio::time::{sleep, timeout};

use crate::backend::Backend;
use crate::backend::connect::ConnectError;
use crate::config::{Check, HealthTable};

/// Checks until the program stops.
pub(crate) async fn run(backend: Arc<Backend>, table: HealthTable) {
    loop {
        let outcome = timeout(table.timeout, check(&backend, &table)).await;
        match outcome.unwrap_or(Err(ProbeError::Timeout)) {
            Ok(()) => backend.handle_success(),
            Err(error) => backend.handle_failure(&error),
        }
        sleep(jittered(table.interval)).await;
    }
}

/// The backend did not pass.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("check got no socket")]
    Connect(#[source] ConnectError),
    #[error("check got no HTTP answer")]
    Http(#[source] hyper::Error),
    #[error("check was answered {0}")]
    Status(StatusCode),
    #[error("check took too long")]
    Timeout,
}

async fn check(backend: &Backend, table: &HealthTable) -> Result<(), ProbeError> {
    let stream = backend.connector.connect().await.map_err(ProbeError::Connect)?;
    if table.check != Check::Http {
        return Ok(());
    }
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(ProbeError::Http)?;
    let host = backend.host.clone();
    let authority = backend.connector.address().authority();
    let request = Request::get(table.path.as_str())
        .header(HOST, host.unwrap_or_else(|| authority.parse().expect("a host of the settings")))
        .header("user-agent", concat!("antipode-core/", env!("CARGO_PKG_VERSION")))
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .expect("parts from checked settings");
    let exchange = async {
        let response = sender.send_request(request).await.map_err(ProbeError::Http)?;
        match response.status() {
            status if status.as_u16() < 400 => Ok(()),
            status => Err(ProbeError::Status(status)),
        }
    };
    let driven = async {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        outcome = exchange => outcome,
        never = driven => match never {},
    }
}

/// Within a tenth of `interval`, so that many cores don't check in step.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(rand::rng().random_range(0.9..1.1))
}
