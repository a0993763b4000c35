//! What node and core share towards the gateway: joining it, attending it, knowing their peers.
//!
//! | module | idea |
//! |---|---|
//! | [`names`] | the fixed names in certificates, and which names members may have |
//! | [`token`] | the join token's text, and the pin of the gateway's authority |
//! | [`refusal`] | why the gateway says no, in a form that both sides read the same |
//! | [`identity`] | who this member is: keys and certificates in its state directory |
//! | [`tls`] | mutual TLS between members, made from an identity |
//!
//! The agreement with the gateway, beside the `.proto` file:
//!
//! - Its server certificate is for [`names::GATEWAY_NAME`] whatever its address is, and it sends
//!   its authority's certificate along, so that a joining member can hold that against the pin.
//! - A member's certificate has the common name and the DNS name [`names::member_name`], for client
//!   and server use. It is backdated enough that a clock a little behind doesn't refuse it.
//! - `Enrol` is called without a client certificate, `Renew` and `Attend` with one.
//! - A refusal is a [`refusal::Refusal`] in the status.
//! - After `Introduction` comes `Welcome`, then a `Roster`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use antipode_proto::registry::v1::{
    Forwarded, Forwarders, Gone, Heartbeat, Introduction, Limits, Neighbours, Role, Roster,
};
use tokio::sync::{broadcast, watch};

use crate::backoff::Bounds;
use crate::shutdown::Shutdown;

mod attend;
mod dial;
mod enrol;
mod error;
pub mod identity;
mod location;
pub mod names;
mod pinned;
pub mod refusal;
mod renewal;
mod roster;
pub mod tls;
pub mod token;
mod tunnel;

pub use dial::DialError;
pub use error::{JoinError, MembershipError};
pub use identity::Identity;
pub use location::Location;
pub use names::{GATEWAY_NAME, Label, MEMBER_SUFFIX, TRUNK_ALPN};
pub use refusal::Refusal;
pub use token::{JoinToken, Pin};
pub use tunnel::{TunnelError, TunnelPlace};

/// Who wants to be a member, and where it finds its gateway.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// Node or core.
    pub role: Role,
    /// Unique among the living members.
    pub name: Label,
    /// Where the member keeps its keys, its certificate and its last roster.
    pub state_dir: PathBuf,
    /// The file with the join token; of use until the member has joined.
    pub join_token_file: Option<PathBuf>,
    /// The gateway's `host:port`, if it isn't the one in the join token any more.
    pub gateway: Option<String>,
    /// How long to go on trying to join while the gateway can't be reached.
    pub join_patience: Duration,
    timings: Timings,
}

impl MemberConfig {
    /// A member of `role` under `name`, which keeps its state in `state_dir`.
    pub fn new(role: Role, name: Label, state_dir: PathBuf) -> Self {
        Self {
            role,
            name,
            state_dir,
            join_token_file: None,
            gateway: None,
            join_patience: Duration::from_secs(60),
            timings: Timings::default(),
        }
    }
}

/// How patient a member is.
#[derive(Clone, Copy, Debug)]
struct Timings {
    /// Between attempts to reach the gateway.
    retry: Bounds,
    /// For TCP and TLS together.
    dial: Duration,
    /// For the gateway's answer to one call.
    answer: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            // A gateway that starts again steers nobody before its nodes are back.
            retry: Bounds { first: Duration::from_millis(500), max: Duration::from_secs(4) },
            dial: Duration::from_secs(10),
            answer: Duration::from_secs(10),
        }
    }
}

/// How a member stands with its gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It hasn't reached the gateway since it started.
    Joining,
    /// The gateway took its introduction.
    Attending {
        /// Counts this member's registrations.
        lease_epoch: u64,
    },
    /// The gateway is out of reach; sessions go on with the last roster.
    Away {
        /// Why, on one line.
        reason: String,
    },
}

/// A joined member. It attends its gateway from [`Member::attend`] until the program ends.
#[derive(Debug)]
pub struct Member {
    identity: Identity,
    desk: Arc<attend::Desk>,
    shutdown: Shutdown,
}

impl Member {
    /// Loads the identity from the state directory, or joins with the token and makes one.
    ///
    /// A member that has joined before needs no gateway to start: it has its last roster.
    ///
    /// # Errors
    ///
    /// When there is neither an identity nor a token, the gateway refuses, or it stays out of
    /// reach for `join_patience`.
    pub async fn join(config: MemberConfig, shutdown: &Shutdown) -> Result<Self, JoinError> {
        let timings = config.timings;
        let identity = enrol::load_or_enrol(&config).await?;
        let last_roster = roster::load(identity.state_dir());
        let desk = Arc::new(attend::Desk::new(identity.clone(), last_roster, timings));
        Ok(Self { identity, desk, shutdown: shutdown.clone() })
    }

    /// Who this member is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The peers to have tunnels with: at first the ones last known, then as the gateway says.
    pub fn roster(&self) -> watch::Receiver<Roster> {
        self.desk.roster.subscribe()
    }

    /// The gateway's limits for this member; zeros until it sets some.
    pub fn limits(&self) -> watch::Receiver<Limits> {
        self.desk.limits.subscribe()
    }

    /// A node's neighbours: where its clients go when it drains. None until the gateway names some.
    pub fn neighbours(&self) -> watch::Receiver<Neighbours> {
        self.desk.neighbours.subscribe()
    }

    /// A node's forwarders: others that send its datagrams on. None until the gateway names some,
    /// and the last ones while it is away.
    pub fn forwarders(&self) -> watch::Receiver<Forwarders> {
        self.desk.forwarders.subscribe()
    }

    /// Whose datagrams a node sends on. Nobody's until the gateway names some.
    pub fn forwarded(&self) -> watch::Receiver<Forwarded> {
        self.desk.forwarded.subscribe()
    }

    /// Processes of peers that have ended without a word, as the gateway hears of them from now on.
    pub fn gone(&self) -> broadcast::Receiver<Gone> {
        self.desk.gone.subscribe()
    }

    /// How this member stands with its gateway.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.desk.standing.subscribe()
    }

    /// Introduces the member and keeps reporting; call it once, when the tunnel's port is known.
    ///
    /// `run` and `software` of the introduction are filled in if they are empty; who has trunks
    /// gives theirs. `heartbeat` is called as often as
    /// the gateway asks; while the program drains its `accepting` is overruled. A drain that the
    /// gateway orders starts the program's drain; a removal makes the program fail.
    pub fn attend(
        &self,
        introduction: Introduction,
        heartbeat: impl Fn() -> Heartbeat + Send + Sync + 'static,
    ) {
        attend::start(&self.desk, introduction, Box::new(heartbeat), &self.shutdown);
        renewal::start(self.identity.clone(), self.desk.timings, &self.shutdown);
    }
}

#[cfg(test)]
mod tests;
