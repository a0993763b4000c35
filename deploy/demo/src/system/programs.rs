//! The programs themselves, each with its own settings, its own state and its own shutdown.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use antipode_gateway::member::Role;
use antipode_proto::registry::v1::Member;
use antipode_runtime::config;
use antipode_runtime::shutdown::{Failure, Shutdown};
use antipode_runtime::state_file;
use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::StartError;
use super::paths::{Ends, NodeEnds, Paths};
use crate::args::Args;
use crate::certificate::{Certificate, Files};
use crate::region::{EUROPE, REGIONS, Region};
use crate::say;

/// Name of the core, for the gateway and for the nodes' `tunnel.core_endpoints`.
const CORE: &str = "europe";

/// How long each kind of program may drain: all three together stay well below two seconds.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// Of the join tokens: they are used at once.
const TOKEN_TTL: Duration = Duration::from_secs(60);

/// What runs, and the directory that goes with it.
#[derive(Debug)]
pub(super) struct Programs {
    gateway: (antipode_gateway::app::App, Shutdown),
    core: (antipode_core::app::App, Shutdown),
    nodes: Vec<(antipode_node::app::App, Shutdown)>,
    steer_address: SocketAddr,
    /// Keys, certificates, stores. Removed with this value, after the programs that use them.
    state: State,
}

/// The demo's directory.
#[derive(Debug)]
struct State {
    directory: TempDir,
}

impl Programs {
    /// Starts gateway, core and nodes in this order: each needs the one before.
    pub(super) async fn start(
        args: &Args,
        backend: &str,
        certificate: &Certificate,
        paths: &Paths,
    ) -> Result<Self, StartError> {
        let state = State::make()?;
        let files = certificate
            .write(state.directory.path())
            .map_err(StartError::machine("a file in the temporary directory"))?;
        let (gateway, steer_address) = start_gateway(&state, args).await?;
        say::progress(&format!("  gateway    members at {}", gateway.0.addresses().registry));
        let core = start_core(&state, &gateway.0, args, backend).await?;
        say::progress(&format!(
            "  core       in {}, tunnel at {}/udp",
            EUROPE.name,
            tunnel_address(&core.0)
        ));
        let ports = paths.ports().map_err(StartError::machine("a free port"))?;
        let mut nodes = Vec::new();
        for (region, ports) in REGIONS.iter().zip(&ports) {
            let token = state.token(&gateway.0, Role::Node, region.name).await?;
            let settings = node_settings(&state, region, ports, &token, &files);
            nodes.push(start_node(&state, region, &settings).await?);
            say::progress(&format!(
                "  node       in {}, enrolled with its join token",
                region.city.name
            ));
        }
        Ok(Self { gateway, core, nodes, steer_address, state })
    }

    /// The gateway's HTTP face.
    pub(super) fn steer_address(&self) -> SocketAddr {
        self.steer_address
    }

    /// Where the paths lead.
    pub(super) fn ends(&self) -> Ends {
        let nodes = self.nodes.iter().map(|(node, _)| {
            let at = node.clients();
            NodeEnds { plain: at[0], tls: at[1] }
        });
        Ends { core_tunnel: tunnel_address(&self.core.0), nodes: nodes.collect() }
    }

    /// The gateway's register.
    pub(super) fn members(&self) -> Vec<Member> {
        self.gateway.0.members()
    }

    /// Resolves when one of them failed.
    pub(super) async fn failed(&self) -> Failure {
        let nodes = self.nodes.iter().map(|(_, shutdown)| Box::pin(shutdown.failed()));
        tokio::select! {
            failure = self.gateway.1.failed() => failure,
            failure = self.core.1.failed() => failure,
            (failure, ..) = futures_util::future::select_all(nodes) => failure,
        }
    }

    /// Stops nodes, core and gateway, in this order, and removes their files.
    pub(super) async fn stop(self) {
        let Self { gateway, core, nodes, state, .. } = self;
        let drains = nodes.iter().map(|(_, shutdown)| shutdown.finish(DRAIN_GRACE));
        futures_util::future::join_all(drains).await;
        core.1.finish(DRAIN_GRACE).await;
        gateway.1.finish(DRAIN_GRACE).await;
        drop((nodes, core, gateway));
        state.remove();
    }
}

/// Where the core's WireGuard socket is: its settings put it on loopback.
fn tunnel_address(core: &antipode_core::app::App) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, core.tunnel_port()))
}

type Running<A> = (A, Shutdown);

async fn start_gateway(
    state: &State,
    args: &Args,
) -> Result<(Running<antipode_gateway::app::App>, SocketAddr), StartError> {
    let http = SocketAddr::new(args.listen, 0);
    let settings = format!(
        "listen = \"127.0.0.1:0\"\nstate_dir = {}\ndrain_grace = \"{DRAIN_GRACE:?}\"\n\
         [http]\nlisten = \"{http}\"\n[grpc]\nlisten = \"off\"\n",
        state.quoted("gateway"),
    );
    let settings = state.settings("gateway", &settings)?;
    let shutdown = Shutdown::default();
    let app = antipode_gateway::app::App::start(settings, shutdown.clone());
    let app = app.await.map_err(|source| failed("gateway", source))?;
    let steer_address = app.addresses().http.expect("its settings turn it on");
    Ok(((app, shutdown), steer_address))
}

async fn start_core(
    state: &State,
    gateway: &antipode_gateway::app::App,
    args: &Args,
    backend: &str,
) -> Result<Running<antipode_core::app::App>, StartError> {
    let token = state.token(gateway, Role::Core, CORE).await?;
    let mut settings = format!(
        "drain_grace = \"{DRAIN_GRACE:?}\"\n\
         [member]\nstate_dir = {}\njoin_token_file = {}\nname = \"{CORE}\"\nregion = \"{CORE}\"\n\
         [tunnel]\nlisten = \"127.0.0.1:0\"\nstream_listen = \"off\"\n\
         [[backend]]\nurl = \"{backend}\"\n",
        state.quoted(CORE),
        quoted(&token),
    );
    if let Some(url) = &args.backend {
        writeln!(settings, "host = \"{}\"", url.authority()).expect("a string takes every write");
    }
    let settings = state.settings("core", &settings)?;
    let shutdown = Shutdown::default();
    let app = antipode_core::app::App::start(settings, shutdown.clone());
    Ok((app.await.map_err(|source| failed("core", source))?, shutdown))
}

fn node_settings(
    state: &State,
    region: &Region,
    ports: &super::paths::Ports,
    token: &Path,
    files: &Files,
) -> String {
    let at = region.city.at;
    format!(
        "drain_grace = \"{DRAIN_GRACE:?}\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\ntls = false\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\n\
         [[certificate]]\nchain_file = {}\nkey_file = {}\n\
         [member]\nstate_dir = {}\njoin_token_file = {}\nname = \"{name}\"\nregion = \"{name}\"\n\
         location = {{ latitude = {}, longitude = {} }}\n\
         public_urls = [\"wss://{}\", \"ws://{}\"]\n\
         [tunnel]\nlisten = \"127.0.0.1:0\"\ncore_endpoints = {{ {CORE} = \"{}\" }}\n",
        quoted(&files.certificate),
        quoted(&files.key),
        state.quoted(region.name),
        quoted(token),
        at.latitude,
        at.longitude,
        ports.relay_tls,
        ports.relay,
        ports.tunnel,
        name = region.name,
    )
}

async fn start_node(
    state: &State,
    region: &Region,
    settings: &str,
) -> Result<Running<antipode_node::app::App>, StartError> {
    let settings = state.settings(region.name, settings)?;
    let shutdown = Shutdown::default();
    let app = antipode_node::app::App::start(settings, shutdown.clone());
    Ok((app.await.map_err(|source| failed("node", source))?, shutdown))
}

fn failed<E>(program: &'static str, source: E) -> StartError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    StartError::Program { program, source: source.into() }
}

impl State {
    fn make() -> Result<Self, StartError> {
        let directory = tempfile::Builder::new().prefix("antipode-demo-").tempdir();
        Ok(Self { directory: directory.map_err(StartError::machine("a temporary directory"))? })
    }

    /// Writes a program's file of settings and reads it as the program itself would.
    fn settings<C: serde::de::DeserializeOwned>(
        &self,
        name: &'static str,
        text: &str,
    ) -> Result<C, StartError> {
        let path = self.directory.path().join(format!("{name}.toml"));
        std::fs::write(&path, text).map_err(StartError::machine("a file of settings"))?;
        config::load(&path).map_err(|source| failed(name, source))
    }

    /// Has the gateway make a join token, and puts it into a file.
    async fn token(
        &self,
        gateway: &antipode_gateway::app::App,
        role: Role,
        name: &str,
    ) -> Result<PathBuf, StartError> {
        let token = gateway.create_token(role, 1, TOKEN_TTL).await;
        let token = token.map_err(|source| failed("gateway", source))?;
        let path = self.directory.path().join(format!("{name}.token"));
        state_file::write_atomic(&path, token.expose_secret().as_bytes())
            .map_err(StartError::machine("a file for a join token"))?;
        Ok(path)
    }

    /// A program's own directory, as TOML.
    fn quoted(&self, name: &str) -> String {
        quoted(&self.directory.path().join(name))
    }

    /// Removes everything; says so if that is not possible.
    fn remove(self) {
        let path = self.directory.path().to_owned();
        if let Err(error) = self.directory.close() {
            say::progress(&format!("{} could not be removed: {error}", path.display()));
        }
    }
}

/// A path as a TOML string; JSON's escapes are TOML's too.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}
