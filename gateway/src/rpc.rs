//! What every gRPC listener has: health, reflection, limits, and an end when the drain begins.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use antipode_proto::DESCRIPTORS;
use antipode_runtime::shutdown::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tower_service::Service;
use tracing::error;

/// Largest message taken, in bytes: a heartbeat about a thousand tunnels has 64 KiB.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Calls one socket may have open. A member has two.
const CALLS_MAX: u32 = 32;
/// Nothing here sends much; small windows bound what a stranger makes us hold.
const WINDOW_BYTES: u32 = 512 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves one service on `incoming`, with health and reflection beside it, until the drain begins.
///
/// # Panics
///
/// If the compiled-in descriptors are broken, which a test would have shown.
pub fn serve<S, I, IO>(service: S, incoming: I, shutdown: &Shutdown)
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: NamedService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    I: Stream<Item = io::Result<IO>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    IO::ConnectInfo: Clone + Send + Sync + 'static,
{
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(S::NAME)
        .with_service_name("grpc.health.v1.Health")
        .build_v1()
        .expect("the descriptors are compiled in");
    let inner = shutdown.clone();
    shutdown.spawn(async move {
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status(S::NAME, tonic_health::ServingStatus::Serving).await;
        let drained = async {
            inner.draining().await;
            reporter.set_service_status(S::NAME, tonic_health::ServingStatus::NotServing).await;
        };
        let served = Server::builder()
            .max_concurrent_streams(CALLS_MAX)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES * 2)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_service(health)
            .add_service(reflection)
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, drained)
            .await;
        if let Err(error) = served {
            error!(service = S::NAME, error = &error as &dyn std::error::Error, "listener ended");
        }
    });
}
