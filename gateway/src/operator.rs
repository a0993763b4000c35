//! Where the operator's commands ask: gRPC on a Unix socket in the state directory.
//!
//! Whoever may open the socket may do everything; so only the gateway's own user may.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use antipode_proto::registry::v1 as wire;
use antipode_proto::registry::v1::admin_server::Admin;
use antipode_runtime::clock;
use antipode_runtime::member::token::JoinToken;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::{UnixListener, UnixStream};
use tonic::{Request, Response, Status};
use tracing::{error, info};

use crate::authority::Authority;
use crate::member::Role;
use crate::registry::{Desk, Leaving};
use crate::steer::Policy;
use crate::store::{Store, StoreError, TokenRecord, token_hash};

/// The socket's name in the state directory.
pub const SOCKET_FILE: &str = "admin.sock";
/// How long an unused token lasts, unless asked otherwise.
pub const TOKEN_TTL_DEFAULT: Duration = Duration::from_hours(1);
/// Longest life of a token.
pub const TOKEN_TTL_MAX: Duration = Duration::from_hours(30 * 24);
/// Longest reason for a drain.
const REASON_BYTES_MAX: usize = 256;
/// Most members that one token lets in.
pub const TOKEN_USES_MAX: u32 = 1000;

/// The commands' service; clones share everything.
#[derive(Clone, Debug)]
pub struct Operator {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    desk: Desk,
    store: Arc<Store>,
    authority: Arc<Authority>,
    public_address: String,
    policy: Policy,
}

/// Why a token can't be made.
#[derive(Debug, thiserror::Error)]
pub enum TokenCreateError {
    /// It would last too long.
    #[error("a token lasts at most 30 days: ask for a shorter --ttl")]
    Ttl,
    /// It would let in too many.
    #[error("a token lets in at most {TOKEN_USES_MAX} members: ask for fewer --uses")]
    Uses,
    /// The gateway's address doesn't fit a token.
    #[error("the gateway's public_address doesn't fit a token")]
    Address(#[source] antipode_runtime::member::token::TokenError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the socket can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("{path} answers: another gateway runs with this state_dir")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("{path} can't be made: check state_dir; a socket's path has at most 107 bytes")]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Operator {
    /// A service over these; `public_address` is what members are told to call, and `policy` says
    /// who can take a leaving node's clients.
    #[must_use]
    pub fn new(
        desk: Desk,
        store: Arc<Store>,
        authority: Arc<Authority>,
        public_address: String,
        policy: Policy,
    ) -> Self {
        Self { inner: Arc::new(Inner { desk, store, authority, public_address, policy }) }
    }

    /// Makes a join token: for `uses_max` members of `role` (0: one), within `ttl` (0: an hour).
    ///
    /// # Errors
    ///
    /// If a limit is passed or the store fails.
    pub async fn create_token(
        &self,
        role: Role,
        uses_max: u32,
        ttl: Duration,
    ) -> Result<(SecretString, u64), TokenCreateError> {
        let ttl = if ttl.is_zero() { TOKEN_TTL_DEFAULT } else { ttl };
        if ttl > TOKEN_TTL_MAX {
            return Err(TokenCreateError::Ttl);
        }
        if uses_max > TOKEN_USES_MAX {
            return Err(TokenCreateError::Uses);
        }
        let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let hash = token_hash(&secret);
        let Inner { store, authority, public_address, .. } = &*self.inner;
        let token =
            JoinToken::new(public_address.clone(), authority.pin(), SecretString::from(secret))
                .map_err(TokenCreateError::Address)?;
        let now = clock::unix_now().as_secs();
        let expires_unix_seconds = now + ttl.as_secs();
        let record = TokenRecord { role, uses_left: uses_max.max(1), expires_unix_seconds };
        let store = Arc::clone(store);
        tokio::task::spawn_blocking(move || store.add_token(hash, &record, now))
            .await
            .expect("adding a token does not panic")?;
        info!(role = role.label(), uses_max = uses_max.max(1), ?ttl, "join token created");
        Ok((token.expose(), expires_unix_seconds))
    }

    /// All members.
    #[must_use]
    pub fn members(&self) -> Vec<wire::Member> {
        self.inner.desk.list()
    }

    /// Asks a member to leave within `grace` (0: its own), by name or identity. `None`: there is
    /// none that attends.
    #[must_use]
    pub fn drain(
        &self,
        member: &str,
        reason: String,
        grace: Duration,
    ) -> Option<wire::DrainMemberResponse> {
        let Inner { desk, policy, .. } = &*self.inner;
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        let Leaving { member_id, sessions } =
            desk.drain(member, wire::Drain { reason, grace_ms })?;
        let neighbours = desk.neighbours(*policy, &member_id).nodes.len();
        let neighbours = u32::try_from(neighbours).unwrap_or(u32::MAX);
        Some(wire::DrainMemberResponse { member_id, sessions, neighbours })
    }

    /// Takes a member off the register, by name or identity. `None`: there is none.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn remove(&self, member: &str) -> Result<Option<String>, StoreError> {
        self.inner.desk.remove(member).await
    }
}

#[tonic::async_trait]
impl Admin for Operator {
    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Result<Response<wire::CreateTokenResponse>, Status> {
        let wire::CreateTokenRequest { role, ttl_seconds, uses_max } = request.into_inner();
        let role = Role::from_wire(role)
            .ok_or_else(|| Status::invalid_argument("role is neither node nor core"))?;
        let ttl = Duration::from_secs(ttl_seconds.into());
        let created = Self::create_token(self, role, uses_max, ttl).await;
        let (token, expires_unix_seconds) = created.map_err(|error| match error {
            TokenCreateError::Ttl | TokenCreateError::Uses | TokenCreateError::Address(_) => {
                Status::invalid_argument(error.to_string())
            }
            TokenCreateError::Store(error) => store_failed(&error),
        })?;
        let token = token.expose_secret().to_owned();
        Ok(Response::new(wire::CreateTokenResponse { token, expires_unix_seconds }))
    }

    async fn list_members(
        &self,
        _request: Request<wire::ListMembersRequest>,
    ) -> Result<Response<wire::ListMembersResponse>, Status> {
        Ok(Response::new(wire::ListMembersResponse { members: self.members() }))
    }

    async fn remove_member(
        &self,
        request: Request<wire::RemoveMemberRequest>,
    ) -> Result<Response<wire::RemoveMemberResponse>, Status> {
        let member = request.into_inner().member;
        match self.remove(&member).await {
            Ok(Some(member_id)) => Ok(Response::new(wire::RemoveMemberResponse { member_id })),
            Ok(None) => Err(Status::not_found(unknown(&member))),
            Err(error) => Err(store_failed(&error)),
        }
    }

    async fn drain_member(
        &self,
        request: Request<wire::DrainMemberRequest>,
    ) -> Result<Response<wire::DrainMemberResponse>, Status> {
        let wire::DrainMemberRequest { member, reason, grace_ms } = request.into_inner();
        if reason.len() > REASON_BYTES_MAX {
            return Err(Status::invalid_argument("a reason has at most 256 bytes"));
        }
        let grace = Duration::from_millis(grace_ms.into());
        if let Some(drained) = self.drain(&member, reason, grace) {
            return Ok(Response::new(drained));
        }
        if self.inner.desk.knows(&member) {
            let text = format!("{member} is not there: there is nothing to drain");
            return Err(Status::failed_precondition(text));
        }
        Err(Status::not_found(unknown(&member)))
    }
}

fn unknown(member: &str) -> String {
    format!("no member has the name or id {member:?}: `antipode-gateway nodes` lists them")
}

fn store_failed(error: &StoreError) -> Status {
    error!(error = error as &dyn std::error::Error, "store failed");
    Status::unavailable(format!("{error}; the gateway's log says more"))
}

/// Binds the socket for this user alone; what a crashed gateway left there is replaced.
///
/// # Errors
///
/// If somebody answers there already, or the system refuses.
pub async fn bind(state_dir: &Path) -> Result<UnixListener, SocketError> {
    let path = state_dir.join(SOCKET_FILE);
    if UnixStream::connect(&path).await.is_ok() {
        return Err(SocketError::InUse { path });
    }
    let refused = |source| SocketError::Bind { path: path.clone(), source };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path).map_err(refused)?;
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&path, private).map_err(refused)?;
    Ok(listener)
}
