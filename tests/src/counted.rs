//! A backend that counts requests, and treats each as the test says.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::faults::until;

/// What becomes of a request that was counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Treatment {
    /// An answer of this text, after a while.
    Answer(Duration, &'static str),
    /// The socket is closed.
    Vanish,
    /// Nothing, for ever.
    Silence,
}

/// How a test has requests treated.
#[derive(Clone, Copy, Debug)]
pub struct Treat {
    /// What a whole request ends with; less, such as a health check, is no request.
    pub end: &'static str,
    /// By the request's path.
    pub by_path: fn(&str) -> Treatment,
}

/// The backend. It ends when dropped.
#[derive(Debug)]
pub struct Counted {
    /// Where it listens.
    pub address: SocketAddr,
    requests: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Counted {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// If there is no port.
    pub async fn start(treat: Treat) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicUsize::new(0));
        let (mut tasks, count) = (JoinSet::new(), Arc::clone(&requests));
        tasks.spawn(async move {
            let mut sockets = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                sockets.spawn(serve(socket, treat, Arc::clone(&count)));
            }
        });
        Ok(Self { address, requests, _tasks: tasks })
    }

    /// Requests so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Waits until so many have come.
    ///
    /// # Errors
    ///
    /// If they do not within `limit`.
    pub async fn asked(&self, requests: usize, limit: Duration) -> anyhow::Result<()> {
        until("the backend is asked", limit, || self.requests() >= requests).await
    }
}

async fn serve(mut socket: TcpStream, treat: Treat, count: Arc<AtomicUsize>) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    while !read.ends_with(treat.end.as_bytes()) {
        match socket.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(len) => read.extend_from_slice(&buffer[..len]),
        }
    }
    count.fetch_add(1, Ordering::Relaxed);
    let request = String::from_utf8_lossy(&read);
    match (treat.by_path)(request.split(' ').nth(1).unwrap_or_default()) {
        Treatment::Answer(wait, text) => {
            sleep(wait).await;
            let length = text.len();
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}");
            drop(socket.write_all(format!("{head}\r\n\r\n{text}").as_bytes()).await);
        }
        Treatment::Vanish => {}
        Treatment::Silence => std::future::pending().await,
    }
}
