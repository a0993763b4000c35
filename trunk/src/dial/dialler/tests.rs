//! What the task lets go of.

use antipode_proto::session::Config as SessionConfig;
use antipode_proto::trunk::v1::Hello;
use antipode_runtime::crypto;
use antipode_tunnel::TrunkTuning;
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::*;
use crate::budget::Budget;
use crate::dial::TrunksConfig;
use crate::metrics::Metrics;
use crate::sessions::{Lanes, Sessions};

/// A core that was replaced by one without them.
#[tokio::test]
async fn a_carrier_for_bulk_is_let_go_when_the_core_takes_none() {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let lanes = Lanes { chat: 1, bulk: 1 };
    let (session, budget) = (SessionConfig::default(), Budget::unlimited());
    let sessions = Sessions::new(lanes, session, None, budget, Metrics::default());
    let dialler = dialler(&sessions, listener.local_addr().unwrap().port());
    let view = Arc::clone(&dialler.view);
    let mut task = JoinSet::new();
    task.spawn(dialler.keep_up());
    for (bulk_lanes, has_carrier) in [(1, true), (0, false), (1, true)] {
        sessions.handle_hello(&Hello { bulk_lanes, ..Hello::default() });
        let follows = async {
            while view.lock().carrier.is_some() != has_carrier {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(Duration::from_secs(10), follows).await;
        waited.unwrap_or_else(|_| panic!("{bulk_lanes} lanes, a carrier: {}", !has_carrier));
    }
}

fn dialler(sessions: &Arc<Sessions>, port: u16) -> Dialler {
    let tls = rustls::ClientConfig::builder_with_provider(crypto::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let config = TrunksConfig {
        tls: Arc::new(tls),
        tuning: TrunkTuning::default(),
        session: SessionConfig::default(),
        budget: Budget::unlimited(),
        lanes: 1,
        bulk_lanes: 1,
        run: [1; 16],
        software: "test".into(),
    };
    let (sessions, class) = (Arc::clone(sessions), Class::Bulk);
    let view = View { carrier: None, heard: clock::now(), is_silent: true };
    Dialler {
        target: CoreTarget {
            member_id: "core".into(),
            name: "core".into(),
            address: Ipv6Addr::LOCALHOST,
            port,
            carrier: CarrierKind::Tcp,
        },
        lanes: Arc::new(LaneDialler { sessions, config, class }),
        wire: None,
        on_dial: OnDial::default(),
        on_quic: OnQuic::default(),
        view: Arc::new(Mutex::new(view)),
        chat: None,
        way: watch::Sender::new(()).subscribe(),
    }
}
