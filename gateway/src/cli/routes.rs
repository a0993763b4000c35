//! The mesh as a table for people and as JSON for programs.

use antipode_proto::registry::v1 as wire;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::{Value, json};

use crate::member::Role;

pub(super) fn routes_table(members: &[wire::Member]) -> String {
    if nodes(members).next().is_none() {
        return "No node has joined. Make a token for one: \
                antipode-gateway token create --role node"
            .to_owned();
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header([
        "NODE",
        "GOES THROUGH",
        "COULD GO THROUGH",
        "SENDS ON",
        "FOR",
    ]);
    for node in nodes(members) {
        let via = via(node, members);
        table.add_row([
            node.name.clone(),
            if via.is_empty() { "nobody".to_owned() } else { via.join(", ") },
            list(&node.forwarders),
            if node.forwards { "yes" } else { "no" }.to_owned(),
            list(&node.forwarded),
        ]);
    }
    let lines = table.to_string();
    lines.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

pub(super) fn routes_json(members: &[wire::Member]) -> String {
    let route = |node: &wire::Member| {
        json!({
            "node": node.name,
            "via": via(node, members),
            "forwarders": node.forwarders,
            "forwards": node.forwards,
            "forwarded": node.forwarded,
        })
    };
    let routes: Vec<Value> = nodes(members).map(route).collect();
    serde_json::to_string_pretty(&routes).expect("a JSON value is JSON")
}

fn nodes(members: &[wire::Member]) -> impl Iterator<Item = &wire::Member> {
    members.iter().filter(|member| Role::from_wire(member.role) == Some(Role::Node))
}

/// Through whom the node's trunks go; who has left is not named.
fn via(node: &wire::Member, members: &[wire::Member]) -> Vec<String> {
    let name = |id: &String| members.iter().find(|member| member.member_id == *id);
    let used = node.tunnels.iter().filter(|tunnel| tunnel.trunk_up).map(|tunnel| &tunnel.via);
    let mut names: Vec<String> = used.filter_map(name).map(|member| member.name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> [wire::Member; 3] {
        let node = |name: &str| wire::Member {
            member_id: format!("id-of-{name}"),
            name: name.to_owned(),
            role: wire::Role::Node.into(),
            ..Default::default()
        };
        let tunnel = wire::TunnelReport {
            member_id: "id-of-eu-core".into(),
            trunk_up: true,
            way: "through".into(),
            via: "id-of-jp-1".into(),
            ..Default::default()
        };
        let core = wire::Member { role: wire::Role::Core.into(), ..node("eu-core") };
        [
            wire::Member {
                tunnels: vec![tunnel],
                forwarders: vec!["jp-1".into(), "hk-1".into()],
                ..node("sg-1")
            },
            wire::Member { forwards: true, forwarded: vec!["sg-1".into()], ..node("jp-1") },
            core,
        ]
    }

    #[test]
    fn people_can_read_the_table() {
        let table = routes_table(&members());
        let lines: Vec<Vec<&str>> =
            table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["sg-1", "jp-1", "jp-1,", "hk-1", "no", "-"]);
        assert_eq!(lines[2], ["jp-1", "nobody", "-", "yes", "sg-1"]);
        assert_eq!(lines.len(), 3, "no core");
        assert!(routes_table(&[]).contains("token create"));
    }

    #[test]
    fn programs_get_the_same() {
        let json: Value = serde_json::from_str(&routes_json(&members())).unwrap();
        let expected = json!({
            "node": "sg-1",
            "via": ["jp-1"],
            "forwarders": ["jp-1", "hk-1"],
            "forwards": false,
            "forwarded": [],
        });
        assert_eq!(json[0], expected);
        assert_eq!(routes_json(&[]), "[]");
    }
}
