//! The gateway, whole: everything bound and started, in one call.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use antipode_proto::registry::v1 as wire;
use antipode_proto::registry::v1::admin_server::AdminServer;
use antipode_proto::registry::v1::registry_server::RegistryServer;
use antipode_proto::steering::v1::steering_server::SteeringServer;
use antipode_runtime::admin::{self, Readiness};
use antipode_runtime::listen::{ListenError, bind_tcp};
use antipode_runtime::shutdown::Shutdown;
use antipode_runtime::state_file;
use prometheus_client::registry::Registry;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_stream::wrappers::UnixListenerStream;
use tracing::{error, info, warn};

use crate::authority::{Authority, AuthorityError, CERTIFICATE_LIFETIME};
use crate::config::{Config, Face, Mmdb, Trust};
use crate::faces::grpc::SteeringService;
use crate::faces::{Guide, http};
use crate::locate::{AddressBook, Geography, OpenError, Reloaded};
use crate::member::Role;
use crate::metrics::Metrics;
use crate::operator::{self, Operator, SOCKET_FILE, SocketError, TokenCreateError};
use crate::register::Settings;
use crate::registry::{Desk, Parts, RegistryService};
use crate::rpc;
use crate::socket::{Admittance, accept};
use crate::store::{Store, StoreError};
use crate::tls::{self, OwnCertificate, TlsError};

/// A running gateway. It ends with the shutdown it was started with.
#[derive(Debug)]
pub struct App {
    addresses: Addresses,
    operator: Operator,
    guide: Guide,
}

/// What it listens on.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Where members call.
    pub registry: SocketAddr,
    /// The HTTP face.
    pub http: Option<SocketAddr>,
    /// The gRPC face.
    pub grpc: Option<SocketAddr>,
    /// `/healthz`, `/readyz`, `/metrics`.
    pub admin: Option<SocketAddr>,
    /// Where the commands ask.
    pub socket: PathBuf,
}

/// Why a gateway can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory.
    #[error("state directory {path} can't be made: set state_dir to one this user may write to")]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The commands' socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificate authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The mmdb file.
    #[error(transparent)]
    Mmdb(#[from] OpenError),
    /// A face's certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl App {
    /// Binds everything, then starts everything: an address that is taken is told before anybody
    /// is served.
    ///
    /// # Errors
    ///
    /// Says what is in the way and which key to change.
    pub async fn start(config: Config, shutdown: Shutdown) -> Result<Self, StartError> {
        let state_dir = &config.state_dir;
        state_file::make_private_dir(state_dir)
            .map_err(|source| StartError::StateDir { path: state_dir.clone(), source })?;
        let bound = Bound::bind(&config).await?;
        let store = Arc::new(Store::open(state_dir)?);
        let authority = Arc::new(Authority::open(state_dir)?);
        let own = OwnCertificate::new(authority.gateway_certificate()?);
        let geography = Arc::new(geography(config.mmdb.as_ref())?);

        let mut registry = Registry::default();
        admin::register_build_info(&mut registry, "gateway", env!("CARGO_PKG_VERSION"));
        let metrics = Metrics::register(&mut registry);
        let settings =
            Settings { thresholds: config.thresholds, peer_retention: config.peer_retention };
        let desk = Desk::open(Arc::clone(&store), settings, metrics.clone())?;
        let readiness = Readiness::new(&shutdown);
        let admin = admin::serve(config.admin, readiness, Arc::new(registry), &shutdown).await?;

        let public_address =
            config.public_address.clone().unwrap_or_else(|| bound.addresses.registry.to_string());
        let operator = Operator::new(
            desk.clone(),
            Arc::clone(&store),
            Arc::clone(&authority),
            public_address,
            config.policy,
        );
        let guide = Guide::new(
            desk.clone(),
            Arc::clone(&geography),
            config.policy,
            config.retry_after,
            metrics.clone(),
        );
        let parts = Parts {
            desk: desk.clone(),
            store,
            authority: Arc::clone(&authority),
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            policy: config.policy,
            thresholds: config.thresholds,
            members_max: config.members_max,
            enrolments_per_minute_max: config.enrolments_per_minute_max,
        };
        desk.run(&shutdown);
        renew_own(Arc::clone(&authority), Arc::clone(&own), &shutdown);
        if let Some(mmdb) = &config.mmdb {
            watch_mmdb(geography, mmdb.check_interval, metrics.clone(), &shutdown);
        }
        let addresses = Addresses { admin, ..bound.addresses.clone() };
        let services = Services {
            registry: RegistryService::new(parts),
            operator: operator.clone(),
            guide: guide.clone(),
        };
        services.serve(bound, &config, tls::registry(&authority, own), &metrics, &shutdown)?;
        info!(?addresses, "gateway is up");
        Ok(Self { addresses, operator, guide })
    }

    /// What it listens on.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What answers the question which node to take.
    #[must_use]
    pub fn guide(&self) -> &Guide {
        &self.guide
    }

    /// Makes a join token, as `token create` does: for `uses_max` members, within `ttl`.
    ///
    /// # Errors
    ///
    /// If a limit is passed or the store fails.
    pub async fn create_token(
        &self,
        role: Role,
        uses_max: u32,
        ttl: Duration,
    ) -> Result<SecretString, TokenCreateError> {
        self.operator.create_token(role, uses_max, ttl).await.map(|(token, _)| token)
    }

    /// All members, as `nodes` shows them.
    #[must_use]
    pub fn members(&self) -> Vec<wire::Member> {
        self.operator.members()
    }

    /// Asks a member to leave, as `drain` does. `None`: there is none that attends.
    #[must_use]
    pub fn drain(
        &self,
        member: &str,
        reason: String,
        grace: Duration,
    ) -> Option<wire::DrainMemberResponse> {
        self.operator.drain(member, reason, grace)
    }

    /// Takes a member off, as `remove` does. `None`: there is no such member.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn remove(&self, member: &str) -> Result<Option<String>, StoreError> {
        self.operator.remove(member).await
    }
}

/// Every listener, before anything is served.
struct Bound {
    addresses: Addresses,
    registry: TcpListener,
    http: Option<TcpListener>,
    grpc: Option<TcpListener>,
    socket: UnixListenerStream,
}

impl Bound {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        let socket = operator::bind(&config.state_dir).await?;
        let (registry, registry_at) = bind("listen", config.listen).await?;
        let (http, http_at) = bind_face("http.listen", &config.http).await?.unzip();
        let (grpc, grpc_at) = bind_face("grpc.listen", &config.grpc).await?.unzip();
        let addresses = Addresses {
            registry: registry_at,
            http: http_at,
            grpc: grpc_at,
            admin: None,
            socket: config.state_dir.join(SOCKET_FILE),
        };
        Ok(Self { addresses, registry, http, grpc, socket: UnixListenerStream::new(socket) })
    }
}

async fn bind(
    key: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let listener = bind_tcp(key, address).await?;
    let bound = listener.local_addr().map_err(|source| ListenError::new(key, address, source))?;
    Ok((listener, bound))
}

async fn bind_face(
    key: &'static str,
    face: &Face,
) -> Result<Option<(TcpListener, SocketAddr)>, ListenError> {
    match face.listen {
        Some(address) => bind(key, address).await.map(Some),
        None => Ok(None),
    }
}

struct Services {
    registry: RegistryService,
    operator: Operator,
    guide: Guide,
}

impl Services {
    fn serve(
        self,
        bound: Bound,
        config: &Config,
        registry_tls: Arc<rustls::ServerConfig>,
        metrics: &Metrics,
        shutdown: &Shutdown,
    ) -> Result<(), TlsError> {
        let trust: Arc<Trust> = Arc::new(config.trust.clone());
        let face_tls = |face: &Face, alpn: &[u8]| {
            face.tls.as_ref().map(|files| tls::face(files, alpn)).transpose()
        };
        let (http_tls, grpc_tls) =
            (face_tls(&config.http, b"http/1.1")?, face_tls(&config.grpc, b"h2")?);
        let incoming = |listener, tls| {
            let admittance = Admittance { tls, sockets_max: config.sockets_max };
            accept(listener, admittance, metrics.clone(), shutdown)
        };
        let service =
            RegistryServer::new(self.registry).max_decoding_message_size(rpc::MESSAGE_BYTES_MAX);
        rpc::serve(service, incoming(bound.registry, Some(registry_tls)), shutdown);
        rpc::serve(AdminServer::new(self.operator), bound.socket, shutdown);
        if let Some(listener) = bound.grpc {
            let service = SteeringService::new(self.guide.clone(), Arc::clone(&trust));
            let service =
                SteeringServer::new(service).max_decoding_message_size(rpc::MESSAGE_BYTES_MAX);
            rpc::serve(service, incoming(listener, grpc_tls), shutdown);
        }
        if let Some(listener) = bound.http {
            let incoming = incoming(listener, http_tls);
            http::serve(self.guide, trust, incoming, metrics.clone(), shutdown);
        }
        Ok(())
    }
}

fn geography(mmdb: Option<&Mmdb>) -> Result<Geography, OpenError> {
    let addresses = mmdb.map(|mmdb| AddressBook::open(&mmdb.file)).transpose()?;
    if let Some(addresses) = &addresses {
        info!(kind = addresses.kind(), "mmdb file is in use");
    }
    Ok(Geography::new(addresses))
}

/// Makes the gateway's own certificate anew, long before it ends.
fn renew_own(authority: Arc<Authority>, own: Arc<OwnCertificate>, shutdown: &Shutdown) {
    shutdown.spawn_service(async move {
        loop {
            tokio::time::sleep(CERTIFICATE_LIFETIME / 3).await;
            match authority.gateway_certificate() {
                Ok(certificate) => own.replace(certificate),
                Err(error) => {
                    error!(error = &error as &dyn std::error::Error, "certificate not renewed");
                }
            }
        }
    });
}

/// Takes up a newer mmdb file; a broken one is passed over, with a warning, until it changes again.
fn watch_mmdb(
    geography: Arc<Geography>,
    interval: Duration,
    metrics: Metrics,
    shutdown: &Shutdown,
) {
    shutdown.spawn_service(async move {
        loop {
            tokio::time::sleep(interval).await;
            let Some(book) = geography.addresses() else { return };
            let looked = tokio::task::spawn_blocking(move || book.reload_if_changed()).await;
            match looked {
                Ok(Ok(Reloaded::Unchanged)) => {}
                Ok(Ok(Reloaded::Newer(book))) => {
                    info!(kind = book.kind(), "mmdb file was read again");
                    geography.replace(*book);
                    metrics.mmdb_reloaded("ok");
                }
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(error, "mmdb file changed and can't be read: the old one stays in use");
                    metrics.mmdb_reloaded("failed");
                }
                Err(_) => return,
            }
        }
    });
}
