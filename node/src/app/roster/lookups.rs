//! Names looked up beside everything else: one that hangs keeps nobody waiting.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use antipode_proto::registry::v1::Peer;
use tokio::net::lookup_host;
use tokio::task::{AbortHandle, JoinSet};
use tracing::warn;

/// A name that does not resolve is left for the next round.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// What is being looked up.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    tasks: JoinSet<Found>,
    /// By member id, with the names.
    under_way: BTreeMap<String, (Vec<String>, AbortHandle)>,
}

/// Where a core is; empty if that could not be told.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) member_id: String,
    pub(super) addresses: Vec<SocketAddr>,
}

impl Lookups {
    /// Looks a core's names up, unless that is under way; other names than these are given up.
    pub(super) fn begin(&mut self, core: &Peer) {
        if let Some((endpoints, task)) = self.under_way.get(&core.member_id) {
            if *endpoints == core.endpoints {
                return;
            }
            task.abort();
        }
        let (member_id, endpoints) = (core.member_id.clone(), core.endpoints.clone());
        let core = core.clone();
        let task = self.tasks.spawn(async move {
            let addresses = resolve(&core).await;
            Found { member_id: core.member_id, addresses }
        });
        self.under_way.insert(member_id, (endpoints, task));
    }

    /// The next that was found; may be dropped while it waits.
    pub(super) async fn next(&mut self) -> Found {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(found)) => {
                    self.under_way.remove(&found.member_id);
                    return found;
                }
                // Given up.
                Some(Err(error)) if error.is_cancelled() => {}
                // A look-up that panicked, which the runtime has reported.
                Some(Err(_)) => self.under_way.clear(),
                None => pending().await,
            }
        }
    }
}

/// All addresses of a core's endpoints, in their order.
async fn resolve(core: &Peer) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for endpoint in &core.endpoints {
        match tokio::time::timeout(RESOLVE_TIMEOUT, lookup_host(endpoint.as_str())).await {
            Ok(Ok(found)) => addresses.extend(found),
            Ok(Err(error)) => {
                warn!(core = core.name, endpoint, %error, "a core's address is unknown");
            }
            Err(_) => warn!(core = core.name, endpoint, "looking up a core's address hangs"),
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_looked_up_once_at_a_time_and_in_order() {
        let endpoints = ["127.0.0.1:1", "no port", "127.0.0.1:2"].map(str::to_owned);
        let member_id = "a".to_owned();
        let core = Peer { member_id, endpoints: endpoints.to_vec(), ..Peer::default() };
        let mut lookups = Lookups::default();
        lookups.begin(&core);
        lookups.begin(&core);
        let found = lookups.next().await;
        assert_eq!(found.member_id, "a");
        assert_eq!(found.addresses.iter().map(SocketAddr::port).collect::<Vec<_>>(), [1, 2]);
        let none = tokio::time::timeout(Duration::from_millis(20), lookups.next()).await;
        assert!(none.is_err(), "it was looked up once");
        lookups.begin(&core);
        lookups.begin(&Peer { endpoints: vec!["127.0.0.1:3".to_owned()], ..core });
        assert_eq!(lookups.next().await.addresses[0].port(), 3, "the newer names count");
    }
}
