//! `[member]`, `[tunnel]` and `[trunk]`: how sessions come to this core.

use serde::Deserialize;

/// `[member]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberTable {}

/// `[tunnel]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TunnelTable {}

/// `[trunk]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrunkTable {}
