//! The node's QUIC endpoints, one for each class of lanes.

use std::sync::Arc;

use antipode_tunnel::{Class, TrunkTuning};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{AsyncUdpSocket, ClientConfig, Endpoint, EndpointConfig, TokioRuntime};

use super::{Sockets, TrunksConfig};
use crate::carrier::StartError;
use crate::demand::Demand;

/// What QUIC goes out by.
#[derive(Clone)]
pub(super) struct Wires {
    chat: Endpoint,
    bulk: Option<Endpoint>,
    tls: Arc<QuicClientConfig>,
    tuning: TrunkTuning,
}

/// What one class of a trunk is dialled with.
pub(super) struct Wire {
    pub(super) endpoint: Endpoint,
    class: Class,
    demand: Demand,
    tls: Arc<QuicClientConfig>,
    tuning: TrunkTuning,
}

impl Wire {
    /// For the next connection: the path may be another one than the last one's.
    pub(super) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new(Arc::clone(&self.tls) as Arc<_>);
        client.transport_config(self.demand.transport(self.tuning, self.class));
        client
    }
}

impl Wires {
    pub(super) fn new(config: &TrunksConfig, sockets: Sockets) -> Result<Self, StartError> {
        let tls = QuicClientConfig::try_from(Arc::clone(&config.tls)).map_err(StartError::Tls)?;
        let bulk = sockets.bulk.filter(|_| config.bulk_lanes > 0).map(endpoint).transpose()?;
        let (chat, tuning) = (endpoint(sockets.chat)?, config.tuning);
        Ok(Self { chat, bulk, tls: Arc::new(tls), tuning })
    }

    pub(super) const fn has_bulk(&self) -> bool {
        self.bulk.is_some()
    }

    /// For a trunk with this demand.
    pub(super) fn of(&self, class: Class, demand: &Demand) -> Option<Wire> {
        let endpoint = match class {
            Class::Chat => self.chat.clone(),
            Class::Bulk => self.bulk.clone()?,
        };
        let (demand, tls, tuning) = (demand.clone(), Arc::clone(&self.tls), self.tuning);
        Some(Wire { endpoint, class, demand, tls, tuning })
    }
}

fn endpoint(socket: Arc<dyn AsyncUdpSocket>) -> Result<Endpoint, StartError> {
    let runtime = Arc::new(TokioRuntime);
    Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket, runtime)
        .map_err(StartError::Socket)
}
