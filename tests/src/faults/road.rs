//! The way of clients to a node: forwards their bytes, and can strand them.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// A TCP forwarder. What it strands stays open and carries nothing more, as a phone's sockets do
/// when it has left the network that they were opened in.
#[derive(Debug)]
pub struct Road {
    address: SocketAddr,
    strandings: watch::Sender<u64>,
    stop: Option<oneshot::Sender<()>>,
}

impl Road {
    /// Forwards from a free port of `node`'s address to `node`, in a thread of its own.
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    pub fn start(node: SocketAddr) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind((node.ip(), 0)).context("bind a road")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (strandings, seen) = watch::channel(0);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("road".into()).spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a runtime is there");
                tokio::select! {
                    () = forward(listener, node, seen) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, strandings, stop: Some(stop) })
    }

    /// Where clients find it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Strands everybody who is on it now. Those who come later get through.
    pub fn strand(&self) {
        self.strandings.send_modify(|count| *count += 1);
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

async fn forward(listener: TcpListener, node: SocketAddr, strandings: watch::Receiver<u64>) {
    let mut tasks = JoinSet::new();
    // Both halves of those who are stranded: closed with the road, not before.
    let stranded = Arc::new(std::sync::Mutex::new(Vec::new()));
    loop {
        tokio::select! {
            Ok((socket, _)) = listener.accept() => {
                let (mut seen, stranded) = (strandings.clone(), Arc::clone(&stranded));
                seen.mark_unchanged();
                tasks.spawn(async move {
                    let Ok(mut onward) = TcpStream::connect(node).await else { return };
                    let mut socket = socket;
                    // A client may be gone before the option is set.
                    drop((socket.set_nodelay(true), onward.set_nodelay(true)));
                    let is_stranded = tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut socket, &mut onward) => false,
                        changed = seen.changed() => changed.is_ok(),
                    };
                    if is_stranded {
                        let mut kept = stranded.lock().expect("nobody panics with this lock");
                        kept.push((socket, onward));
                    }
                });
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}
