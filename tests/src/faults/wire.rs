//! The link between nodes and core: forwards their datagrams until it is told not to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// A UDP forwarder as a NAT would be: each source has a socket of its own towards the core.
#[derive(Debug)]
pub struct Wire {
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
}

#[derive(Debug, Default)]
struct State {
    up_cut: AtomicBool,
    down_cut: AtomicBool,
    /// Every so many datagrams one is lost; 0: none is.
    lose_one_in: AtomicU64,
    passed: AtomicU64,
    /// Counts the bindings: a source whose binding is older gets a new one.
    binding: AtomicU64,
    /// Sources whose datagrams are lost in both directions, in order of their first one.
    severed: Mutex<Vec<usize>>,
}

/// A source's way to the core.
struct Binding {
    index: usize,
    number: u64,
    socket: Arc<UdpSocket>,
    reader: tokio::task::AbortHandle,
}

impl Wire {
    /// Forwards what comes to `listen` to `core`, in a thread of its own.
    ///
    /// # Errors
    ///
    /// If the address can't be bound.
    pub fn start(listen: SocketAddr, core: SocketAddr) -> anyhow::Result<Self> {
        let socket = std::net::UdpSocket::bind(listen).context("bind the wire")?;
        socket.set_nonblocking(true)?;
        let state = Arc::new(State::default());
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::clone(&state);
        std::thread::Builder::new().name("wire".into()).spawn(move || {
            runtime.block_on(async {
                let socket = UdpSocket::from_std(socket).expect("a runtime is there");
                tokio::select! {
                    () = forward(Arc::new(socket), core, shared) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { state, stop: Some(stop) })
    }

    /// Loses everything in both directions, or nothing.
    pub fn cut(&self, is_cut: bool) {
        self.cut_up(is_cut);
        self.state.down_cut.store(is_cut, Ordering::Relaxed);
    }

    /// Loses what nodes send to the core, or nothing of it.
    pub fn cut_up(&self, is_cut: bool) {
        self.state.up_cut.store(is_cut, Ordering::Relaxed);
    }

    /// Loses everything from and to one node; nodes count in the order in which they came up.
    pub fn sever(&self, node: usize) {
        self.state.severed.lock().expect("nobody panics with this lock").push(node);
    }

    /// The severed nodes are whole again.
    pub fn mend(&self) {
        self.state.severed.lock().expect("nobody panics with this lock").clear();
    }

    /// Loses one datagram in so many, each way; 0 loses none.
    pub fn lose_one_in(&self, count: u64) {
        self.state.lose_one_in.store(count, Ordering::Relaxed);
    }

    /// Gives every node a new address and port, as a NAT does that has forgotten them.
    pub fn rebind(&self) {
        self.state.binding.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

impl State {
    /// Whether the next datagram of this source is lost on its way.
    fn loses(&self, index: usize, cut: &AtomicBool) -> bool {
        let one_in = self.lose_one_in.load(Ordering::Relaxed);
        let passed = self.passed.fetch_add(1, Ordering::Relaxed);
        // A multiplicative hash spreads the losses, so that they meet no rhythm of the sender's.
        let spread = passed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let lost = one_in > 0 && spread.is_multiple_of(one_in);
        let severed = self.severed.lock().expect("nobody panics with this lock");
        cut.load(Ordering::Relaxed) || lost || severed.contains(&index)
    }
}

async fn forward(listen: Arc<UdpSocket>, core: SocketAddr, state: Arc<State>) {
    let mut readers = JoinSet::new();
    let mut bindings: BTreeMap<SocketAddr, Binding> = BTreeMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        // An error is an ICMP answer of a program that is not there: part of the tests.
        let Ok((len, source)) = listen.recv_from(&mut buffer).await else { continue };
        let number = state.binding.load(Ordering::Relaxed);
        let known = bindings.get(&source).filter(|binding| binding.number == number);
        if known.is_none() {
            let Ok(socket) = upstream(core).await else { continue };
            let (socket, count) = (Arc::new(socket), bindings.len());
            let index = bindings.get(&source).map_or(count, |binding| binding.index);
            let back =
                answer(Arc::clone(&socket), Arc::clone(&listen), source, index, Arc::clone(&state));
            let reader = readers.spawn(back);
            let binding = Binding { index, number, socket, reader };
            if let Some(older) = bindings.insert(source, binding) {
                older.reader.abort();
            }
        }
        let Some(binding) = bindings.get(&source) else { continue };
        if !state.loses(binding.index, &state.up_cut) {
            drop(binding.socket.send(&buffer[..len]).await);
        }
    }
}

async fn upstream(core: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(core.ip(), 0)).await?;
    socket.connect(core).await?;
    Ok(socket)
}

async fn answer(
    from: Arc<UdpSocket>,
    listen: Arc<UdpSocket>,
    source: SocketAddr,
    index: usize,
    state: Arc<State>,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        match from.recv(&mut buffer).await {
            Ok(len) if !state.loses(index, &state.down_cut) => {
                drop(listen.send_to(&buffer[..len], source).await);
            }
            Ok(_) => {}
            // The core is not there just now. Don't spin on it.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    }
}
