//! Streams from nodes whose UDP is blocked: where they are taken, and from whom.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use antipode_runtime::listen::{ListenError, bind_tcp};
use antipode_runtime::member::{Member, tls};
use antipode_runtime::telemetry::chain;
use antipode_tunnel::{StreamServer, Underlay};
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tracing::{info, warn};

use super::takeover;
use crate::config::{Config, StreamListen};

/// The key that says where.
const KEY: &str = "tunnel.stream_listen";

/// A predecessor's port that nobody asked for is waited for no longer: sessions wait meanwhile, and
/// it may as well be another program's.
const IF_FREE_PATIENCE: Duration = Duration::from_millis(200);

/// What takes streams.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    server: StreamServer,
    nodes: Arc<RwLock<BTreeSet<String>>>,
}

/// Takes streams where the settings say so, from nobody yet.
pub(super) async fn listen(
    config: &Config,
    member: &Member,
    underlay: &Underlay,
    is_heir: bool,
) -> Result<Option<Streams>, ListenError> {
    let Underlay::InProcess(tunnel) = underlay else { return Ok(None) };
    let Some(listener) = bind(config.tunnel.stream_listen(), is_heir).await? else {
        return Ok(None);
    };
    let nodes: Arc<RwLock<BTreeSet<String>>> = Arc::default();
    let known = Arc::clone(&nodes);
    let listen = antipode_tunnel::StreamListen {
        tls: tls::stream_server_config(member.identity()),
        streams_max: config.tunnel.streams_max,
        admit: Arc::new(move |certificate| {
            let id = tls::member_id_of(certificate)?;
            known.read().contains(&id).then_some(id)
        }),
    };
    let server = tunnel.listen_streams(listener, listen).map_err(|source| {
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        ListenError::Other { address, key: KEY, source }
    })?;
    info!(listen = %server.address(), "nodes whose UDP is blocked can come");
    Ok(Some(Streams { server, nodes }))
}

/// The default is worth a warning where it is not to be had; what was asked for is an error.
async fn bind(listen: StreamListen, is_heir: bool) -> Result<Option<TcpListener>, ListenError> {
    let (address, asked_for) = match listen {
        StreamListen::Off => return Ok(None),
        StreamListen::IfFree(address) => (address, false),
        StreamListen::At(address) => (address, true),
    };
    let bind = async || bind_tcp(KEY, address).await;
    let bound = match bind().await {
        Err(taken @ ListenError::InUse { .. }) => {
            let free = takeover::until_free(is_heir, bind);
            if asked_for {
                free.await
            } else {
                timeout(IF_FREE_PATIENCE, free).await.unwrap_or(Err(taken))
            }
        }
        bound => bound,
    };
    match bound {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if asked_for => Err(error),
        Err(error) => {
            let error = chain(&error);
            warn!(error, "nodes whose UDP is blocked can't come; \"off\" says that this is wanted");
            Ok(None)
        }
    }
}

impl Streams {
    /// Where they are taken.
    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// From these nodes, and nobody else: whoever is off the list loses its streams.
    pub(super) fn set_nodes(&self, nodes: BTreeSet<String>) {
        *self.nodes.write() = nodes;
        self.server.recheck();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_an_error_only_where_it_was_asked_for() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        assert!(bind(StreamListen::IfFree(address), false).await.unwrap().is_none());
        assert!(bind(StreamListen::Off, false).await.unwrap().is_none());
        let told = bind(StreamListen::At(address), false).await.unwrap_err().to_string();
        assert!(told.contains("`tunnel.stream_listen`"), "{told}");

        let waits = timeout(Duration::from_secs(1), bind(StreamListen::IfFree(address), true));
        let told = waits.await.expect("sessions of a predecessor wait").unwrap();
        assert!(told.is_none());

        drop(taken);
        for listen in [StreamListen::At(address), StreamListen::IfFree(address)] {
            let listener = bind(listen, false).await.unwrap().unwrap();
            assert_eq!(listener.local_addr().unwrap(), address);
        }
    }
}
