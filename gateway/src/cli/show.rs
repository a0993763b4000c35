//! Answers as tables for people and as JSON for programs.

use std::time::Duration;

use antipode_proto::registry::v1 as wire;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};

use super::links::tunnel_json;
use crate::member::Role;

pub(super) fn token_json(created: &wire::CreateTokenResponse, role: Role, uses: u32) -> String {
    json!({
        "token": created.token,
        "role": role.label(),
        "uses": uses,
        "expires_unix_seconds": created.expires_unix_seconds,
    })
    .to_string()
}

pub(super) fn members_table(members: &[wire::Member]) -> String {
    if members.is_empty() {
        return "No node or core has joined. Make a token for one: \
                antipode-gateway token create --role node"
            .to_owned();
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header([
        "NAME",
        "ROLE",
        "REGION",
        "HEALTH",
        "WHY",
        "SESSIONS",
        "TRUNK RTT",
        "LAST HEARTBEAT",
    ]);
    for member in members {
        table.add_row([
            member.name.clone(),
            role(member).to_owned(),
            or_dash(&member.region),
            member.health.clone(),
            member.health_reason.replace('_', " "),
            sessions(member),
            trunk_rtt(member),
            last_heartbeat(member),
        ]);
    }
    for column in 5..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.to_string();
    lines.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

pub(super) fn members_json(members: &[wire::Member]) -> String {
    let members: Vec<Value> = members.iter().map(member_json).collect();
    serde_json::to_string_pretty(&members).expect("a JSON value is JSON")
}

fn member_json(member: &wire::Member) -> Value {
    let location =
        |at: &wire::Location| json!({ "latitude": at.latitude, "longitude": at.longitude });
    json!({
        "member_id": member.member_id,
        "name": member.name,
        "role": role(member),
        "region": member.region,
        "health": member.health,
        "health_reason": member.health_reason,
        "since_unix_seconds": member.since_unix_seconds,
        "sessions": member.sessions,
        "sessions_max": member.sessions_max,
        "software": member.software,
        "public_urls": member.public_urls,
        "endpoints": member.endpoints,
        "stream_endpoints": member.stream_endpoints,
        "tunnel_address": member.tunnel_address,
        "location": member.location.as_ref().map(location),
        "tunnels": member.tunnels.iter().map(tunnel_json).collect::<Vec<_>>(),
        "last_heartbeat_age_ms": member.last_heartbeat_age_ms,
    })
}

fn role(member: &wire::Member) -> &'static str {
    Role::from_wire(member.role).map_or("unknown", Role::label)
}

fn sessions(member: &wire::Member) -> String {
    match member.sessions_max {
        0 => member.sessions.to_string(),
        max => format!("{} of {max}", member.sessions),
    }
}

/// The best trunk's round trip. Only the end that dials measures it; 0 is unknown.
fn trunk_rtt(member: &wire::Member) -> String {
    let up = || member.tunnels.iter().filter(|tunnel| tunnel.trunk_up).map(|tunnel| tunnel.rtt_us);
    match up().filter(|rtt_us| *rtt_us > 0).min() {
        Some(rtt_us) => format!("{:.1} ms", f64::from(rtt_us) / 1000.0),
        None if up().next().is_some() => "-".to_owned(),
        None => "no trunk".to_owned(),
    }
}

fn last_heartbeat(member: &wire::Member) -> String {
    if member.health_reason == "not_heard_yet" {
        return "none yet".to_owned();
    }
    let age = Duration::from_millis(member.last_heartbeat_age_ms);
    if age < Duration::from_secs(10) {
        return format!("{:.1}s ago", age.as_secs_f64());
    }
    format!("{} ago", humantime::format_duration(Duration::from_secs(age.as_secs())))
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_can_read_the_table() {
        let node = wire::Member {
            name: "sg-1".into(),
            role: wire::Role::Node.into(),
            region: "ap-southeast".into(),
            health: "alive".into(),
            health_reason: "heartbeats_steady".into(),
            sessions: 1200,
            sessions_max: 50_000,
            tunnels: vec![
                wire::TunnelReport { rtt_us: 9_000, trunk_up: false, ..Default::default() },
                wire::TunnelReport { rtt_us: 183_421, trunk_up: true, ..Default::default() },
            ],
            last_heartbeat_age_ms: 312,
            ..Default::default()
        };
        let core = wire::Member {
            name: "eu-core".into(),
            role: wire::Role::Core.into(),
            health: "dead".into(),
            health_reason: "silent".into(),
            sessions: 7,
            last_heartbeat_age_ms: 3_723_400,
            ..Default::default()
        };
        insta::assert_snapshot!(members_table(&[node, core]));
    }

    #[test]
    fn an_unknown_round_trip_is_not_told_as_none_at_all() {
        let trunk = |rtt_us| wire::TunnelReport { rtt_us, trunk_up: true, ..Default::default() };
        let shown = |tunnels| trunk_rtt(&wire::Member { tunnels, ..Default::default() });
        assert_eq!(shown(vec![trunk(0)]), "-");
        assert_eq!(shown(vec![trunk(0), trunk(1500)]), "1.5 ms");
        assert_eq!(shown(vec![]), "no trunk");
    }

    #[test]
    fn no_members_teaches() {
        assert!(members_table(&[]).contains("token create"));
        assert_eq!(members_json(&[]), "[]");
    }
}
