//! The node put together: what is bound, joined and started, in which order.
//!
//! Ports are bound before the join, so that a port in use costs no join token; clients are let in
//! when the trunks are on their way.

mod mesh;
mod report;
mod roster;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;

use antipode_proto::registry::v1::{Introduction, Role};
use antipode_runtime::admin::{self, Readiness};
use antipode_runtime::listen::ListenError;
use antipode_runtime::member::{JoinError, Member, MemberConfig, TunnelError, tls as member_tls};
use antipode_runtime::process::Probe;
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::dial::StartError as TrunkStartError;
use antipode_trunk::{Budget, SessionConfig, Sockets, Trunks, TrunksConfig};
use antipode_tunnel::{Class, SocketError, TrunkTuning, Underlay};
use prometheus_client::registry::Registry;
use tracing::info;

use crate::config::{Carrier, Config};
use crate::front::Front;
use crate::front::listen::{Gates, Listener};
use crate::metrics::Metrics;
use crate::tls::{self, Certificates, TlsError};

/// Name and version, for peers' logs.
const SOFTWARE: &str = concat!("antipode-node/", env!("CARGO_PKG_VERSION"));

/// A running node.
#[derive(Debug)]
pub struct App {
    clients: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    tunnel_port: u16,
    member: Member,
    front: Arc<Front>,
}

/// The node can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A certificate can't be used.
    #[error("certificates for clients")]
    Tls(#[from] TlsError),
    /// A port can't be had.
    #[error("listeners")]
    Listen(#[from] ListenError),
    /// The gateway is not to be had, or does not want us.
    #[error("joining the gateway")]
    Join(#[from] JoinError),
    /// There is no WireGuard.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// No socket inside the tunnel.
    #[error("a socket inside the tunnel")]
    Socket(#[from] SocketError),
    /// The trunks' TLS or socket.
    #[error("the trunks")]
    Trunks(#[from] TrunkStartError),
}

impl App {
    /// Starts a node; it runs until `shutdown` has drained it.
    ///
    /// # Errors
    ///
    /// What can't be had, and what to do about it.
    pub async fn start(config: Config, shutdown: Shutdown) -> Result<Self, StartError> {
        let mut registry = Registry::default();
        admin::register_build_info(&mut registry, "antipode-node", env!("CARGO_PKG_VERSION"));
        let probe = Probe::start(&shutdown);
        probe.register(&mut registry);
        let metrics = Metrics::default();
        metrics.register(&mut registry);
        let trunk_metrics = antipode_trunk::Metrics::register(&mut registry);
        let tunnel_metrics = antipode_tunnel::Metrics::register(&mut registry);

        let readiness = Readiness::new(&shutdown);
        readiness.waiting("trunk", "no trunk to a core is up yet");
        let certificates = Arc::new(Certificates::load(&config.certificates)?);
        let listeners = bind(&config, &certificates).await?;
        let registry = Arc::new(registry);
        let admin = admin::serve(config.admin, readiness.clone(), registry, &shutdown).await?;

        let member = Member::join(member_config(&config), &shutdown).await?;
        info!(member.id = member.identity().member_id(), "joined");
        let place = config.tunnel.place();
        let underlay = member.tunnel(place, &shutdown, &tunnel_metrics).await?;
        let run = rand::random();
        let trunks = trunks(&config, run, &member, &underlay, &shutdown, trunk_metrics)?;
        let waking = underlay.clone();
        trunks.on_dial(move |core| waking.handshake_to(core));
        let shielded = underlay.clone();
        trunks.on_quic(move |core, counts| shielded.note_quic(core, counts));
        let front = Arc::new(Front::new(&config, trunks.clone(), metrics.clone(), &shutdown));

        let watch = tls::watch(certificates, metrics);
        shutdown.spawn_service(watch);
        let mesh = mesh::follow(&member, &underlay, &config.forwarding, &shutdown);
        let tunnels = roster::follow(&member, &underlay, &trunks, &config, mesh, &shutdown);
        report::watch(&front, &member, &readiness);
        report::watch_neighbours(&front, &member);
        let heartbeat = report::heartbeat(Arc::clone(&front), probe, tunnels);
        member.attend(introduction(&config, run), heartbeat);

        let gates = Arc::new(Gates::new(&front));
        let clients = listeners.iter().map(Listener::address).collect();
        for listener in listeners {
            listener.serve(&front, &gates);
        }
        let tunnel_port = underlay.listen_port();
        Ok(Self { clients, admin, tunnel_port, member, front })
    }

    /// Where clients come in, one for each `[[listen]]`, in their order.
    #[must_use]
    pub fn clients(&self) -> &[SocketAddr] {
        &self.clients
    }

    /// Where the operator's endpoint is.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// WireGuard's UDP port.
    #[must_use]
    pub fn tunnel_port(&self) -> u16 {
        self.tunnel_port
    }

    /// This node as a member of its gateway.
    #[must_use]
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Whether a session could be opened now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.front.trunks.is_up()
    }
}

async fn bind(config: &Config, tls: &Arc<Certificates>) -> Result<Vec<Listener>, StartError> {
    let tls = Arc::new(tls.server_config()?);
    let mut listeners = Vec::with_capacity(config.listen.len());
    for listen in &config.listen {
        listeners.push(Listener::bind(*listen, &tls).await?);
    }
    Ok(listeners)
}

fn member_config(config: &Config) -> MemberConfig {
    let member = &config.member;
    let (name, state_dir) = (member.name.clone(), member.state_dir.clone());
    let mut joining = MemberConfig::new(Role::Node, name, state_dir);
    joining.join_token_file.clone_from(&member.join_token_file);
    joining.gateway.clone_from(&member.gateway);
    joining
}

fn trunks(
    config: &Config,
    run: [u8; 16],
    member: &Member,
    underlay: &Underlay,
    shutdown: &Shutdown,
    metrics: antipode_trunk::Metrics,
) -> Result<Trunks, StartError> {
    // Over TCP it is not kept; but its error says how the tunnel's address gets onto the interface,
    // without which the core's WireGuard drops what we send.
    let chat = underlay.quic_socket(0, Class::Chat)?;
    let sockets = match config.trunk.carrier {
        Carrier::Quic => {
            let bulk = (config.trunk.bulk_lanes > 0).then(|| underlay.quic_socket(0, Class::Bulk));
            Some(Sockets { chat, bulk: bulk.transpose()? })
        }
        Carrier::Tcp => None,
    };
    let trunks = TrunksConfig {
        tls: member_tls::client_config(member.identity()),
        tuning: TrunkTuning::default(),
        session: SessionConfig::default(),
        budget: Budget::new(config.session.held_bytes_max),
        lanes: u32::from(config.trunk.lanes),
        bulk_lanes: u32::from(config.trunk.bulk_lanes),
        run,
        software: SOFTWARE.to_owned(),
    };
    Ok(Trunks::start(trunks, sockets, shutdown, metrics)?)
}

fn introduction(config: &Config, run: [u8; 16]) -> Introduction {
    let member = &config.member;
    let mut introduction = Introduction {
        run: run.to_vec().into(),
        software: SOFTWARE.to_owned(),
        region: member.region.to_string(),
        location: member.location.map(Into::into),
        public_urls: member.public_urls.clone(),
        sessions_max: config.session.sessions_max,
        ..Introduction::default()
    };
    mesh::introduce(&config.forwarding, &mut introduction);
    introduction
}

#[cfg(test)]
mod tests {
    use antipode_runtime::telemetry::chain;

    use super::*;

    /// Everything that can be told without a gateway is told before one is asked.
    #[tokio::test]
    async fn what_keeps_a_node_from_starting_is_told() {
        let dir = tempfile::TempDir::new().unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let told = refused(&dir, &address.to_string(), "").await;
        assert!(told.contains("`listen.address`") && told.contains(&address.to_string()), "{told}");

        let certificate = "[[certificate]]\nchain_file = \"/none.pem\"\nkey_file = \"/none.key\"";
        let told = refused(&dir, "127.0.0.1:0", certificate).await;
        assert!(told.contains("/none.pem") && told.contains("[[certificate]]"), "{told}");

        let told = refused(&dir, "127.0.0.1:0", "").await;
        assert!(told.contains("token"), "{told}");
    }

    async fn refused(dir: &tempfile::TempDir, listen: &str, more: &str) -> String {
        let state_dir = dir.path().display();
        let text = format!(
            "listen = [{{ address = \"{listen}\" }}]\nmember = {{ state_dir = \"{state_dir}\", \
             name = \"a\", region = \"b\" }}\n{more}"
        );
        let config: Config = toml::from_str(&text).unwrap();
        let shutdown = Shutdown::default();
        let error = App::start(config, shutdown.clone()).await.unwrap_err();
        shutdown.stop_now();
        chain(&error)
    }
}
