//! The last roster on disk: with it a member starts while its gateway is away.

use std::path::{Path, PathBuf};

use antipode_proto::registry::v1::Roster;
use prost::Message;
use tracing::warn;

use crate::state_file::{read_optional, write_atomic};
use crate::telemetry::chain;

/// The largest roster taken, from the wire or from the disk: more than 10,000 peers.
pub(super) const ROSTER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The roster last stored; an empty one if there is none, or if it can't be read.
pub(super) fn load(state_dir: &Path) -> Roster {
    let path = path_in(state_dir);
    let read = match read_optional(&path) {
        Ok(None) => return Roster::default(),
        Ok(Some(bytes)) if bytes.len() <= ROSTER_BYTES_MAX => {
            Roster::decode(bytes.as_slice()).map_err(|error| chain(&error))
        }
        Ok(Some(_)) => Err("too long".to_owned()),
        Err(error) => Err(chain(&error)),
    };
    read.unwrap_or_else(|error| {
        let path = path.display();
        warn!(%path, error, "last roster can't be read; waiting for the gateway's");
        Roster::default()
    })
}

/// Stores `roster`; a failure is logged, since the member can go on without.
pub(super) async fn store(state_dir: &Path, roster: &Roster) {
    let path = path_in(state_dir);
    let bytes = roster.encode_to_vec();
    let writing = tokio::task::spawn_blocking({
        let path = path.clone();
        move || write_atomic(&path, &bytes)
    });
    if let Ok(Err(error)) = writing.await {
        let path = path.display();
        warn!(%path, error = chain(&error), "roster can't be stored");
    }
}

fn path_in(state_dir: &Path) -> PathBuf {
    state_dir.join("roster.bin")
}

#[cfg(test)]
mod tests {
    use antipode_proto::registry::v1::Peer;

    use super::*;

    #[tokio::test]
    async fn survives_a_restart_and_shrugs_off_damage() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), Roster::default());

        let peer = Peer { member_id: "c-1".into(), ..Peer::default() };
        let roster = Roster { peers: vec![peer] };
        store(dir.path(), &roster).await;
        assert_eq!(load(dir.path()), roster);

        std::fs::write(path_in(dir.path()), [0xff; 9]).unwrap();
        assert_eq!(load(dir.path()), Roster::default());
        std::fs::write(path_in(dir.path()), vec![0; ROSTER_BYTES_MAX + 1]).unwrap();
        assert_eq!(load(dir.path()), Roster::default());
    }
}
