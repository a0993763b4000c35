//! What an operator reads after each kind of mistake.

use std::time::Duration;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    listen: std::net::SocketAddr,
    #[serde(default)]
    session: Session,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, try_from = "SessionFile")]
struct Session {
    sessions_max: u32,
    idle: Duration,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SessionFile {
    sessions_max: u32,
    #[serde(with = "humantime_serde")]
    idle: Duration,
    token_file: String,
}

impl TryFrom<SessionFile> for Session {
    type Error = &'static str;

    fn try_from(file: SessionFile) -> Result<Self, Self::Error> {
        let SessionFile { sessions_max, idle, token_file: _ } = file;
        if sessions_max == 13 {
            Err("thirteen is refused")
        } else {
            Ok(Self { sessions_max, idle })
        }
    }
}

const LISTEN: &str = "listen = \"127.0.0.1:80\"\n";

#[test]
fn a_good_file_is_read() {
    let text = format!("{LISTEN}[session]\nsessions_max = 7\nidle = \"20s\"\n");
    let example: Example = parse(&text).unwrap();
    assert_eq!(example.listen.port(), 80);
    assert_eq!(example.session.sessions_max, 7);
    assert_eq!(example.session.idle, Duration::from_secs(20));
}

#[test]
fn mistakes_name_place_key_and_what_is_known() {
    check(
        "unknown key",
        "[session]\nsesions_max = 7\n",
        ":3:1: `session.sesions_max`: unknown field `sesions_max`, \
         expected one of `sessions_max`, `idle`, `token_file`",
    );
    check(
        "wrong type",
        "[session]\nsessions_max = \"many\"\n",
        ":3:16: `session.sessions_max`: invalid type: string \"many\", expected u32",
    );
    check(
        "negative",
        "[session]\nsessions_max = -1\n",
        ":3:16: `session.sessions_max`: invalid value: integer `-1`, expected u32",
    );
    check(
        "bare seconds",
        "[session]\nidle = 20\n",
        ":3:8: `session.idle`: invalid type: integer `20`, expected a duration",
    );
    check("not TOML", "[session]\nidle = 20s\n", ":3:8");
    check(
        "unknown table",
        "[sesion]\n",
        ":2:2: unknown field `sesion`, expected `listen` or `session`",
    );
    check("twice", "listen = \"127.0.0.1:81\"\n", ":2:1: `listen`: duplicate key");
}

#[test]
fn a_contradiction_is_told() {
    check("refused by the type", "[session]\nsessions_max = 13\n", "thirteen is refused");
}

#[test]
fn a_missing_key_is_named() {
    let (place, message) = parse::<Example>("[session]\nsessions_max = 7\n").unwrap_err();
    assert_eq!((place, message.as_str()), (Place::default(), "missing field `listen`"));
}

#[test]
fn a_secret_in_the_wrong_place_is_not_quoted() {
    for line in
        ["token_file = [\"hunter2\"]", "token_file = hunter2", "sessions_max = hunter2", "hunter2"]
    {
        let text = format!("{LISTEN}[session]\n{line}\n");
        let (place, message) = parse::<Example>(&text).unwrap_err();
        let told = format!("{place}: {message}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn a_quoted_value_of_a_secret_key_is_left_out() {
    let said = |key: &str| {
        let place = Place { position: Some((1, 1)), key: Some(key.into()) };
        message_of(&place, "\"hunter2\" is\nno good")
    };
    assert_eq!(said("session.name"), "\"hunter2\" is, no good");
    for key in ["member.join_token_file", "password", "tls.key_file", "client_secret"] {
        assert!(!said(key).contains("hunter2"), "{key}");
    }
}

#[test]
fn files_are_named() {
    let missing = load::<Example>(Path::new("/nonexistent/node.toml")).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/node.toml"), "{missing}");

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "listen = 1\n").unwrap();
    let told = load::<Example>(file.path()).unwrap_err().to_string();
    let expected = format!("{}:1:10: `listen`: invalid type", file.path().display());
    assert!(told.starts_with(&expected), "{told}");
    assert!(told.ends_with("try it out with --check"), "{told}");
}

#[track_caller]
fn check(what: &str, lines: &str, expected: &str) {
    let text = format!("{LISTEN}{lines}");
    let (place, message) = parse::<Example>(&text).unwrap_err();
    let told = format!("{place}: {message}");
    assert!(told.contains(expected), "{what}: {told:?} lacks {expected:?}");
}
