//! The whole system on one loopback address: gateway, core and nodes as programs, joined as an
//! operator would join them.
//!
//! Each world has an address of 127.0.0.0/8 to itself, so worlds run side by side on fixed ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::certificate::{Certificates, private};
use crate::client::Client;
use crate::process::Process;
use crate::programs::program;
use crate::settings;

/// From a program's start until it can take its load.
const READY: Duration = Duration::from_secs(60);

/// What a world consists of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the core finds the backend, as its configuration file writes it.
    pub backend: String,
    /// How many nodes there are.
    pub nodes: usize,
    /// More for each node's configuration file.
    pub node_more: String,
    /// More for the core's configuration file.
    pub core_more: String,
}

impl Plan {
    /// One node, nothing special.
    #[must_use]
    pub fn with_backend(address: SocketAddr) -> Self {
        Self {
            backend: format!("http://{address}"),
            nodes: 1,
            node_more: String::new(),
            core_more: String::new(),
        }
    }
}

/// Everything running; ends when dropped.
#[derive(Debug)]
pub struct World {
    /// The control plane.
    pub gateway: Process,
    /// The far end.
    pub core: Process,
    /// The relays.
    pub nodes: Vec<Process>,
    /// Where all of them listen.
    pub address: IpAddr,
    /// What the nodes show to clients.
    pub certificates: Certificates,
    /// Configuration files and state.
    pub folder: tempfile::TempDir,
}

impl World {
    /// Starts all programs, joins core and nodes to the gateway, and waits until they are ready.
    ///
    /// # Errors
    ///
    /// Whatever went wrong, with what the program printed.
    pub async fn start(plan: Plan) -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(move || Self::start_blocking(&plan)).await?
    }

    /// As [`Self::start`], outside a runtime.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_blocking(plan: &Plan) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = own_address();
        let named = address.to_string();
        let certificates = Certificates::make(folder.path(), &["localhost", &named])?;

        let site = Site { folder: folder.path() };
        let gateway = site.run("gateway", "gateway", &settings::gateway(site.folder, address))?;
        ready(&gateway, settings::admin(address, 0))?;
        site.token("core", "core")?;
        let text = settings::core(site.folder, address, &plan.backend) + &plan.core_more;
        let core = site.run("core", "core", &text)?;
        ready(&core, settings::admin(address, 1))?;
        let mut nodes = Vec::new();
        for index in 0..plan.nodes {
            let name = format!("node{index}");
            site.token("node", &name)?;
            let text = settings::node(site.folder, address, index, &certificates) + &plan.node_more;
            let node = site.run("node", &name, &text)?;
            ready(&node, settings::admin(address, 2 + index))?;
            nodes.push(node);
        }
        Ok(Self { gateway, core, nodes, address, certificates, folder })
    }

    /// A client of a node.
    #[must_use]
    pub fn client(&self, node: usize) -> Client {
        Client {
            address: settings::front(self.address, node),
            name: self.address.to_string(),
            tls: Some(self.certificates.client()),
        }
    }

    /// Runs a command of the gateway's command line, and returns what it printed.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn gateway_command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        Site { folder: self.folder.path() }.gateway_command(arguments)
    }

    /// Metrics of a program, as its admin endpoint tells them: 0 the gateway, 1 the core, then nodes.
    ///
    /// # Errors
    ///
    /// If the program does not answer.
    pub async fn metrics(&self, program: usize) -> anyhow::Result<String> {
        let admin = Client::direct(settings::admin(self.address, program));
        Ok(admin.get("/metrics").await?.1)
    }
}

/// Where a world's files are.
#[derive(Clone, Copy, Debug)]
struct Site<'a> {
    folder: &'a Path,
}

impl Site<'_> {
    fn run(self, program_name: &str, name: &str, text: &str) -> anyhow::Result<Process> {
        let file = self.file(name);
        std::fs::write(&file, text)?;
        let mut command = Command::new(program(&format!("antipode-{program_name}")));
        command.arg("--config").arg(&file).env("ANTIPODE_LOG", "info");
        Process::start(name, command)
    }

    fn file(self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.toml"))
    }

    fn token(self, role: &str, name: &str) -> anyhow::Result<()> {
        let token = self.gateway_command(&["token", "create", "--role", role])?;
        let token = token.lines().find(|line| line.starts_with("antipode-join-v1."));
        let file = settings::token_file(self.folder, name);
        std::fs::write(&file, token.context("the gateway printed a token")?)?;
        Ok(private(&file)?)
    }

    fn gateway_command(self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(program("antipode-gateway"));
        command.arg("--config").arg(self.file("gateway")).args(arguments);
        let output = command.output()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {}\n{printed}{errors}", output.status);
        Ok(printed)
    }
}

/// Waits until the program at `admin` says that it is ready.
///
/// # Errors
///
/// If it does not within a minute.
pub fn ready(process: &Process, admin: SocketAddr) -> anyhow::Result<()> {
    use std::io::{Read, Write};
    const STEP: Duration = Duration::from_millis(50);
    let ask = || -> std::io::Result<String> {
        let mut socket = std::net::TcpStream::connect(admin)?;
        socket.write_all(b"GET /readyz HTTP/1.0\r\nHost: admin\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let (mut waited, mut answer) = (Duration::ZERO, String::new());
    while waited < READY {
        answer = ask().unwrap_or_else(|error| error.to_string());
        if answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        std::thread::sleep(STEP);
        waited += STEP;
    }
    anyhow::bail!("not ready after {READY:?}: {answer}\n{}", process.printed())
}

/// An address of 127.0.0.0/8 that no other world of this machine is likely to have.
fn own_address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // 127.64.0.0 to 127.191.255.255: the first and last parts are where other programs look.
    let part = 64 + high % 128;
    IpAddr::V4(Ipv4Addr::new(127, part, low, NEXT.fetch_add(1, Ordering::Relaxed)))
}
