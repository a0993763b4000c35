//! Puts the page on a listener, with or without TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use antipode_runtime::shutdown::Shutdown;
use axum::Router;
use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// TLS handshakes at once; more wait in the listener's queue.
const HANDSHAKES_MAX: usize = 64;
/// The longest round trip is 260 ms: a client that needs more than this has gone.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// Serves `router` on `listener` until `shutdown` drains.
pub fn plain(listener: TcpListener, router: Router, shutdown: &Shutdown) {
    serve(listener, router, shutdown);
}

/// The same with TLS.
///
/// # Errors
/// The system's, if the listener has gone.
pub fn tls(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    router: Router,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let (ready, shaken) = mpsc::channel(HANDSHAKES_MAX);
    let tasks = shutdown.clone();
    shutdown.spawn_service(async move {
        let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let acceptor = TlsAcceptor::from(config);
        loop {
            let place = Arc::clone(&places).acquire_owned().await;
            let Ok((stream, peer)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let handshake = acceptor.accept(stream);
            let ready = ready.clone();
            tasks.spawn_service(async move {
                let _place = place;
                let shaken = tokio::time::timeout(HANDSHAKE_PATIENCE, handshake).await;
                if let Ok(Ok(stream)) = shaken {
                    // The receiver only goes when the server has stopped.
                    let _ = ready.send((stream, peer)).await;
                }
            });
        }
    });
    serve(Shaken { shaken, address }, router, shutdown);
    Ok(())
}

fn serve<L>(listener: L, router: Router, shutdown: &Shutdown)
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let draining = shutdown.clone();
    shutdown.spawn_service(async move {
        let drain = async move { draining.draining().await };
        // It never fails: it waits and accepts again.
        let _ = axum::serve(listener, router).with_graceful_shutdown(drain).await;
    });
}

/// Streams whose handshake is over.
struct Shaken {
    shaken: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl Listener for Shaken {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.shaken.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
