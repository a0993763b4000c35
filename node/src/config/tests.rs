//! The example file holds every default, and contradictions are refused with a word on the way out.

use super::*;

const MINIMAL: &str = r#"
    [[listen]]
    address = "127.0.0.1:0"
    [member]
    state_dir = "/tmp/node"
    name = "sg1"
    region = "ap-southeast"
"#;

#[test]
fn the_example_spells_out_the_defaults() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/node.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let example: Config = toml::from_str(&text).unwrap();
    let minimal: Config = toml::from_str(MINIMAL).unwrap();

    assert_eq!(example.front, minimal.front);
    assert_eq!(example.pacing, minimal.pacing);
    assert_eq!(example.drain_per_second, minimal.drain_per_second);
    assert_eq!(example.session, minimal.session);
    assert_eq!(example.trunk, minimal.trunk);
    assert_eq!(example.tunnel, minimal.tunnel);
    assert_eq!(example.forwarding, minimal.forwarding);
    assert_eq!(example.upgrade, minimal.upgrade);
    assert_eq!(example.trusted_proxies, minimal.trusted_proxies);
    assert_eq!(example.drain_grace, minimal.drain_grace);
    for key in [
        "clients_max",
        "sessions_per_ip_max",
        "close_timeout",
        "body_timeout",
        "lanes",
        "bulk_lanes",
    ]
    .into_iter()
    .chain(["handshakes_per_second_max", "wait_max", "drain_per_second"])
    {
        assert!(text.lines().any(|line| line.starts_with(key)), "{key} is not in the example");
    }
}

#[test]
fn a_node_that_can_be_reached_sends_on_unless_it_is_told_not_to() {
    let forwarding = |more: &str| {
        let reached = "listen = \"[::]:51820\"\nendpoints = [\"sg.example:51820\"]";
        let config: Config =
            toml::from_str(&format!("{MINIMAL}\n[tunnel]\n{reached}\n{more}")).unwrap();
        config.forwarding
    };
    let sends_on = forwarding("");
    assert!(sends_on.enabled && sends_on.endpoints == ["sg.example:51820"]);
    assert_eq!(sends_on.bytes_per_second_max, 12_500_000);
    assert!(!forwarding("forward = false").enabled);
    assert_eq!(forwarding("forward_kbit_per_second_max = 8").bytes_per_second_max, 1000);
}

#[test]
fn contradictions_are_refused() {
    check("a typo", "listen = 1", "listen");
    check("an unknown key", "[session]\nsesions_max = 1", "sesions_max");
    check("bare seconds", "[session]\nping_interval = 20", "session.ping_interval");
    check(
        "pings too rare",
        "[session]\nping_interval = \"60s\"",
        "session.ping_timeout must exceed session.ping_interval",
    );
    check("tcp without an interface", "[trunk]\ncarrier = \"tcp\"", "tunnel.mode = \"host\"");
    check("a host tunnel of no name", "[tunnel]\nmode = \"host\"", "tunnel.interface");
    check("a core nowhere", "[tunnel]\ncore_endpoints = { eu = \"10.0.0.1\" }", "is not host:port");
    let nowhere = "[tunnel]\ncore_stream_endpoints = { eu = \"10.0.0.1\" }";
    check("a core's streams nowhere", nowhere, "is not host:port");
    let reached = "[tunnel]\nendpoints = [\"sg.example:51820\"]";
    check("a port that changes", reached, "tunnel.listen with a port");
    check("reached nowhere", "[tunnel]\nendpoints = [\"sg.example\"]", "is not host:port");
    let idle = format!("{reached}\nlisten = \"[::]:51820\"\nforward_kbit_per_second_max = 0");
    check("sending on nothing", &idle, "tunnel.forward = false");
    let hosted = format!("{reached}\nmode = \"host\"\ninterface = \"wg0\"");
    check("sending on by the host", &hosted, "tunnel.mode = \"in_process\"");
    check("no lanes", "[trunk]\nlanes = 0", "trunk.lanes");
    check("too many lanes", "[trunk]\nlanes = 1020", "trunk.bulk_lanes");
    check("small heads", "[front]\nhead_bytes_max = 100", "8192");
    check("nobody told", "drain_per_second = 0", "drain_per_second");
    check("endless waits", "[pacing]\nwait_max = \"2m\"", "pacing.wait_max");
    check("no sessions", "[session]\nsessions_max = 0", "session.sessions_max");
    check("a bad range", "[forwarded]\ntrusted_proxies = [\"10/8\"]", "10.0.0.0/8");
    check("late subprotocols", "[upgrade]\nsubprotocols = [\"chat\"]", "early");
    check(
        "no subprotocol",
        "[upgrade]\nanswer = \"early\"\nsubprotocols = [\"a b\"]",
        "no subprotocol's name",
    );
    let text = MINIMAL.replace("sg1", "SG 1");
    assert!(toml::from_str::<Config>(&text).unwrap_err().to_string().contains("1 to 32 of"));
    let text = MINIMAL.replace("[[listen]]", "listen = []\n[ignored]");
    assert!(toml::from_str::<Config>(&text).is_err());
    let text = format!("{MINIMAL}\nlocation = {{ latitude = 91, longitude = 0 }}");
    assert!(toml::from_str::<Config>(&text).unwrap_err().to_string().contains("degrees"));
}

#[track_caller]
fn check(what: &str, more: &str, told: &str) {
    let file = if more.starts_with('[') {
        format!("{MINIMAL}\n{more}")
    } else {
        format!("{more}\n{MINIMAL}")
    };
    let error = toml::from_str::<Config>(&file).expect_err(what).to_string();
    let key = told.rsplit('.').next().unwrap_or(told);
    assert!(error.contains(told) || error.contains(key), "{what}: {error}");
}
