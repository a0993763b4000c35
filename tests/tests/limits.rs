//! Holds docs/limits.md to the truth: every key and every constant that is a limit stands there,
//! with the default that it has, a series that exists and a test that exists.

use std::collections::{BTreeMap, BTreeSet};

use antipode_tests::limits::{Constants, Rows, limits};
use antipode_tests::repository::{Source, sources};

/// Keys that limit nothing: where things are, what they are called, how they are done.
const NO_LIMITS: [(&str, &[&str]); 3] = [
    (
        "node",
        &[
            "member.state_dir",
            "member.join_token_file",
            "member.name",
            "member.region",
            "member.location.latitude",
            "member.location.longitude",
            "member.public_urls",
            "tunnel.mode",
            "tunnel.listen",
            "tunnel.stream",
            "tunnel.shield",
            "tunnel.endpoints",
            "tunnel.forward",
            "trunk.lanes",
            "trunk.bulk_lanes",
            "trunk.carrier",
            "upgrade.answer",
            "upgrade.subprotocols",
            "forwarded.trusted_proxies",
            "admin.listen",
        ],
    ),
    (
        "core",
        &[
            "source_addresses",
            "member.state_dir",
            "member.join_token_file",
            "member.name",
            "member.region",
            "member.location.latitude",
            "member.location.longitude",
            "tunnel.mode",
            "tunnel.listen",
            "tunnel.endpoints",
            "tunnel.shield",
            "tunnel.stream_endpoints",
            "trunk.carrier",
            "trunk.port",
            "health.check",
            "health.path",
            "health.interval",
            "health.up",
            "health.down",
            "sticky.mode",
            "sticky.cookie",
            "resume.enabled",
            "resume.ping_interval",
            "handover.enabled",
            "admin.listen",
        ],
    ),
    (
        "gateway",
        &[
            "listen",
            "public_address",
            "state_dir",
            "health.heartbeat_interval",
            "health.alive_count",
            "health.recover_count",
            "steer.retry_after",
            "steer.trusted_proxies",
            "steer.country_header",
            "http.listen",
            "grpc.listen",
            "locate.mmdb_file",
            "locate.mmdb_check_interval",
            "admin.listen",
        ],
    ),
];

#[test]
fn every_key_that_is_a_limit_stands_there_with_its_default() {
    let limits = limits();
    let mut wrong = Vec::new();
    for (program, others) in NO_LIMITS {
        let others: BTreeSet<&str> = others.iter().copied().collect();
        let defaults = example(program);
        for (key, default) in &defaults {
            match (limits.keys(program).get(key), others.contains(key.as_str())) {
                (None, false) => wrong.push(format!("{program}.toml: {key} is not in the table")),
                (Some(_), true) => wrong.push(format!("{program}.toml: {key} is no limit")),
                (Some(row), false) if row.default != *default => wrong.push(format!(
                    "{program}.toml: {key} is {default}, the table says {}",
                    row.default
                )),
                (Some(_) | None, _) => {}
            }
        }
        let gone = limits.keys(program).into_keys().chain(others.iter().map(|key| (*key).into()));
        let gone = gone.filter(|key: &String| !defaults.contains_key(key));
        wrong.extend(gone.map(|key| format!("{program}.toml has no key {key}")));
    }
    assert!(wrong.is_empty(), "docs/limits.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_constant_that_is_a_limit_stands_there_with_its_value() {
    let (constants, listed) = (Constants::of(&sources()), limits().constants());
    let mut wrong = Vec::new();
    for name in constants.names().filter(|name| name.ends_with("_MAX")) {
        if !listed.contains_key(name) {
            wrong.push(format!("{name} is not in the tables"));
        }
    }
    for (name, told) in &listed {
        match constants.value(name) {
            None => wrong.push(format!("there is no {name}")),
            Some(value) if value != *told => {
                wrong.push(format!("{name} is {value}, the table says {told}"));
            }
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "docs/limits.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_limit_is_counted_in_a_series_that_exists() {
    let sources = sources();
    let in_crate = |crate_name: &str, part: &str| {
        let folder = format!("{crate_name}/src/");
        let own = sources.iter().filter(|source| source.path.starts_with(&folder));
        own.into_iter().any(|source| source.text.contains(part))
    };
    let (mut wrong, limits) = (Vec::new(), limits());
    for row in limits.rows() {
        let (name, labels) = row.series.split_once('{').unwrap_or((&row.series, ""));
        let crate_name = name.split('_').nth(1).unwrap_or_default();
        if !in_crate(crate_name, name) {
            wrong.push(format!("{}: no test of names has {name}", row.name));
        }
        for value in labels.split('"').skip(1).step_by(2) {
            let cause = format!("CAUSE_{}", value.to_uppercase());
            let known = in_crate(crate_name, &format!("\"{value}\""));
            if !known && !sources.iter().any(|source| source.text.contains(&cause)) {
                wrong.push(format!("{}: nobody counts {value:?}", row.name));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/limits.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_limit_is_reached_by_a_test_that_exists() {
    let by_path: BTreeMap<String, String> =
        sources().into_iter().map(|Source { path, text }| (path, text)).collect();
    let (mut wrong, limits) = (Vec::new(), limits());
    for row in limits.rows() {
        let (path, function) = row.test.split_once("::").unwrap_or((&row.test, ""));
        let there = by_path.get(path).is_some_and(|text| {
            let head = format!("fn {function}(");
            !function.is_empty() && text.contains(&head)
        });
        if !there {
            wrong.push(format!("{}: no test {}", row.name, row.test));
        }
    }
    assert!(wrong.is_empty(), "docs/limits.md:\n{}", wrong.join("\n"));
}

/// Keys of an example file and what they are set to; tables that may be repeated are left out.
fn example(program: &str) -> BTreeMap<String, String> {
    let path = format!("deploy/examples/{program}.toml");
    let file = sources().into_iter().find(|source| source.path == path).expect("an example");
    let mut keys = BTreeMap::new();
    flatten("", &file.text.parse().expect("the example is TOML"), &mut keys);
    keys
}

fn flatten(prefix: &str, table: &toml::Table, keys: &mut BTreeMap<String, String>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, keys),
            toml::Value::Array(list) if list.iter().any(toml::Value::is_table) => {}
            toml::Value::String(text) => drop(keys.insert(key, text.clone())),
            toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_) => drop(keys.insert(key, value.to_string())),
        }
    }
}

/// What the functions above rest on.
#[test]
fn the_tables_are_read() {
    let rows: Rows = limits();
    assert!(rows.keys("node").contains_key("session.sessions_max"));
    assert!(rows.rows().count() > 60, "{}", rows.rows().count());
    let constants = Constants::of(&[Source {
        path: "trunk/src/lane.rs".into(),
        text: "pub const A_MAX: usize = 4 * B + 1;\nconst B: u32 = 1 << 10;\n\
               const C: Duration = Duration::from_secs(90);\n"
            .into(),
    }]);
    assert_eq!(constants.value("trunk::lane::A_MAX").as_deref(), Some("4097"));
    assert_eq!(constants.value("trunk::lane::C").as_deref(), Some("90s"));
}
