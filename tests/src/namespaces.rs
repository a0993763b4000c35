//! Hosts of their own on one machine: network namespaces, alone or some on a bridge. Needs root.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::Process;

/// What to do where a lab can't be made.
pub const NEED_ROOT: &str = "root with CAP_NET_ADMIN, for network namespaces (sudo just lab)";
/// As [`NEED_ROOT`].
pub const NEED_WIREGUARD: &str =
    "wireguard-go and wg (apt-get install wireguard-go wireguard-tools)";

/// Whether namespaces can be made here.
#[must_use]
pub fn has_root() -> bool {
    static ABLE: OnceLock<bool> = OnceLock::new();
    let probe = || {
        let name = format!("antipode-probe-{}", std::process::id());
        ip(&["netns", "add", &name]).is_ok() && ip(&["netns", "del", &name]).is_ok()
    };
    *ABLE.get_or_init(probe)
}

/// Whether other people's WireGuard is here.
#[must_use]
pub fn has_wireguard() -> bool {
    let runs = |program: &str| Command::new(program).arg("--version").output().is_ok();
    runs("wireguard-go") && runs("wg") && Path::new("/dev/net/tun").exists()
}

/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";

/// Does something in a namespace, such as opening a socket, which stays there.
///
/// # Errors
///
/// If there is no such namespace, or this process may not go there.
///
/// # Panics
///
/// If `work` does.
pub fn inside<T: Send + 'static>(
    namespace: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    let path = format!("{NAMES}/{namespace}");
    let file = File::open(&path).with_context(|| format!("open {path}"))?;
    // A namespace is a thread's own: this one goes there, does the work, and ends.
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        anyhow::Ok(work())
    });
    thread.join().expect("the work does not panic").with_context(|| format!("go into {path}"))
}

/// A namespace with nothing in it but loopback; gone when dropped.
#[derive(Debug)]
pub struct Namespace {
    /// As `ip netns` calls it.
    pub name: String,
}

impl Namespace {
    /// Makes one; any number may stand at once.
    ///
    /// # Errors
    ///
    /// If `ip` refuses.
    pub fn make() -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self { name: format!("apn{}-{serial}", std::process::id()) };
        ip(&["netns", "add", &namespace.name])?;
        ip(&["-n", &namespace.name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What was never made can't be taken away.
        drop(ip(&["netns", "del", &self.name]));
    }
}

/// A bridge in the machine's own namespace, and hosts on it; gone when dropped.
#[derive(Debug)]
pub struct Lab {
    tag: String,
    /// The machine's own address on the bridge.
    pub here: IpAddr,
    /// The first host.
    pub east: Host,
    /// The second host.
    pub west: Host,
    /// The third host, where there is one.
    pub south: Option<Host>,
}

/// A host of the lab.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its namespace.
    pub namespace: String,
    /// Its address on the bridge.
    pub address: IpAddr,
}

impl Lab {
    /// Makes one with two hosts; several may stand at once.
    ///
    /// # Errors
    ///
    /// If `ip` refuses.
    pub fn make() -> anyhow::Result<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let [.., process] = std::process::id().to_be_bytes();
        // Interface names hold at most 15 characters.
        let tag = format!("ap{process:02x}{serial:02x}");
        let address = |last| IpAddr::V4(Ipv4Addr::new(10, 77 + serial % 100, process, last));
        let host =
            |side: &str, last| Host { namespace: format!("{tag}{side}"), address: address(last) };
        let (east, west) = (host("e", 2), host("w", 3));
        // Made before the commands run, so that what they leave behind goes whatever happens.
        let lab = Self { here: address(1), east, west, south: None, tag };
        ip(&["link", "add", &lab.bridge(), "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", lab.here), "dev", &lab.bridge()])?;
        ip(&["link", "set", &lab.bridge(), "up"])?;
        for host in [&lab.east, &lab.west] {
            lab.connect(host)?;
        }
        Ok(lab)
    }

    /// Makes one with three hosts.
    ///
    /// # Errors
    ///
    /// If `ip` refuses.
    pub fn with_south() -> anyhow::Result<Self> {
        let mut lab = Self::make()?;
        let south = Host { namespace: format!("{}s", lab.tag), address: lab.address(4)? };
        lab.south = Some(south.clone());
        lab.connect(&south)?;
        Ok(lab)
    }

    /// Gives this machine so many more addresses on the bridge, for clients from different places.
    ///
    /// # Errors
    ///
    /// If `ip` refuses, or there are no more than 200.
    pub fn guests(&self, number: u8) -> anyhow::Result<Vec<IpAddr>> {
        ensure!(number <= 200, "{number} guests do not fit the bridge");
        let guests = (0..number).map(|guest| self.address(10 + guest));
        guests
            .map(|address| {
                let address = address?;
                ip(&["addr", "add", &format!("{address}/24"), "dev", &self.bridge()])?;
                Ok(address)
            })
            .collect()
    }

    fn connect(&self, host: &Host) -> anyhow::Result<()> {
        let (namespace, outside) = (&host.namespace, format!("{}v", host.namespace));
        ip(&["netns", "add", namespace])?;
        let peer = ["type", "veth", "peer", "name", "eth0", "netns", namespace];
        ip(&[&["link", "add", &outside][..], &peer].concat())?;
        ip(&["link", "set", &outside, "master", &self.bridge(), "up"])?;
        ip(&["-n", namespace, "addr", "add", &format!("{}/24", host.address), "dev", "eth0"])?;
        ip(&["-n", namespace, "link", "set", "eth0", "up"])?;
        ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        Ok(())
    }

    /// An address on the bridge.
    fn address(&self, last: u8) -> anyhow::Result<IpAddr> {
        let IpAddr::V4(here) = self.here else { anyhow::bail!("the bridge is one of IPv4") };
        let [one, two, three, _] = here.octets();
        Ok(Ipv4Addr::new(one, two, three, last).into())
    }

    fn bridge(&self) -> String {
        format!("{}b", self.tag)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in [&self.east, &self.west].into_iter().chain(&self.south) {
            // What was never made can't be taken away.
            drop(ip(&["netns", "del", &host.namespace]));
            drop(std::fs::remove_dir_all(host.own_files()));
        }
        drop(ip(&["link", "del", &self.bridge()]));
    }
}

impl Host {
    /// A command that runs on this host.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// Runs a command on this host to its end.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command(program);
        command.args(arguments);
        finish(command)
    }

    /// A firewall: datagrams to a UDP port that come in by an interface vanish, of both families.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn block_udp(&self, interface: &str, port: u16) -> anyhow::Result<()> {
        let port = port.to_string();
        for family in ["-4", "-6"] {
            // The rule for the host's own addresses stands first, and before it there is no place.
            let own = ["rule", "add", "priority", "2", "lookup", "local"];
            let drop = ["rule", "add", "priority", "1", "iif", interface, "ipproto", "udp"];
            let drop = [&drop[..], &["dport", &port, "blackhole"]].concat();
            for rule in [&own[..], &drop, &["rule", "del", "priority", "0"]] {
                self.run("ip", &[&[family][..], rule].concat())?;
            }
        }
        Ok(())
    }

    /// Says where names are, to what runs on this host: instead of the machine's own `/etc/hosts`.
    /// Said before a program starts it can be said anew while it runs.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn name(&self, names: &[(&str, IpAddr)]) -> anyhow::Result<()> {
        let folder = self.own_files();
        std::fs::create_dir_all(&folder)?;
        let lines = names.iter().map(|(name, address)| format!("{address} {name}\n"));
        let text: String = lines.collect();
        // In place: programs that run see this very file, by the mount of `ip netns exec`.
        let file = folder.join("hosts");
        let mut hosts = File::options().create(true).truncate(false).write(true).open(&file)?;
        hosts.write_all(text.as_bytes())?;
        Ok(hosts.set_len(u64::try_from(text.len())?)?)
    }

    /// What is there takes the place of its namesake in `/etc`, for what `ip netns exec` starts.
    fn own_files(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.namespace)
    }

    /// Starts Debian's wireguard-go on an interface `wg0` with a key of its own and UDP port 51820,
    /// as an operator would.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub fn wireguard(&self, folder: &Path) -> anyhow::Result<Process> {
        self.wireguard_at(folder, crate::settings::WIREGUARD_PORT)
    }

    /// As [`Self::wireguard`], on another UDP port.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub fn wireguard_at(&self, folder: &Path, port: u16) -> anyhow::Result<Process> {
        let mut command = self.command("wireguard-go");
        // Its sockets stand in /run/wireguard by interface name, for all namespaces alike.
        let interface = self.interface();
        command.args(["--foreground", &interface]);
        let process = Process::start("wireguard-go", command)?;
        let key_file = folder.join(format!("{}.key", self.namespace));
        std::fs::write(&key_file, self.run("wg", &["genkey"])?)?;
        crate::certificate::private(&key_file)?;
        let key_file = key_file.to_str().context("a UTF-8 path")?;
        let port = port.to_string();
        let set = ["set", &interface, "private-key", key_file, "listen-port", &port];
        let mut tried = 0;
        while let Err(error) = self.run("wg", &set) {
            tried += 1;
            ensure!(tried < 100, "{error:#}\n{}", process.printed());
            std::thread::sleep(Duration::from_millis(50));
        }
        self.run("ip", &["link", "set", &interface, "mtu", "1420", "up"])?;
        Ok(process)
    }

    /// The name of its WireGuard interface.
    #[must_use]
    pub fn interface(&self) -> String {
        format!("{}g", self.namespace)
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("ip");
    command.args(arguments);
    finish(command)
}

fn finish(mut command: Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
