//! The commands' side of the Unix socket.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use antipode_proto::registry::v1 as wire;
use antipode_proto::registry::v1::admin_client::AdminClient;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::member::Role;

/// A gateway that runs answers in milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is at the socket.
    #[error(
        "no gateway answers at {path}: start it (antipode-gateway serve), or name the \
         configuration it runs with (--config FILE) or its socket (--socket FILE)"
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The socket is another user's.
    #[error(
        "the socket {path} belongs to another user: run this as the gateway's user, or with sudo"
    )]
    NotAllowed {
        /// The socket.
        path: PathBuf,
    },
    /// The gateway said no.
    #[error("{}", .0.message())]
    Refused(Status),
    /// A member that should have left has not.
    #[error("{name} is still there {grace:?} after the drain began: its log says why")]
    Stays {
        /// Its name.
        name: String,
        /// How long it had.
        grace: Duration,
    },
    /// What answers is no gateway.
    #[error("what answers at {path} is no gateway, or stopped answering")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

pub(super) async fn create_token(
    socket: &Path,
    role: Role,
    uses_max: u32,
    ttl: Duration,
) -> Result<wire::CreateTokenResponse, AskError> {
    // 0 would mean the default; what is too long is refused over there, with the reason.
    let ttl_seconds = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX).max(1);
    let request = wire::CreateTokenRequest { role: role.to_wire().into(), ttl_seconds, uses_max };
    let response = connect(socket).await?.create_token(request).await;
    response.map(tonic::Response::into_inner).map_err(AskError::Refused)
}

pub(super) async fn members(socket: &Path) -> Result<Vec<wire::Member>, AskError> {
    let response = connect(socket).await?.list_members(wire::ListMembersRequest {}).await;
    response.map(|response| response.into_inner().members).map_err(AskError::Refused)
}

pub(super) async fn drain(
    socket: &Path,
    member: &str,
    reason: &str,
    grace: Option<Duration>,
) -> Result<wire::DrainMemberResponse, AskError> {
    // 0 would mean the member's own grace.
    let ms = |grace: Duration| u32::try_from(grace.as_millis()).unwrap_or(u32::MAX).max(1);
    let request = wire::DrainMemberRequest {
        member: member.to_owned(),
        reason: reason.to_owned(),
        grace_ms: grace.map_or(0, ms),
    };
    let response = connect(socket).await?.drain_member(request).await;
    response.map(tonic::Response::into_inner).map_err(AskError::Refused)
}

pub(super) async fn remove(socket: &Path, member: &str) -> Result<String, AskError> {
    let request = wire::RemoveMemberRequest { member: member.to_owned() };
    let response = connect(socket).await?.remove_member(request).await;
    response.map(|response| response.into_inner().member_id).map_err(AskError::Refused)
}

async fn connect(socket: &Path) -> Result<AdminClient<Channel>, AskError> {
    let path = socket.to_owned();
    let stream = UnixStream::connect(socket).await.map_err(|source| {
        let path = path.clone();
        if source.kind() == io::ErrorKind::PermissionDenied {
            return AskError::NotAllowed { path };
        }
        AskError::NotRunning { path, source }
    })?;
    let channel = Endpoint::from_static("http://gateway")
        .timeout(TIMEOUT)
        .connect_timeout(TIMEOUT)
        .connect_with_connector(Once(Some(stream)))
        .await
        .map_err(|source| AskError::Broken { path, source })?;
    Ok(AdminClient::new(channel).max_decoding_message_size(64 * 1024 * 1024))
}

/// Hands out the one stream there is.
struct Once(Option<UnixStream>);

impl tower_service::Service<Uri> for Once {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let stream = self.0.take();
        Box::pin(async move {
            stream.map(TokioIo::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
        })
    }
}
