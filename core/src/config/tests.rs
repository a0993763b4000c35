//! Tables for the configuration file.

use super::*;
use crate::config::{Check, StickyMode};

const EXAMPLE: &str = include_str!("../../../deploy/examples/core.toml");
const BACKEND: &str = "[[backend]]\nurl = \"http://127.0.0.1:3000\"\n";

#[test]
fn the_example_is_good_and_shows_the_defaults() {
    let example: Config = toml::from_str(EXAMPLE).unwrap();
    let shortest: Config = toml::from_str(&with_member(BACKEND)).unwrap();
    assert_eq!(example.tunnel.listen(), shortest.tunnel.listen());
    for (shown, default) in [
        (format!("{:?}", example.health), format!("{:?}", shortest.health)),
        (format!("{:?}", example.sticky), format!("{:?}", shortest.sticky)),
        (format!("{:?}", example.limits), format!("{:?}", shortest.limits)),
        (format!("{:?}", example.timeouts), format!("{:?}", shortest.timeouts)),
        (format!("{:?}", example.websocket), format!("{:?}", shortest.websocket)),
        (format!("{:?}", example.resume), format!("{:?}", shortest.resume)),
        (format!("{:?}", example.trunk), format!("{:?}", shortest.trunk)),
        (format!("{:?}", example.tunnel.shield()), format!("{:?}", shortest.tunnel.shield())),
        (format!("{:?}", example.tunnel.streams_max), format!("{:?}", shortest.tunnel.streams_max)),
        (format!("{:?}", example.drain_grace), format!("{:?}", shortest.drain_grace)),
    ] {
        assert_eq!(shown, default);
    }
}

#[test]
fn what_is_refused() {
    check("no backend", "", "no [[backend]]");
    check("twice the same", &BACKEND.repeat(2), "stands twice");
    check("an unknown key", "[[backend]]\nurl = \"http://a\"\nweight = 2\n", "weight");
    check("a path", "[[backend]]\nurl = \"http://a/b\"\n", "has a path");
    check("a bad name", "[[backend]]\nurl = \"http://a\"\nname = \"a b\"\n", "name of [[backend]]");
    check("a ca for http", "[[backend]]\nurl = \"http://a\"\nca_file = \"/x\"\n", "need https://");
    check("bare seconds", &with("[timeouts]\nconnect = 5\n"), "connect");
    check("up 0", &with("[health]\nup = 0\n"), "at least 1");
    check("a bad path", &with("[health]\npath = \"healthz\"\n"), "health.path");
    check("a bad cookie", &with("[sticky]\ncookie = \"a;b\"\n"), "sticky.cookie");
    check("no such mode", &with("[sticky]\nmode = \"maybe\"\n"), "maybe");
    check("pings without an end", &with("[websocket]\nping_interval = \"2m\"\n"), "must exceed");
    check("no window", &with("[resume]\nwindow = \"0s\"\n"), "resume.window");
    check("two years", &with("[resume]\nwindow = \"2y\"\n"), "a year");
    check("no pings", &with("[resume]\nping_interval = \"0s\"\n"), "resume.ping_interval");
    check("no time", &with("[resume]\nattach_timeout = \"0s\"\n"), "resume.attach_timeout");
    check("no resumable sessions", &with("[resume]\nsessions_max = 0\n"), "nonzero");
    check("no sessions", &with("[limits]\nsessions_max = 0\n"), "nonzero");
    check("tcp without an interface", &with("[trunk]\ncarrier = \"tcp\"\n"), "tunnel.mode");
    check("a host without an interface", &with("[tunnel]\nmode = \"host\"\n"), "tunnel.interface");
    check("an endpoint", &with("[tunnel]\nendpoints = [\"core\"]\n"), "not host:port");
    let stream = |value: &str| with(&format!("[tunnel]\n{value}\n"));
    check("a stream's port alone", &stream("stream_listen = \"443\""), "not \"off\"");
    check("a stream's URL", &stream("stream_endpoints = [\"https://a\"]"), "not host:port");
    check("no streams", &stream("streams_max = 0"), "nonzero");
    let host = "mode = \"host\"\ninterface = \"wg0\"\nstream_listen = \"[::]:443\"";
    check("streams to an interface", &stream(host), "tunnel.stream_listen needs");
}

#[test]
fn modes() {
    let text =
        with("[sticky]\nmode = \"app_cookie\"\ncookie = \"sid\"\n[health]\ncheck = \"http\"\n");
    let config: Config = toml::from_str(&with_member(&text)).unwrap();
    assert_eq!(config.sticky.mode, StickyMode::AppCookie);
    assert_eq!(config.health.check, Check::Http);
}

#[test]
fn streams_are_taken_beside_wireguard_unless_told_otherwise() {
    let table = |text: &str| {
        let config: Config = toml::from_str(&with_member(&with(text))).unwrap();
        config.tunnel
    };
    let at = |text: &str| text.parse().unwrap();
    let listen = |text: &str| table(text).stream_listen();
    assert_eq!(listen(""), StreamListen::IfFree(at("[::]:443")));
    let bound = listen("[tunnel]\nlisten = \"192.0.2.1:51820\"\n");
    assert_eq!(bound, StreamListen::IfFree(at("192.0.2.1:443")));
    let told = listen("[tunnel]\nstream_listen = \"192.0.2.1:8443\"\n");
    assert_eq!(told, StreamListen::At(at("192.0.2.1:8443")));
    assert_eq!(listen("[tunnel]\nstream_listen = \"off\"\n"), StreamListen::Off);
    let host = listen("[tunnel]\nmode = \"host\"\ninterface = \"wg0\"\n");
    assert_eq!(host, StreamListen::Off);

    let wireguard = ["core.example:51820", "[2001:db8::1]:51820", "core.example:51821"];
    let wireguard = wireguard.map(str::to_owned);
    let default = table("").stream_endpoints(&wireguard, 8443);
    assert_eq!(default, ["core.example:8443", "[2001:db8::1]:8443"]);
    let named = table("[tunnel]\nstream_endpoints = [\"ws.example:443\"]\n");
    assert_eq!(named.stream_endpoints(&wireguard, 8443), ["ws.example:443"]);
}

#[test]
fn ids_are_stable_and_do_not_show_the_address() {
    let id = |url| BackendTable::new(url).unwrap().id();
    assert_eq!(id("http://10.0.0.1:3000"), id("ws://10.0.0.1:3000"));
    assert_ne!(id("http://10.0.0.1:3000"), id("http://10.0.0.2:3000"));
    assert!(!id("http://10.0.0.1:3000").contains("10.0"));
}

/// A whole file around `text`.
pub(crate) fn with_member(text: &str) -> String {
    const MEMBER: &str = "[member]\nname = \"core\"\nregion = \"eu\"\nstate_dir = \"/tmp\"\n";
    // Keys that stand in no table come before the first one.
    let at = if text.starts_with('[') { 0 } else { text.find("\n[").map_or(0, |at| at + 1) };
    format!("{}{MEMBER}{}", &text[..at], &text[at..])
}

fn with(table: &str) -> String {
    format!("{BACKEND}{table}")
}

#[track_caller]
fn check(what: &str, text: &str, expected: &str) {
    let error = toml::from_str::<Config>(&with_member(text)).unwrap_err().to_string();
    assert!(error.contains(expected), "{what}: {error}");
}
