//! UDP and a stream over an emulated link between two namespaces.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Failure;
use crate::transfer::{self, Carrier, Place};

/// 200 ms there and back: as it is, with loss, and with a bottleneck.
const LINKS: [&str; 3] = [
    r#"{"delay_ms": 100, "loss": 0, "rate_mbit": 0}"#,
    r#"{"delay_ms": 100, "loss": 0.01, "rate_mbit": 0}"#,
    r#"{"delay_ms": 100, "loss": 0, "rate_mbit": 50, "queue_ms": 100}"#,
];

pub(crate) fn measure(wan: &str, length: Duration) -> Result<(), Failure> {
    let pid = std::process::id();
    let names = [format!("apw{pid}l"), format!("apw{pid}r")];
    for name in &names {
        ip(&["netns", "add", name])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
    }
    let outcome = over(wan, &names, length);
    for name in &names {
        ip(&["netns", "del", name])?;
    }
    outcome
}

fn over(wan: &str, names: &[String; 2], length: Duration) -> Result<(), Failure> {
    let mut wan = Command::new(wan)
        .args(["--left", &names[0], "--right", &names[1]])
        .args(["--left-address", "10.9.0.1/24", "--right-address", "10.9.0.2/24"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut orders = wan.stdin.take().ok_or("no stdin")?;
    let mut answers = BufReader::new(wan.stdout.take().ok_or("no stdout")?).lines();
    answers.next().ok_or("the link ended")??;
    for link in LINKS {
        writeln!(orders, "{{\"set\":{{\"both\":{link}}}}}")?;
        let answer = answers.next().ok_or("the link ended")??;
        if !answer.contains("true") {
            return Err(answer.into());
        }
        for carrier in [Carrier::Udp, Carrier::Stream] {
            let place = Place {
                says: link.replace('"', ""),
                namespaces: names.clone().map(Some),
                node: [10, 9, 0, 1].into(),
                core: [10, 9, 0, 2].into(),
                echoes: 50,
            };
            transfer::measure(&place, carrier, length)?;
        }
    }
    drop(orders);
    wan.wait()?;
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<(), Failure> {
    let status = Command::new("ip").args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("ip {arguments:?}: {status}").into()) }
}
