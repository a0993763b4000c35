//! A TAP device in a namespace: an Ethernet interface there, whose frames come out here.

use std::process::Command;

use anyhow::{Context, ensure};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::namespaces::inside;

/// Frames that the kernel holds for us: 100 ms of 100,000 a second.
const FRAMES_MAX: &str = "10000";

/// One end of a link.
#[derive(Clone, Debug)]
pub struct End {
    /// The namespace it is in; none: ours.
    pub namespace: Option<String>,
    /// What the interface is called there.
    pub interface: String,
    /// Its addresses, such as `10.9.0.1/24` and `fd09::1/64`.
    pub addresses: Vec<String>,
}

impl End {
    /// Makes the device; it is gone when dropped.
    ///
    /// # Errors
    ///
    /// If there is no such namespace, or this process may not.
    pub fn make(&self) -> anyhow::Result<SyncDevice> {
        let made = match &self.namespace {
            Some(namespace) => {
                let end = self.clone();
                inside(namespace, move || end.make_here())?
            }
            None => self.make_here(),
        };
        made.with_context(|| {
            let place = self.namespace.as_deref().unwrap_or("this namespace");
            format!("{} in {place}", self.interface)
        })
    }

    fn make_here(&self) -> anyhow::Result<SyncDevice> {
        let device = DeviceBuilder::new().name(&self.interface).layer(Layer::L2).build_sync()?;
        device.set_nonblocking(true)?;
        ip(&["link", "set", &self.interface, "txqueuelen", FRAMES_MAX])?;
        for address in &self.addresses {
            // An address that waits for duplicates to show would be of no use for a second.
            let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
            ip(&[&["address", "add", address, "dev", &self.interface], nodad].concat())?;
        }
        ip(&["link", "set", &self.interface, "up"])?;
        Ok(device)
    }
}

/// Runs `ip` in the namespace of this thread.
fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("run ip (iproute2)")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {errors}", arguments.join(" "));
    Ok(())
}
