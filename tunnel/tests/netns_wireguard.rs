//! Our WireGuard in this process against Debian's wireguard-go in a network namespace, where QUIC
//! runs on a plain UDP socket: so checksums, padding and lengths are judged by somebody else's
//! code.
//!
//! The far side is this test binary again, started in the namespace; it is told what to do by
//! environment variables, and uses the host mode, so that is tried here too. Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use antipode_tunnel::{
    Class, HostedTunnel, Metrics, PeerConfig, PrivateKey, PublicKey, TRUNK_PORT, Tasks, Tunnel,
    TunnelConfig, Underlay,
};
use quinn::{Endpoint, EndpointConfig, TokioRuntime};

mod certified;

use certified::Certified;

const INTERFACE_PORT: u16 = 51820;
const LEN: usize = 3_000_003;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_dial_through_wireguard_go() {
    let Some(lab) = Lab::make(1) else { return };
    let (tunnel, tasks) = lab.tunnel(true);
    let _far = lab.far_side("serve", &tunnel);
    let underlay = Underlay::InProcess(tunnel);
    let trunk = SocketAddr::new(lab.far_key.address().into(), TRUNK_PORT);
    dial(&underlay, trunk, &lab.certified).await;
    assert!(underlay.peers().await.unwrap()[0].rtt.is_some());
    tasks.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wireguard_go_dials_through_us() {
    let Some(lab) = Lab::make(2) else { return };
    let (tunnel, tasks) = lab.tunnel(false);
    let far = lab.far_side("dial", &tunnel);
    let underlay = Underlay::InProcess(tunnel);
    tokio::time::timeout(Duration::from_secs(30), serve(&underlay, &lab.certified)).await.unwrap();
    drop(far);
    tasks.stop.cancel();
}

/// Not a test when run by hand: what [`Lab::far_side`] starts in the namespace.
#[tokio::test]
async fn far_side() {
    let Ok(role) = std::env::var("ANTIPODE_FAR_ROLE") else { return };
    let told = |name: &str| std::env::var(name).unwrap();
    let hosted = HostedTunnel::open(&told("ANTIPODE_FAR_INTERFACE")).await.unwrap();
    assert_eq!(hosted.listen_port(), INTERFACE_PORT);
    assert!(hosted.quic_socket(0).unwrap_err().to_string().contains(&hosted.address_command()));
    run(&hosted.address_command());

    let stranger = PeerConfig::new(PrivateKey::generate().public_key());
    let near: PublicKey = told("ANTIPODE_FAR_PEER").parse().unwrap();
    let endpoint = (role == "dial").then(|| told("ANTIPODE_FAR_ENDPOINT").parse().unwrap());
    let peer = PeerConfig { endpoint, ..PeerConfig::new(near) };
    hosted.set_peers(vec![stranger, peer.clone()]).await.unwrap();
    hosted.set_peers(vec![peer]).await.unwrap();
    let peers = hosted.peers().await.unwrap();
    assert_eq!(peers.len(), 1, "the stranger is gone: {peers:?}");

    let certified = Certified::load(Path::new(&told("ANTIPODE_FAR_FOLDER")));
    let underlay = Underlay::Hosted(hosted);
    if role == "dial" {
        dial(&underlay, SocketAddr::new(near.address().into(), TRUNK_PORT), &certified).await;
        assert!(underlay.peers().await.unwrap()[0].handshake_age.is_some());
        return;
    }
    let socket = underlay.tcp_bind_address(0).unwrap();
    drop(tokio::net::TcpListener::bind(socket).await.unwrap());
    serve(&underlay, &certified).await;
}

/// Sends `LEN` bytes to an echo and has them back.
async fn dial(underlay: &Underlay, trunk: SocketAddr, certified: &Certified) {
    let mut client = endpoint(underlay, 0, None);
    client.set_default_client_config(certified.client());
    let connection = loop {
        match client.connect(trunk, "core").unwrap().await {
            Ok(connection) => break connection,
            Err(quinn::ConnectionError::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
    };
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let said: Vec<u8> = (0..LEN).map(|at| u8::try_from(at * 7 % 253).unwrap()).collect();
    let (wrote, heard) = tokio::join!(
        async {
            send.write_all(&said).await?;
            send.finish().map_err(|_| quinn::WriteError::ClosedStream)
        },
        recv.read_to_end(LEN)
    );
    wrote.unwrap();
    assert!(heard.unwrap() == said, "content changed on the way");
    let mtu = connection.stats().path.current_mtu;
    assert!((1232..=1372).contains(&mtu), "{mtu}");
    connection.close(0u8.into(), b"");
    client.wait_idle().await;
}

async fn serve(underlay: &Underlay, certified: &Certified) {
    let server = endpoint(underlay, TRUNK_PORT, Some(certified.server()));
    say("ready");
    let connection = server.accept().await.unwrap().await.unwrap();
    let (mut send, mut recv) = connection.accept_bi().await.unwrap();
    while let Some(chunk) = recv.read_chunk(65_536, true).await.unwrap() {
        send.write_chunk(chunk.bytes).await.unwrap();
    }
    send.finish().unwrap();
    connection.closed().await;
}

fn endpoint(underlay: &Underlay, port: u16, server: Option<quinn::ServerConfig>) -> Endpoint {
    let socket = underlay.quic_socket(port, Class::Chat).unwrap();
    let runtime = Arc::new(TokioRuntime);
    Endpoint::new_with_abstract_socket(EndpointConfig::default(), server, socket, runtime).unwrap()
}

/// A namespace with wireguard-go in it, joined to ours; gone when dropped.
struct Lab {
    namespace: String,
    near: IpAddr,
    far: IpAddr,
    near_key: PrivateKey,
    far_key: PublicKey,
    certified: Certified,
    folder: tempfile::TempDir,
    wireguard: Option<Child>,
}

impl Lab {
    /// `None`, said aloud, where there is no root or no wireguard-go.
    fn make(serial: u8) -> Option<Self> {
        let [.., process] = std::process::id().to_be_bytes();
        let namespace = format!("tn{process:02x}{serial:02x}");
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("far.key");
        let far_key = PrivateKey::load_or_generate(&key_file).unwrap().public_key();
        let address = |last| IpAddr::V4(Ipv4Addr::new(10, 177 + serial, process, last));
        let (near, far) = (address(1), address(2));
        if !has_program("wireguard-go") || !has_program("wg") || !may_make(&namespace) {
            let all = std::env::var("ANTIPODE_REQUIRE_ALL").is_ok_and(|value| value == "1");
            assert!(!all, "needs CAP_NET_ADMIN, wireguard-go and wireguard-tools");
            say("skipped: needs CAP_NET_ADMIN, wireguard-go and wireguard-tools");
            return None;
        }
        let certified = Certified::new();
        certified.save(folder.path());
        let near_key = PrivateKey::generate();
        let mut lab =
            Self { namespace, near, far, near_key, far_key, certified, folder, wireguard: None };
        lab.connect();
        lab.start_wireguard(&key_file);
        Some(lab)
    }

    fn connect(&self) {
        let (name, near, far) = (&self.namespace, self.near, self.far);
        run(&format!("ip link add {name}v type veth peer name eth0 netns {name}"));
        run(&format!("ip addr add {near}/24 dev {name}v"));
        run(&format!("ip link set {name}v up"));
        run(&format!("ip -n {name} addr add {far}/24 dev eth0"));
        run(&format!("ip -n {name} link set eth0 up"));
        run(&format!("ip -n {name} link set lo up"));
    }

    fn start_wireguard(&mut self, key_file: &Path) {
        let interface = self.interface();
        let mut command = self.command("wireguard-go");
        command.args(["--foreground", &interface]).stdout(Stdio::null()).stderr(Stdio::null());
        self.wireguard = Some(command.spawn().unwrap());
        let key_file = key_file.display();
        let inside = format!("ip netns exec {} ", self.namespace);
        let key = format!(
            "{inside}wg set {interface} private-key {key_file} listen-port {INTERFACE_PORT}"
        );
        let up = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            try_run(&key)
        });
        assert!(up, "{key}");
        run(&format!("{inside}ip link set {interface} mtu 1420 up"));
    }

    /// Our end; `dials` tells whether it knows where the far one is.
    fn tunnel(&self, dials: bool) -> (Tunnel, Tasks) {
        let tasks = Tasks::default();
        let config = TunnelConfig::new(self.near_key.clone(), SocketAddr::new(self.near, 0));
        let tunnel = Tunnel::bind(config, &tasks, Metrics::default()).unwrap();
        let far = dials.then(|| SocketAddr::new(self.far, INTERFACE_PORT));
        tunnel.set_peers(vec![PeerConfig { endpoint: far, ..PeerConfig::new(self.far_key) }]);
        (tunnel, tasks)
    }

    /// This binary again, in the namespace; returns when it serves, or at once if it dials.
    fn far_side(&self, role: &str, near: &Tunnel) -> FarSide {
        let mut command = self.command(std::env::current_exe().unwrap().to_str().unwrap());
        command
            .args(["--exact", "far_side", "--nocapture"])
            .env("ANTIPODE_FAR_ROLE", role)
            .env("ANTIPODE_FAR_INTERFACE", self.interface())
            .env("ANTIPODE_FAR_PEER", near.public_key().to_string())
            .env("ANTIPODE_FAR_ENDPOINT", near.local_addr().to_string())
            .env("ANTIPODE_FAR_FOLDER", self.folder.path())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        if role == "serve" {
            let mut line = String::new();
            while line.trim() != "ready" {
                line.clear();
                assert!(said.read_line(&mut line).unwrap() > 0, "the far side has ended");
            }
        }
        FarSide { child, _said: said }
    }

    fn interface(&self) -> String {
        format!("{}g", self.namespace)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut wireguard) = self.wireguard.take() {
            let _ = wireguard.kill();
            let _ = wireguard.wait();
        }
        try_run(&format!("ip netns del {}", self.namespace));
        let _ = std::fs::remove_file(PathBuf::from("/run/wireguard").join(self.interface()));
    }
}

/// The far process; its outcome is part of the test.
struct FarSide {
    child: Child,
    _said: BufReader<std::process::ChildStderr>,
}

impl Drop for FarSide {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.child.kill();
        }
        let ended = self.child.wait().unwrap();
        let failed = !ended.success() && !std::thread::panicking();
        assert!(!failed, "the far side failed: {ended}");
    }
}

fn may_make(namespace: &str) -> bool {
    Path::new("/dev/net/tun").exists() && try_run(&format!("ip netns add {namespace}"))
}

fn has_program(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok()
}

#[track_caller]
fn run(command: &str) {
    assert!(try_run(command), "{command}");
}

fn try_run(command: &str) -> bool {
    let mut words = command.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Straight to standard error, so that it shows without `--nocapture`.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
