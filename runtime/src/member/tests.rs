//! A member against a small real gateway: TLS, gRPC and files are the real ones.
//!
//! Nothing waits for a length of time: each step waits for what the other side has seen.

mod gateway;
mod joining;
mod peers;
mod staying;

use std::path::Path;
use std::time::Duration;

use antipode_proto::registry::v1::{Peer, Role, Roster};
use tokio::sync::watch;

use super::{JoinError, Member, MemberConfig, Standing};
use crate::backoff::Bounds;
use crate::secret::ExposeSecret;
use crate::shutdown::Shutdown;
use gateway::Gateway;

/// A test that takes longer hangs.
const HANGS: Duration = Duration::from_secs(60);

/// A node called `sg-1` that keeps its state in `dir` and tries again fast.
fn config(dir: &Path) -> MemberConfig {
    let state_dir = dir.join("state");
    let mut config = MemberConfig::new(Role::Node, "sg-1".parse().unwrap(), state_dir);
    config.timings.retry =
        Bounds { first: Duration::from_millis(2), max: Duration::from_millis(20) };
    config.join_patience = Duration::ZERO;
    config
}

/// The same with a token for `gateway`.
fn config_with_token(dir: &Path, gateway: &Gateway) -> MemberConfig {
    let path = dir.join("join-token");
    std::fs::write(&path, gateway.token().expose().expose_secret()).unwrap();
    MemberConfig { join_token_file: Some(path), ..config(dir) }
}

async fn join(config: &MemberConfig, shutdown: &Shutdown) -> Result<Member, JoinError> {
    let joining = Member::join(config.clone(), shutdown);
    tokio::time::timeout(HANGS, joining).await.expect("joining hangs")
}

async fn until<T: Clone>(watched: &mut watch::Receiver<T>, is: impl Fn(&T) -> bool) -> T {
    let seen = tokio::time::timeout(HANGS, watched.wait_for(|value| is(value))).await;
    seen.expect("what was waited for never came").expect("the sender lives").clone()
}

fn is_attending(standing: &Standing) -> bool {
    matches!(standing, Standing::Attending { .. })
}

fn is_away(standing: &Standing) -> bool {
    matches!(standing, Standing::Away { .. })
}

fn roster_of(ids: &[&str]) -> Roster {
    let peer = |id: &&str| Peer { member_id: (*id).into(), ..Peer::default() };
    Roster { peers: ids.iter().map(peer).collect() }
}
