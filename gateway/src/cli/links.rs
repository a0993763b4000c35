//! The tunnels as a table for people and as JSON for programs: how datagrams get from one member
//! to another, and how many of them.

use antipode_proto::registry::v1 as wire;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};

/// One end's word on its tunnel with another.
struct Link<'a> {
    from: &'a wire::Member,
    report: &'a wire::TunnelReport,
    members: &'a [wire::Member],
}

pub(super) fn links_table(members: &[wire::Member]) -> String {
    let links: Vec<Link<'_>> = links(members).collect();
    if links.is_empty() {
        return "No member has told of a tunnel yet: it takes a node, a core and one heartbeat."
            .to_owned();
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header([
        "FROM", "TO", "WAY", "RTT", "QUEUE", "JITTER", "LOSS OUT", "LOSS IN", "COPIES", "TRUNK",
    ]);
    for link in &links {
        let wire::TunnelReport { jitter_us, queueing_us, loss_out_ppm, loss_in_ppm, .. } =
            *link.report;
        table.add_row([
            link.from.name.clone(),
            link.name_of(&link.report.member_id),
            link.way(),
            if link.report.rtt_us == 0 { dash() } else { millis(link.report.rtt_us) },
            link.measured(|| millis(queueing_us)),
            link.measured(|| millis(jitter_us)),
            link.measured(|| percent(loss_out_ppm, 10_000)),
            link.measured(|| percent(loss_in_ppm, 10_000)),
            percent(link.report.shield_copies_permille, 10),
            if link.report.trunk_up { "up" } else { "down" }.to_owned(),
        ]);
    }
    for column in 3..9 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.to_string();
    lines.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

pub(super) fn links_json(members: &[wire::Member]) -> String {
    let link = |link: Link<'_>| {
        let mut body = tunnel_json(link.report);
        body["from"] = json!(link.from.name);
        body["to"] = json!(link.name_of(&link.report.member_id));
        body
    };
    let links: Vec<Value> = links(members).map(link).collect();
    serde_json::to_string_pretty(&links).expect("a JSON value is JSON")
}

/// A report as programs see it.
pub(super) fn tunnel_json(tunnel: &wire::TunnelReport) -> Value {
    json!({
        "member_id": tunnel.member_id,
        "rtt_us": tunnel.rtt_us,
        "loss_ppm": tunnel.loss_ppm,
        "handshake_age_ms": tunnel.handshake_age_ms,
        "trunk_up": tunnel.trunk_up,
        "measured": tunnel.measured,
        "loss_in_ppm": tunnel.loss_in_ppm,
        "loss_out_ppm": tunnel.loss_out_ppm,
        "jitter_us": tunnel.jitter_us,
        "queueing_us": tunnel.queueing_us,
        "shield_copies_permille": tunnel.shield_copies_permille,
        "way": tunnel.way,
        "via": tunnel.via,
    })
}

fn links(members: &[wire::Member]) -> impl Iterator<Item = Link<'_>> {
    members
        .iter()
        .flat_map(move |from| from.tunnels.iter().map(move |report| Link { from, report, members }))
}

impl Link<'_> {
    /// A member that has left the list has only its id; what a member says is shown as text.
    fn name_of(&self, member_id: &str) -> String {
        let known = self.members.iter().find(|member| member.member_id == member_id);
        known.map_or_else(|| member_id.escape_debug().to_string(), |member| member.name.clone())
    }

    fn way(&self) -> String {
        match self.report.way.as_str() {
            "through" if !self.report.via.is_empty() => {
                format!("through {}", self.name_of(&self.report.via))
            }
            known @ ("udp" | "stream" | "through") => known.to_owned(),
            _ => dash(),
        }
    }

    fn measured(&self, shown: impl FnOnce() -> String) -> String {
        if self.report.measured { shown() } else { dash() }
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn millis(micros: u32) -> String {
    format!("{:.1} ms", f64::from(micros) / 1000.0)
}

fn percent(parts: u32, parts_of_a_percent: u32) -> String {
    format!("{:.2} %", f64::from(parts) / f64::from(parts_of_a_percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, tunnels: Vec<wire::TunnelReport>) -> wire::Member {
        wire::Member {
            member_id: format!("id-of-{name}"),
            name: name.to_owned(),
            tunnels,
            ..Default::default()
        }
    }

    fn members() -> [wire::Member; 3] {
        let measured = wire::TunnelReport {
            member_id: "id-of-eu-core".into(),
            rtt_us: 163_421,
            trunk_up: true,
            loss_in_ppm: 12_345,
            loss_out_ppm: 300,
            jitter_us: 1_250,
            queueing_us: 90,
            shield_copies_permille: 980,
            way: "through".into(),
            via: "id-of-jp-1".into(),
            measured: true,
            ..Default::default()
        };
        let foreign = wire::TunnelReport {
            member_id: "who\u{1b}".into(),
            way: "\u{1b}[2J".into(),
            ..Default::default()
        };
        [
            member("sg-1", vec![measured]),
            member("eu-core", vec![foreign]),
            member("jp-1", Vec::new()),
        ]
    }

    #[test]
    fn people_can_read_the_table() {
        insta::assert_snapshot!(links_table(&members()));
    }

    #[test]
    fn programs_get_every_figure() {
        let json: Value = serde_json::from_str(&links_json(&members())).unwrap();
        assert_eq!(json[0]["from"], "sg-1");
        assert_eq!(json[0]["to"], "eu-core");
        assert_eq!(json[0]["loss_in_ppm"], 12_345);
        assert_eq!(json[0]["via"], "id-of-jp-1");
        assert_eq!(json.as_array().unwrap().len(), 2);
    }

    #[test]
    fn no_links_teaches() {
        assert!(links_table(&[member("sg-1", Vec::new())]).contains("heartbeat"));
        assert_eq!(links_json(&[]), "[]");
    }
}
