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
use crate::namespaces::Host;
use crate::process::Process;
use crate::programs::program;
use crate::settings::{self, Site};

/// From a program's start until it can take its load.
const READY: Duration = Duration::from_secs(60);

/// What a world consists of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the core finds the backend, as its configuration file writes it.
    pub backend: String,
    /// Whether there is a core.
    pub with_core: bool,
    /// How many nodes there are.
    pub nodes: usize,
    /// More for each node's configuration file.
    pub node_more: String,
    /// More for the core's configuration file.
    pub core_more: String,
    /// Before the first table of each member's configuration file.
    pub head: String,
    /// Where the programs run; none: all on one loopback address.
    pub sites: Option<Sites>,
}

/// Where a world's programs run.
#[derive(Clone, Debug)]
pub struct Sites {
    /// Where the gateway listens.
    pub gateway: IpAddr,
    /// The core's site.
    pub core: Site,
    /// The nodes' site.
    pub nodes: Site,
}

impl Sites {
    /// All on one address of 127.0.0.0/8 that no other world has.
    #[must_use]
    pub fn on_loopback() -> Self {
        let address = own_address();
        Self { gateway: address, core: Site::here(address), nodes: Site::here(address) }
    }
}

impl Plan {
    /// One node, nothing special.
    #[must_use]
    pub fn with_backend(address: SocketAddr) -> Self {
        Self {
            backend: format!("http://{address}"),
            with_core: true,
            nodes: 1,
            node_more: String::new(),
            core_more: String::new(),
            head: String::new(),
            sites: None,
        }
    }
}

/// Everything running; ends when dropped.
#[derive(Debug)]
pub struct World {
    /// The control plane.
    pub gateway: Process,
    /// The far end, if the plan has one.
    pub core: Option<Process>,
    /// The relays.
    pub nodes: Vec<Process>,
    /// Where all of them run.
    pub sites: Sites,
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
        let sites = plan.sites.clone().unwrap_or_else(Sites::on_loopback);
        let named = sites.nodes.address.to_string();
        let certificates = Certificates::make(folder.path(), &["localhost", &named])?;

        let text = settings::gateway(folder.path(), sites.gateway);
        let gateway = start(folder.path(), "gateway", "gateway", &text, None)?;
        ready(&gateway, settings::admin(sites.gateway, 0), READY)?;
        let (core, nodes) = (None, Vec::new());
        let mut world = Self { gateway, core, nodes, sites, certificates, folder };
        if plan.with_core {
            let site = &world.sites.core;
            let text = settings::core(world.folder.path(), site, "core", &plan.backend);
            let text = format!("{}\n{text}{}", plan.head, plan.core_more);
            let admin = settings::admin(site.address, 1);
            world.core = Some(world.join("core", "core", &text, site, admin)?);
        }
        for index in 0..plan.nodes {
            let text = world.node_settings(index);
            let text = format!("{}\n{text}{}", plan.head, plan.node_more);
            let site = &world.sites.nodes;
            let admin = settings::admin(site.address, 2 + index);
            let node = world.join("node", &format!("node{index}"), &text, site, admin)?;
            world.nodes.push(node);
        }
        Ok(world)
    }

    /// Starts a member with a new join token and waits until it is ready. Where it ends because of
    /// its host's interface, does what its words advise, as an operator would, and starts it again.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub fn join(
        &self,
        program: &str,
        name: &str,
        text: &str,
        site: &Site,
        admin: SocketAddr,
    ) -> anyhow::Result<Process> {
        self.token(program, name)?;
        loop {
            let process = start(self.folder.path(), program, name, text, site.host.as_ref())?;
            let Err(error) = ready(&process, admin, READY) else { return Ok(process) };
            let (Some(host), Some(advice)) = (&site.host, advice(&process.printed())) else {
                return Err(error);
            };
            let words: Vec<&str> = advice.split(' ').collect();
            host.run(words[0], &words[1..]).with_context(|| format!("{error:#}"))?;
        }
    }

    /// Starts a node with a new join token, and does not wait for it.
    ///
    /// # Errors
    ///
    /// If the gateway gives no token, or the program can't be started.
    pub fn node(&self, index: usize, more: &str) -> anyhow::Result<Process> {
        let name = format!("node{index}");
        self.token("node", &name)?;
        self.run("node", &name, &(self.node_settings(index) + more))
    }

    /// The configuration file of a node.
    #[must_use]
    pub fn node_settings(&self, index: usize) -> String {
        settings::node(self.folder.path(), &self.sites.nodes, index, &self.certificates)
    }

    /// Writes `text` as the configuration file of a program, and starts it.
    ///
    /// # Errors
    ///
    /// If the program can't be started.
    pub fn run(&self, program: &str, name: &str, text: &str) -> anyhow::Result<Process> {
        let host = match program {
            "core" => self.sites.core.host.as_ref(),
            "node" => self.sites.nodes.host.as_ref(),
            _ => None,
        };
        start(self.folder.path(), program, name, text, host)
    }

    /// Starts a new core beside the one that serves, with the same file, and waits until it has
    /// taken over.
    ///
    /// # Errors
    ///
    /// If it does not, or the old one ends otherwise than it should.
    pub fn upgrade_core(&mut self) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(self.folder.path().join("core.toml"))?;
        let fresh = self.run("core", "core", &text)?;
        let old = self.core.replace(fresh).context("the world has a core")?;
        let ended = old.wait(READY)?;
        let fresh: &Process = self.core.as_ref().context("it was just put there")?;
        ensure!(ended.success(), "ended with {ended}:\n{}\n{}", old.printed(), fresh.printed());
        fresh.wait_for("go on", READY)?;
        Ok(())
    }

    /// Has the gateway make a join token for a role, and writes it to the file of the member
    /// `name`.
    ///
    /// # Errors
    ///
    /// If the gateway makes none.
    pub fn token(&self, role: &str, name: &str) -> anyhow::Result<PathBuf> {
        let told = self.gateway_command(&["token", "create", "--role", role])?;
        let token = told.lines().find(|line| line.starts_with("antipode-join-v1."));
        let file = settings::token_file(self.folder.path(), name);
        std::fs::write(&file, token.context("the gateway printed a token")?)?;
        private(&file)?;
        Ok(file)
    }

    /// The relay's two programs, whose memory is bounded whatever passes.
    ///
    /// # Panics
    ///
    /// If the plan had no core or no node.
    #[must_use]
    pub fn relay(&self) -> [&Process; 2] {
        [&self.nodes[0], self.core.as_ref().expect("the plan had a core")]
    }

    /// A client of a node.
    #[must_use]
    pub fn client(&self, node: usize) -> Client {
        Client {
            address: settings::front(self.sites.nodes.address, node),
            name: self.sites.nodes.address.to_string(),
            tls: Some(self.certificates.client()),
            source: None,
        }
    }

    /// Runs a command of the gateway's command line, and returns what it printed.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn gateway_command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(program("antipode-gateway"));
        command.arg("--config").arg(self.folder.path().join("gateway.toml")).args(arguments);
        let output = command.output()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {}\n{printed}{errors}", output.status);
        Ok(printed)
    }

    /// Metrics of a program, as its admin endpoint tells them: 0 the gateway, 1 the core, then
    /// nodes.
    ///
    /// # Errors
    ///
    /// If the program does not answer.
    pub async fn metrics(&self, program: usize) -> anyhow::Result<String> {
        let address = match program {
            0 => self.sites.gateway,
            1 => self.sites.core.address,
            _ => self.sites.nodes.address,
        };
        let admin = Client::direct(settings::admin(address, program));
        Ok(admin.get("/metrics").await?.1)
    }
}

fn start(
    folder: &Path,
    program_name: &str,
    name: &str,
    text: &str,
    host: Option<&Host>,
) -> anyhow::Result<Process> {
    let file = folder.join(format!("{name}.toml"));
    std::fs::write(&file, text)?;
    let program = program(&format!("antipode-{program_name}"));
    let program = program.to_str().context("a UTF-8 path")?;
    let mut command = host.map_or_else(|| Command::new(program), |host| host.command(program));
    command.arg("--config").arg(&file).env("ANTIPODE_LOG", "info");
    Process::start(name, command)
}

/// The command about a WireGuard interface that a program's last words advise.
fn advice(printed: &str) -> Option<String> {
    let quoted = printed.lines().last()?.split('`').skip(1).step_by(2);
    let is_known = |text: &&str| text.starts_with("wg set ") || text.starts_with("ip -6 address ");
    quoted.filter(is_known).last().map(str::to_owned)
}

/// Waits until the program at `admin` says that it is ready.
///
/// # Errors
///
/// If it does not within `limit`.
pub fn ready(process: &Process, admin: SocketAddr, limit: Duration) -> anyhow::Result<()> {
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
    while waited < limit && process.ended().is_none() {
        answer = ask().unwrap_or_else(|error| error.to_string());
        if answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        std::thread::sleep(STEP);
        waited += STEP;
    }
    anyhow::bail!("not ready after {limit:?}: {answer}\n{}", process.printed())
}

/// An address of 127.0.0.0/8 that no other world of this machine is likely to have.
fn own_address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // 127.64.0.0 to 127.191.255.255: the first and last parts are where other programs look.
    let part = 64 + high % 128;
    IpAddr::V4(Ipv4Addr::new(127, part, low, NEXT.fetch_add(1, Ordering::Relaxed)))
}
