//! The core put together: what is bound, joined and started, in which order.

use std::net::SocketAddr;
use std::sync::Arc;

use antipode_proto::registry::v1::{Carrier as CarrierKind, Introduction, Role};
use antipode_runtime::admin::{self, Readiness};
use antipode_runtime::listen::ListenError;
use antipode_runtime::member::{
    JoinError, Member, MemberConfig, TunnelError, TunnelPlace, tls as member_tls,
};
use antipode_runtime::process::Probe;
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::accept::{Listen, StartError as TrunkStartError};
use antipode_trunk::{AcceptConfig, Budget, Incoming, SessionConfig, TrunkServer};
use antipode_tunnel::key::BULK_PORT_OFFSET;
use antipode_tunnel::{Class, SocketError, TrunkTuning, Underlay};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tracing::info;

mod report;
mod roster;
mod streams;
mod takeover;

use self::streams::Streams;
pub use crate::backend::TlsError;

use crate::backend::Backends;
use crate::bridge::Bridge;
use crate::config::{Carrier, Config, TunnelMode};
use crate::handover::{Inheritance, Linger, TakeOverError};
use crate::metrics::Metrics;
use crate::resume::Resume;
use crate::resume::key::{self, KeyError};

/// Name and version, for peers' logs.
const SOFTWARE: &str = concat!("antipode-core/", env!("CARGO_PKG_VERSION"));

/// Sessions above the limit are taken, so that they can be answered 503 rather than cut.
const SESSIONS_REFUSED_POLITELY_MAX: usize = 1024;

/// A running core.
#[derive(Debug)]
pub struct App {
    admin: Option<SocketAddr>,
    tunnel_port: u16,
    streams: Option<SocketAddr>,
    member: Member,
    bridge: Arc<Bridge>,
    _linger: Linger,
}

/// The core can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// TLS to a backend can't be set up.
    #[error("backends")]
    Backends(#[from] TlsError),
    /// The operator's endpoint has no port.
    #[error("listeners")]
    Listen(#[from] ListenError),
    /// Another process serves, and does not hand over.
    #[error("taking over")]
    TakeOver(#[from] TakeOverError),
    /// The gateway is not to be had, or does not want us.
    #[error("joining the gateway")]
    Join(#[from] JoinError),
    /// There is no WireGuard.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// No socket inside the tunnel.
    #[error("a socket inside the tunnel (`trunk.port`)")]
    Socket(#[from] SocketError),
    /// The key of resume tokens.
    #[error("the key of resume tokens (`member.state_dir`)")]
    ResumeKey(#[from] KeyError),
    /// The trunks' TLS or socket.
    #[error("the trunks")]
    Trunks(#[from] TrunkStartError),
}

impl App {
    /// Starts a core; it runs until `shutdown` has drained it.
    ///
    /// # Errors
    ///
    /// What can't be had, and what to do about it.
    pub async fn start(config: Config, shutdown: Shutdown) -> Result<Self, StartError> {
        let mut registry = Registry::default();
        admin::register_build_info(&mut registry, "antipode-core", env!("CARGO_PKG_VERSION"));
        let probe = Probe::start(&shutdown);
        probe.register(&mut registry);
        let metrics = Metrics::register(&mut registry);
        let trunk_metrics = antipode_trunk::Metrics::register(&mut registry);
        let tunnel_metrics = antipode_tunnel::Metrics::register(&mut registry);

        let readiness = Readiness::new(&shutdown);
        readiness.waiting("backend", "no backend is known to be well yet");
        readiness.waiting("gateway", "not joined yet");
        let backends = Backends::new(&config, &metrics, &shutdown)?;
        let registry = Arc::new(registry);
        let (early, inheritance) = takeover::take_over(&config, &shutdown).await?.unzip();
        let serve = async || {
            admin::serve(config.admin, readiness.clone(), registry.clone(), &shutdown).await
        };
        let is_heir = inheritance.is_some();
        let admin = takeover::until_free(is_heir, serve).await?;

        let member = match early {
            Some(member) => member,
            None => Member::join(member_config(&config), &shutdown).await?,
        };
        info!(member.id = member.identity().member_id(), "joined");
        readiness.ready("gateway");
        let run = inheritance.as_ref().map_or_else(rand::random, |left| left.run);
        let listen = tunnel_listen(&config, inheritance.as_ref());
        let bind = async || underlay(&config, listen, &member, &shutdown, &tunnel_metrics).await;
        let underlay = takeover::until_free(is_heir, bind).await?;
        let tunnel_port = underlay.listen_port();
        let trunks =
            async || trunks(&config, run, &member, &underlay, &shutdown, &trunk_metrics).await;
        let (server, sessions) = takeover::until_free(is_heir, trunks).await?;
        let shielded = underlay.clone();
        server.on_quic(move |node, counts| shielded.note_quic(node, counts));
        let asked = underlay.clone();
        server.ask_way(move |node| asked.way_to(node));

        backends.start_checks(&config, &shutdown);
        let streams = streams::listen(&config, &member, &underlay, is_heir).await?;
        let stream_address = streams.as_ref().map(Streams::address);
        let introduction = introduction(&config, tunnel_port, stream_address);
        let resume = resume(&config, &member, server.budget(), &metrics)?;
        let bridge = Bridge::new(config.clone(), backends, resume, metrics.clone(), &shutdown);
        let heard_at = takeover::enter(inheritance, &server, &bridge);
        take_sessions(Arc::clone(&bridge), sessions, &shutdown);
        let linger = takeover::offer(&config, &bridge, &server, &underlay, &member, run, &shutdown);
        let doors = roster::Doors { server, streams, heard_at };
        let tunnels = roster::follow(&member, &underlay, doors, &metrics, &shutdown);
        report::watch(&bridge, &member, &readiness, &shutdown);
        let heartbeat = report::heartbeat(Arc::clone(&bridge), metrics, probe, tunnels);
        member.attend(introduction, heartbeat);
        let streams = stream_address;
        Ok(Self { admin, tunnel_port, streams, member, bridge, _linger: linger })
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

    /// Where streams are taken, from nodes whose UDP is blocked.
    #[must_use]
    pub fn streams(&self) -> Option<SocketAddr> {
        self.streams
    }

    /// This core as a member of its gateway.
    #[must_use]
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Sessions at hand.
    #[must_use]
    pub fn sessions_len(&self) -> usize {
        self.bridge.sessions_len()
    }

    /// Whether a backend is known to be well.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.bridge.backends().any_healthy()
    }
}

/// Gives each session its own task. A service: sessions of an unbroken trunk come through a drain,
/// too, until the nodes have heard of it.
fn take_sessions(bridge: Arc<Bridge>, mut sessions: mpsc::Receiver<Incoming>, shutdown: &Shutdown) {
    shutdown.spawn_service(async move {
        while let Some(incoming) = sessions.recv().await {
            bridge.spawn(incoming);
        }
    });
}

fn resume(
    config: &Config,
    member: &Member,
    budget: &Budget,
    metrics: &Metrics,
) -> Result<Arc<Resume>, KeyError> {
    let identity = member.identity();
    let key = key::load_or_make(identity.state_dir())?;
    let core = identity.member_id().to_owned();
    Ok(Resume::new(config.resume, key, core, budget.clone(), metrics.clone()))
}

fn member_config(config: &Config) -> MemberConfig {
    let member = &config.member;
    let (name, state_dir) = (member.name.clone(), member.state_dir.clone());
    let mut joining = MemberConfig::new(Role::Core, name, state_dir);
    joining.join_token_file.clone_from(&member.join_token_file);
    joining.gateway.clone_from(&member.gateway);
    joining
}

/// WireGuard's socket. A port that the system chose for a predecessor is kept: nodes know it.
fn tunnel_listen(config: &Config, inheritance: Option<&Inheritance>) -> SocketAddr {
    let mut listen = config.tunnel.listen();
    let port = inheritance.and_then(|left| u16::try_from(left.estate.tunnel_port).ok());
    if let Some(port) = port.filter(|_| listen.port() == 0) {
        listen.set_port(port);
    }
    listen
}

async fn underlay(
    config: &Config,
    listen: SocketAddr,
    member: &Member,
    shutdown: &Shutdown,
    metrics: &antipode_tunnel::Metrics,
) -> Result<Underlay, StartError> {
    let place = match (config.tunnel.mode, &config.tunnel.interface) {
        (TunnelMode::Host, Some(interface)) => TunnelPlace::Host { interface },
        (TunnelMode::InProcess | TunnelMode::Host, _) => {
            TunnelPlace::InProcess { listen, shield: config.tunnel.shield() }
        }
    };
    Ok(member.tunnel(place, shutdown, metrics).await?)
}

async fn trunks(
    config: &Config,
    run: [u8; 16],
    member: &Member,
    underlay: &Underlay,
    shutdown: &Shutdown,
    metrics: &antipode_trunk::Metrics,
) -> Result<(TrunkServer, mpsc::Receiver<Incoming>), StartError> {
    let port = config.trunk.port;
    let listen = match config.trunk.carrier {
        Carrier::Quic => {
            let chat = Listen::Quic(underlay.quic_socket(port, Class::Chat)?, Class::Chat);
            // The last port has none after it: then there are no lanes for bulk.
            let bulk = port.checked_add(BULK_PORT_OFFSET);
            let bulk = bulk.map(|port| underlay.quic_socket(port, Class::Bulk)).transpose()?;
            let bulk = bulk.map(|socket| Listen::Quic(socket, Class::Bulk));
            std::iter::once(chat).chain(bulk).collect()
        }
        Carrier::Tcp => {
            // The error of this one says how the tunnel's address gets onto the interface.
            drop(underlay.quic_socket(0, Class::Chat)?);
            let address = underlay.tcp_bind_address(port).expect("checked with the settings");
            vec![Listen::Tcp(antipode_runtime::listen::bind_tcp("trunk.port", address).await?)]
        }
    };
    let accept = AcceptConfig {
        tls: member_tls::server_config(member.identity()),
        tuning: TrunkTuning::default(),
        session: SessionConfig::default(),
        sessions_max: trunk_sessions_max(config),
        budget: Budget::new(config.limits.held_bytes_max.get()),
        run,
        software: SOFTWARE.to_owned(),
    };
    Ok(TrunkServer::start(accept, listen, shutdown, metrics.clone())?)
}

/// Each resumable session may have a new attachment beside an old one that has yet to notice.
fn trunk_sessions_max(config: &Config) -> usize {
    let attachments = if config.resume.enabled { config.resume.sessions_max.get() } else { 0 };
    config.limits.sessions_max.get() + attachments + SESSIONS_REFUSED_POLITELY_MAX
}

fn introduction(config: &Config, tunnel_port: u16, streams: Option<SocketAddr>) -> Introduction {
    let endpoints = endpoints(config, tunnel_port);
    let stream_endpoints =
        streams.map(|streams| config.tunnel.stream_endpoints(&endpoints, streams.port()));
    let member = &config.member;
    let carrier = match config.trunk.carrier {
        Carrier::Quic => CarrierKind::Quic,
        Carrier::Tcp => CarrierKind::Tcp,
    };
    Introduction {
        software: SOFTWARE.to_owned(),
        region: member.region.to_string(),
        location: member.location.map(Into::into),
        sessions_max: u32::try_from(config.limits.sessions_max.get()).unwrap_or(u32::MAX),
        endpoints,
        stream_endpoints: stream_endpoints.unwrap_or_default(),
        trunk_port: config.trunk.port.into(),
        carrier: carrier.into(),
        ..Introduction::default()
    }
}

/// What the operator names; on a socket bound to one address, that address will do.
fn endpoints(config: &Config, tunnel_port: u16) -> Vec<String> {
    let bound = config.tunnel.listen().ip();
    if config.tunnel.endpoints.is_empty() && !bound.is_unspecified() {
        return vec![SocketAddr::new(bound, tunnel_port).to_string()];
    }
    config.tunnel.endpoints.clone()
}
