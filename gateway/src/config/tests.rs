//! What a file may say, and what a bad one is told.

use super::*;

#[test]
fn the_example_shows_every_default() {
    let text = include_str!("../../../deploy/examples/gateway.toml");
    let example: Config = toml::from_str(text).unwrap();
    let default = Config {
        public_address: example.public_address.clone(),
        admin: example.admin,
        ..Config::default()
    };
    assert_eq!(format!("{example:?}"), format!("{default:?}"));
}

#[test]
fn an_empty_file_asks_for_the_one_thing_it_needs() {
    let error = toml::from_str::<Config>("").unwrap_err().to_string();
    assert!(error.contains("public_address is missing"), "{error}");
    let config: Config = toml::from_str("listen = \"127.0.0.1:0\"").unwrap();
    assert_eq!(config.public_address, None);
}

#[test]
fn what_contradicts_itself_is_refused_with_its_key() {
    for (text, key) in [
        ("members_max = 0", "members_max"),
        ("sockets_max = 0", "sockets_max"),
        ("typo = 1", "typo"),
        ("public_address = \"gateway\"", "public_address"),
        ("[health]\nheartbeat_interval = \"10ms\"", "heartbeat_interval"),
        ("[health]\nsuspect_after = \"500ms\"", "suspect_after"),
        ("[health]\ndead_after = \"1500ms\"", "dead_after"),
        ("[health]\nalive_count = 0", "alive_count"),
        ("[enrol]\nper_minute_max = 0", "per_minute_max"),
        ("[steer]\nload_spill_percent = 101", "load_spill_percent"),
        ("[steer]\ntrusted_proxies = [\"10.0.0.0/99\"]", "trusted_proxies"),
        ("[steer]\ncountry_header = \"CF-IPCountry\"", "trusted_proxies"),
        ("[http]\nlisten = \"8080\"", "http.listen"),
        ("[grpc]\ntls = { certificate_file = \"a\" }", "key_file"),
    ] {
        let text = format!("listen = \"127.0.0.1:0\"\n{text}\n");
        let error = toml::from_str::<Config>(&text).unwrap_err().to_string();
        assert!(error.contains(key), "{text}: {error}");
    }
}

#[test]
fn a_face_can_be_off() {
    let config: Config =
        toml::from_str("listen = \"127.0.0.1:0\"\n[http]\nlisten = \"off\"").unwrap();
    assert_eq!(config.http.listen, None);
    assert_eq!(config.grpc.listen, Some(GRPC_DEFAULT.parse().unwrap()));
}
