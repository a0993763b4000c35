//! Whom to ask which way the tunnel speaks to a peer.

use std::net::Ipv6Addr;
use std::sync::{Arc, OnceLock};

use antipode_tunnel::Way;

type Asked = Box<dyn Fn(Ipv6Addr) -> Option<Way> + Send + Sync>;

/// Asked with the peer's address in the tunnel.
#[derive(Clone, Default)]
pub(crate) struct WayTo(Arc<OnceLock<Asked>>);

impl WayTo {
    /// The first one that is named stays.
    pub(crate) fn set(&self, asked: impl Fn(Ipv6Addr) -> Option<Way> + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(asked));
    }

    /// `None` if nobody knows.
    pub(crate) fn ask(&self, peer: Ipv6Addr) -> Option<Way> {
        self.0.get()?(peer)
    }
}

impl std::fmt::Debug for WayTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WayTo").field(&self.0.get().is_some()).finish()
    }
}
