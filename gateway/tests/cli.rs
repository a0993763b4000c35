//! The program itself: its commands, its errors, its exit codes.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_antipode-gateway");

/// A running gateway; it is stopped when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_token_is_made_members_are_listed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(dir.path());
    let mut gateway = serve(&config);

    let socket = dir.path().join("state/admin.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only the gateway's user may ask");

    let made = run(&config, &["token", "create", "--role", "node", "--ttl", "30m"]);
    assert!(made.status.success(), "{made:?}");
    let token = text(&made.stdout);
    assert!(token.starts_with("antipode-join-v1."), "{token}");
    assert_eq!(token.lines().count(), 1, "only the token, for a file");
    assert!(text(&made.stderr).contains("1 node join within 30m"), "{}", text(&made.stderr));

    let made = run(&config, &["token", "create", "--role", "core", "--uses", "3", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!((&json["role"], &json["uses"]), (&"core".into(), &3.into()));

    let long = run(&config, &["token", "create", "--role", "node", "--ttl", "1year"]);
    assert!(!long.status.success());
    assert!(text(&long.stderr).contains("at most 30 days"), "{}", text(&long.stderr));

    let nodes = run(&config, &["nodes"]);
    assert!(text(&nodes.stdout).contains("No node or core has joined"), "{nodes:?}");
    let nodes = run(&config, &["nodes", "--json"]);
    assert_eq!(text(&nodes.stdout), "[]\n");

    let removed = run(&config, &["remove", "nobody"]);
    assert!(!removed.status.success());
    assert!(text(&removed.stderr).contains("no member has the name"), "{removed:?}");

    let drained = run(&config, &["drain", "nobody", "--grace", "5m"]);
    assert!(!drained.status.success());
    assert!(text(&drained.stderr).contains("no member has the name"), "{drained:?}");

    let second = Command::new(PROGRAM).args(["--config", &config]).output().unwrap();
    assert_eq!(second.status.code(), Some(70));
    assert!(text(&second.stderr).contains("another gateway runs"), "{second:?}");

    let id = gateway.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(gateway.0.wait().unwrap().code(), Some(0), "a drain is no failure");
    let stale = serve(&config);
    drop(stale);
    drop(serve(&config));
}

#[test]
fn without_a_gateway_the_error_says_where_it_looked_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(dir.path());
    let nodes = run(&config, &["nodes"]);
    assert_eq!(nodes.status.code(), Some(1));
    let told = text(&nodes.stderr);
    for part in ["state/admin.sock", "antipode-gateway serve", "--config"] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    let nodes = Command::new(PROGRAM).args(["nodes", "--socket", "/nowhere/a.sock"]).output();
    assert!(text(&nodes.unwrap().stderr).contains("/nowhere/a.sock"));
}

#[test]
fn a_bad_file_exits_78_and_a_taken_port_70_with_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("gateway.toml");
    std::fs::write(&config, "listen = \"127.0.0.1:0\"\nlisen = 1\n").unwrap();
    let bad = Command::new(PROGRAM).arg("--config").arg(&config).output().unwrap();
    assert_eq!(bad.status.code(), Some(78));
    assert!(text(&bad.stderr).contains("lisen"), "{bad:?}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = write_config(dir.path());
    let listen = format!("listen = \"{}\"", taken.local_addr().unwrap());
    let content = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, content.replacen("listen = \"127.0.0.1:0\"", &listen, 1)).unwrap();
    let refused = Command::new(PROGRAM).args(["--config", &config]).output().unwrap();
    assert_eq!(refused.status.code(), Some(70));
    assert!(text(&refused.stderr).contains("is in use"), "{refused:?}");
    let check = Command::new(PROGRAM).args(["--check", "--config", &config]).output().unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn help_teaches_the_first_steps() {
    let help = Command::new(PROGRAM).arg("--help").output().unwrap();
    let help = text(&help.stdout);
    for part in ["First steps", "token create --role node", "nodes", "remove", "--config"] {
        assert!(help.contains(part), "no {part:?} in {help}");
    }
}

fn write_config(dir: &Path) -> String {
    let path = dir.join("gateway.toml");
    let state_dir = dir.join("state");
    let content = format!(
        "listen = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[grpc]\nlisten = \"off\"\n",
        state_dir.display()
    );
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn serve(config: &str) -> Running {
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--config", config]).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("gateway is up") {
        let read = log.read_line(&mut seen).unwrap();
        assert!(read > 0, "the gateway ended: {seen}");
    }
    // Its log goes on; nobody else reads it.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    Running(child)
}

fn run(config: &str, args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).args(["--config", config]).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
