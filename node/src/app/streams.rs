//! Streams to cores, where UDP is blocked: where they go and how a core is known there.

use std::collections::BTreeMap;

use antipode_proto::registry::v1::Peer;
use antipode_runtime::member::{Identity, tls};
use antipode_tunnel::{Candidate, StreamTarget, StreamTls};

use crate::config::Config;

/// How streams to cores are opened.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Who this node is; `None`: no stream is opened.
    identity: Option<Identity>,
    /// By member id. A tunnel takes another configuration for another peer.
    known: BTreeMap<String, StreamTls>,
    /// The operator's own endpoints, by the core's name: they count, not the gateway's.
    overrides: BTreeMap<String, String>,
}

impl Streams {
    pub(super) fn new(identity: &Identity, config: &Config) -> Self {
        let overrides = config.core_stream_endpoints.iter();
        Self {
            identity: config.stream.then(|| identity.clone()),
            known: BTreeMap::new(),
            overrides: overrides.map(|(name, at)| (name.to_string(), at.clone())).collect(),
        }
    }

    /// How a core is known at the other end of a stream; `None`: no stream is opened to it.
    pub(super) fn tls(&mut self, core: &Peer) -> Option<StreamTls> {
        let identity = self.identity.as_ref()?;
        if let Some(known) = self.known.get(&core.member_id) {
            return Some(known.clone());
        }
        let tls = StreamTls(tls::stream_client_config(identity, &core.member_id)?);
        self.known.insert(core.member_id.clone(), tls.clone());
        Some(tls)
    }

    /// Where a core takes streams.
    pub(super) fn candidates(&self, core: &Peer) -> Vec<Candidate> {
        if self.identity.is_none() {
            return Vec::new();
        }
        let told = self.overrides.get(&core.name).map(std::slice::from_ref);
        let endpoints = told.unwrap_or(&core.stream_endpoints).iter().cloned();
        endpoints.map(|endpoint| Candidate::Stream(StreamTarget { endpoint })).collect()
    }

    /// Forgets cores that are off the roster.
    pub(super) fn keep(&mut self, is_on_roster: impl Fn(&str) -> bool) {
        self.known.retain(|member_id, _| is_on_roster(member_id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_streams_there_are_no_candidates() {
        let core = Peer { stream_endpoints: vec!["core.example:443".into()], ..Peer::default() };
        let mut streams = Streams::default();
        assert_eq!(streams.tls(&core), None);
        assert_eq!(streams.candidates(&core), []);
    }
}
