//! Who may depend on whom, read from `cargo tree`; and that the README's words are true.

use std::collections::BTreeSet;
use std::process::Command;

use antipode_tests::repository::{root, sources};

/// Each crate with the crates of ours that it may depend on, in the order of ARCHITECTURE.md.
const MAY_DEPEND_ON: [(&str, &[&str]); 11] = [
    ("proto", &[]),
    ("websocket", &["proto"]),
    ("tunnel", &["proto", "websocket"]),
    ("runtime", &["proto", "websocket", "tunnel"]),
    ("trunk", &["proto", "websocket", "tunnel", "runtime"]),
    ("node", &["proto", "websocket", "tunnel", "runtime", "trunk"]),
    ("core", &["proto", "websocket", "tunnel", "runtime", "trunk"]),
    ("gateway", &["proto", "websocket", "tunnel", "runtime"]),
    (
        "demo",
        &["proto", "websocket", "tunnel", "runtime", "trunk", "node", "core", "gateway", "tests"],
    ),
    // What drives the machines of all of them. The programs never depend on these.
    ("sim", &["proto", "websocket", "tunnel", "runtime", "trunk", "node", "core", "gateway"]),
    ("fuzz", &["proto", "websocket", "tunnel", "runtime", "trunk", "node", "core", "gateway"]),
];

/// Crates that bring a runtime, a socket or a clock: machines can't reach what isn't there.
const IMPURE: [&str; 8] =
    ["tokio", "rustls", "tonic", "hyper", "quinn", "mio", "socket2", "aws-lc-rs"];

#[test]
fn dependencies_point_one_way() {
    for (name, allowed) in MAY_DEPEND_ON {
        let package = format!("antipode-{name}");
        let ours: BTreeSet<String> = tree(&package, &[])
            .into_iter()
            .filter_map(|found| found.strip_prefix("antipode-").map(str::to_owned))
            .filter(|found| found != name && !allowed.contains(&found.as_str()))
            .collect();
        assert!(ours.is_empty(), "{package} depends on {ours:?}; it may only on {allowed:?}");
    }
}

#[test]
fn proto_and_websocket_know_no_runtime() {
    for (package, rng) in [("antipode-proto", "no"), ("antipode-websocket", "only its mask keys'")]
    {
        let tree = tree(package, &["--no-default-features"]);
        let impure: Vec<_> = IMPURE.into_iter().filter(|name| tree.contains(*name)).collect();
        assert!(impure.is_empty(), "{package} reaches {impure:?}");
        assert!(rng != "no" || !tree.contains("rand"), "{package} reaches randomness");
    }
}

/// Every dependency's version stands in the root manifest, once.
#[test]
fn versions_stand_in_one_place() {
    let manifests = sources().into_iter().filter(|file| file.path.ends_with("/Cargo.toml"));
    for file in manifests {
        let manifest: toml::Table = file.text.parse().expect("a manifest is TOML");
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(toml::Value::Table(wanted)) = manifest.get(kind) else { continue };
            for (name, value) in wanted {
                let inherited = value.get("workspace").and_then(toml::Value::as_bool);
                assert_eq!(inherited, Some(true), "{}: {name} has its own version", file.path);
            }
        }
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{}: lints", file.path);
    }
}

#[test]
fn every_crate_stands_in_the_architecture() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    for (name, _) in MAY_DEPEND_ON {
        assert!(text.contains(&format!("`{name}`")), "ARCHITECTURE.md says nothing of `{name}`");
    }
}

/// The names that the README tells people to type are names of this workspace.
#[test]
fn the_readme_names_real_packages_and_files() {
    let text = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let packages: BTreeSet<&str> =
        text.split("-p ").skip(1).map(word).filter(|word| word.starts_with("antipode-")).collect();
    assert!(packages.contains("antipode-demo"), "the README starts the demo");
    for package in packages {
        assert!(!tree(package, &[]).is_empty(), "no package {package}");
    }
    for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let local = !link.contains("://") && !link.starts_with('#');
        let path = link.split('#').next().unwrap_or(link);
        assert!(!local || root().join(path).exists(), "the README links to {link}");
    }
    for file in text.split("deploy/examples/").skip(1).map(word) {
        assert!(root().join("deploy/examples").join(file).exists(), "no deploy/examples/{file}");
    }
}

/// The first word: letters, digits, `-`, `_`, `.` and `/`.
fn word(text: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let end = text.find(|c: char| !is_part(c)).unwrap_or(text.len());
    text[..end].trim_end_matches('.')
}

/// Names of everything that `package` is built from on this machine.
fn tree(package: &str, more: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-e", "normal", "--prefix", "none", "-f", "{p}"])
        .args(["-p", package])
        .args(more)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}
