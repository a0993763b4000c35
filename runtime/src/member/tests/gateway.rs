//! A gateway that does what a test tells it to.

use std::net::SocketAddr;
use std::sync::Arc;

use antipode_proto::registry::v1::registry_server::{Registry, RegistryServer};
use antipode_proto::registry::v1::{
    Directive, EnrolRequest, EnrolResponse, Introduction, RenewRequest, RenewResponse, Report,
    Welcome, directive, report,
};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::transport::{Certificate, Identity as TlsIdentity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::roster_of;
use crate::clock::unix_now;
use crate::member::names::{GATEWAY_NAME, member_name};
use crate::member::refusal::Refusal;
use crate::member::tls::member_id_of;
use crate::member::token::{JoinToken, Pin};
use crate::secret::SecretString;
use crate::shutdown::Shutdown;

pub(super) const SECRET: &str = "the-right-secret";
pub(super) const MEMBER_ID: &str = "n-1";
pub(super) const DAY: i64 = 24 * 3600;

type Sender = mpsc::UnboundedSender<Result<Directive, Status>>;

/// An authority, and a server that may be stopped and started again.
pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    pub(super) desk: Arc<Desk>,
    running: Shutdown,
}

/// What a test sets and what it sees.
pub(super) struct Desk {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) authority: CertificateDer<'static>,
    /// From when until when certificates hold, in seconds from now.
    pub(super) member_validity: Mutex<(i64, i64)>,
    pub(super) server_validity: (i64, i64),
    pub(super) server_name: &'static str,
    /// What `Enrol` and `Attend` answer instead.
    pub(super) refuse: Mutex<Option<Refusal>>,
    pub(super) enrolled: Mutex<Vec<EnrolRequest>>,
    /// The call that stands: directives go here.
    pub(super) attending: watch::Sender<Option<(Introduction, Sender)>>,
    pub(super) reports: watch::Sender<Vec<Report>>,
    pub(super) renewals: watch::Sender<usize>,
}

impl Desk {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let authority = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            authority,
            member_validity: Mutex::new((-DAY, 90 * DAY)),
            server_validity: (-DAY, DAY),
            server_name: GATEWAY_NAME,
            refuse: Mutex::new(None),
            enrolled: Mutex::default(),
            attending: watch::Sender::new(None),
            reports: watch::Sender::default(),
            renewals: watch::Sender::default(),
        }
    }

    fn params(name: &str, (begins, ends): (i64, i64)) -> CertificateParams {
        let now = OffsetDateTime::UNIX_EPOCH + unix_now();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = now + time::Duration::seconds(begins);
        params.not_after = now + time::Duration::seconds(ends);
        params
    }

    pub(super) fn certify(&self, member_id: &str, request: &[u8]) -> CertificateDer<'static> {
        let request = CertificateSigningRequestDer::from(request.to_vec());
        let request = CertificateSigningRequestParams::from_der(&request).unwrap();
        let mut params = Self::params(&member_name(member_id), *self.member_validity.lock());
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.signed_by(&request.public_key, &self.issuer).unwrap().der().clone()
    }

    fn tls(&self) -> ServerTlsConfig {
        let key = KeyPair::generate().unwrap();
        let params = Self::params(self.server_name, self.server_validity);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let authority = pem(&self.authority);
        let chain = format!("{}{authority}", leaf.pem());
        ServerTlsConfig::new()
            .identity(TlsIdentity::from_pem(chain, key.serialize_pem()))
            .client_ca_root(Certificate::from_pem(authority))
            .client_auth_optional(true)
    }

    /// Sends to the member that attends.
    pub(super) fn direct(&self, kind: directive::Kind) {
        let attending = self.attending.borrow();
        let (_, directives) = attending.as_ref().expect("nobody attends");
        directives.send(Ok(Directive { kind: Some(kind) })).unwrap();
    }

    /// Ends the standing call as `status` says.
    pub(super) fn end_call(&self, status: Status) {
        let (_, directives) = self.attending.send_replace(None).expect("nobody attends");
        directives.send(Err(status)).unwrap();
    }
}

impl Gateway {
    pub(super) async fn start() -> Self {
        Self::start_with(Desk::new()).await
    }

    pub(super) async fn start_with(desk: Desk) -> Self {
        crate::crypto::install();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut gateway = Self { address, desk: Arc::new(desk), running: Shutdown::default() };
        gateway.serve(listener);
        gateway
    }

    pub(super) fn pin(&self) -> Pin {
        Pin::of(&self.desk.authority).unwrap()
    }

    pub(super) fn token(&self) -> JoinToken {
        JoinToken::new(self.address.to_string(), self.pin(), SecretString::from(SECRET)).unwrap()
    }

    /// Stops, and ends the call that stands.
    pub(super) async fn stop(&mut self) {
        self.running.stop_now();
        self.running.finish(std::time::Duration::ZERO).await;
    }

    pub(super) async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.running = Shutdown::default();
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        let (desk, running) = (Arc::clone(&self.desk), self.running.clone());
        let service = Service { desk: Arc::clone(&desk), running: running.clone() };
        let mut server = Server::builder().tls_config(self.desk.tls()).unwrap();
        // tonic serves each socket in a task of its own that outlives a dropped server: so the
        // server isn't dropped but ended, and the call that stands with it.
        let stopped = async move {
            running.stopped().await;
            desk.attending.send_replace(None);
        };
        let incoming = TcpListenerStream::new(listener);
        let serving = server
            .add_service(RegistryServer::new(service))
            .serve_with_incoming_shutdown(incoming, stopped);
        self.running.tasks().tracker.spawn(serving);
    }
}

struct Service {
    desk: Arc<Desk>,
    running: Shutdown,
}

impl Service {
    fn check(&self) -> Result<(), Status> {
        self.desk.refuse.lock().map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// Who calls, by the certificate that TLS has verified.
    fn caller<T>(request: &Request<T>) -> Result<String, Status> {
        let certificates = request.peer_certs().ok_or(Refusal::NotAMember)?;
        Ok(member_id_of(&certificates[0]).ok_or(Refusal::NotAMember)?)
    }
}

#[tonic::async_trait]
impl Registry for Service {
    type AttendStream = UnboundedReceiverStream<Result<Directive, Status>>;

    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        self.check()?;
        let request = request.into_inner();
        if request.secret != SECRET {
            return Err(Refusal::UnknownToken.into());
        }
        let certificate = self.desk.certify(MEMBER_ID, &request.certificate_request);
        self.desk.enrolled.lock().push(request);
        Ok(Response::new(EnrolResponse {
            member_id: MEMBER_ID.into(),
            certificate: certificate.to_vec().into(),
            authority: self.desk.authority.to_vec().into(),
        }))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        let caller = Self::caller(&request)?;
        let certificate = self.desk.certify(&caller, &request.into_inner().certificate_request);
        self.desk.renewals.send_modify(|count| *count += 1);
        Ok(Response::new(RenewResponse { certificate: certificate.to_vec().into() }))
    }

    async fn attend(
        &self,
        request: Request<Streaming<Report>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        assert_eq!(Self::caller(&request)?, MEMBER_ID);
        self.check()?;
        let mut reports = request.into_inner();
        let first = reports.message().await?.and_then(|report| report.kind);
        let Some(report::Kind::Introduction(introduction)) = first else {
            return Err(Refusal::Malformed.into());
        };
        let (directives, queue) = mpsc::unbounded_channel();
        let welcome =
            Welcome { lease_epoch: 7, heartbeat_interval_ms: 60_000, lease_ttl_ms: 180_000 };
        for kind in
            [directive::Kind::Welcome(welcome), directive::Kind::Roster(roster_of(&["c-1"]))]
        {
            directives.send(Ok(Directive { kind: Some(kind) })).unwrap();
        }
        self.desk.attending.send_replace(Some((introduction, directives)));
        let desk = Arc::clone(&self.desk);
        self.running.spawn_service(async move {
            while let Ok(Some(report)) = reports.message().await {
                desk.reports.send_modify(|seen| seen.push(report));
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(queue)))
    }
}

pub(super) fn pem(certificate: &CertificateDer<'_>) -> String {
    String::from_utf8(crate::member::identity::pem_of(certificate)).unwrap()
}
