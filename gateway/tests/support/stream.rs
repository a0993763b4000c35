//! A member's stream to the gateway, held by hand.

use std::time::Duration;

use antipode_proto::registry::v1 as wire;
use antipode_proto::registry::v1::registry_client::RegistryClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use wire::directive::Kind as Directive;
use wire::report::Kind as Report;

use super::{Gateway, Raw, heartbeat};

pub(crate) struct Stream {
    pub(crate) reports: mpsc::Sender<wire::Report>,
    directives: Streaming<wire::Directive>,
    socket: std::net::TcpStream,
    _client: RegistryClient<Channel>,
}

impl Stream {
    pub(crate) async fn open(gateway: &Gateway, identity: Option<&Raw>) -> Result<Self, Status> {
        let (channel, socket) = gateway.channel_and_socket(identity).await.unwrap();
        let mut client = RegistryClient::new(channel);
        let (reports, receiver) = mpsc::channel(256);
        let directives = client.attend(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { reports, directives, socket, _client: client })
    }

    /// Opens, introduces itself, and takes the welcome and the first roster.
    pub(crate) async fn seated(
        gateway: &Gateway,
        identity: &Raw,
        said: wire::Introduction,
    ) -> (Self, u64) {
        let mut stream = Self::open(gateway, Some(identity)).await.unwrap();
        stream.report(Report::Introduction(said)).await;
        let Directive::Welcome(welcome) = stream.next().await.unwrap() else {
            panic!("no welcome")
        };
        assert_eq!(welcome.heartbeat_interval_ms, 500);
        assert!(matches!(stream.next().await.unwrap(), Directive::Roster(_)));
        (stream, welcome.lease_epoch)
    }

    /// Closes the socket as a kernel does whose process has died: FIN, and no word before it.
    pub(crate) fn die(&self) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// The next directive that `wanted` takes; others are passed over.
    pub(crate) async fn wait_for<T>(&mut self, wanted: impl Fn(Directive) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.next_of_all().await.unwrap()) {
                return found;
            }
        }
    }

    /// The next directive of any kind; `None` if none comes in time.
    pub(crate) async fn next_within(&mut self, patience: Duration) -> Option<Directive> {
        let next = tokio::time::timeout(patience, self.directives.message()).await.ok()?;
        next.unwrap().expect("a directive before the end").kind
    }

    pub(crate) async fn report(&self, kind: Report) {
        self.reports.send(wire::Report { kind: Some(kind) }).await.unwrap();
    }

    /// Two heartbeats, which make it Alive, and one more.
    pub(crate) async fn live(&self) {
        for wait in [500, 500, 0] {
            self.report(Report::Heartbeat(heartbeat())).await;
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    /// The next directive that is not about other nodes: those come when they will.
    pub(crate) async fn next(&mut self) -> Result<Directive, Status> {
        loop {
            let directive = self.next_of_all().await?;
            match directive {
                Directive::Neighbours(_) | Directive::Forwarders(_) | Directive::Forwarded(_) => {}
                Directive::Welcome(_)
                | Directive::Roster(_)
                | Directive::Drain(_)
                | Directive::Removed(_)
                | Directive::Limits(_)
                | Directive::Gone(_) => return Ok(directive),
            }
        }
    }

    async fn next_of_all(&mut self) -> Result<Directive, Status> {
        let next = tokio::time::timeout(Duration::from_secs(5), self.directives.message()).await;
        let directive = next.expect("a directive in time")?;
        Ok(directive.expect("a directive before the end").kind.expect("a kind"))
    }
}
