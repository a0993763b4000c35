//! What carries the clients: the product, or nginx with wireguard-go.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::client::Client;
use crate::namespaces::Host;
use crate::process::Process;
use crate::world::{Plan, World};

use super::place::{CORE, Place};

/// The core's end of wireguard-go's tunnel.
const INNER_CORE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 2));
/// The node's.
const INNER_NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));
/// Both of them.
const INNER: &str = "10.99.0.0/24";
/// Where nginx takes clients; the product's node has another port.
const NGINX_PORT: u16 = 9443;
/// WireGuard's customary port is the product's; wireguard-go has the next one.
const WIREGUARD_GO_PORT: u16 = 51_821;

/// Everything that stands between clients and backend, of both kinds.
#[derive(Debug)]
pub struct Stacks {
    /// The product.
    pub world: World,
    nginx: Option<Nginx>,
    /// Ends after what leads to it.
    _backend: Process,
}

/// A kind of relay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stack {
    /// The product.
    Antipode,
    /// nginx at the node, wireguard-go at both ends.
    Nginx,
}

impl Stack {
    /// What it is called in results.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Antipode => "antipode",
            Self::Nginx => "nginx + wireguard-go",
        }
    }
}

#[derive(Debug)]
struct Nginx {
    address: SocketAddr,
    master: Process,
    _wireguards: [Process; 2],
    _folder: tempfile::TempDir,
}

impl Stacks {
    /// Starts both in `place`, the second one only if `with_nginx`.
    ///
    /// # Errors
    ///
    /// Whatever did not come up.
    pub async fn start(
        place: &Place,
        with_nginx: bool,
        more: (String, String),
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = place.lab.west.command(program.to_str().context("a UTF-8 path")?);
        command.arg("--backend");
        let backend = Process::start("backend", command)?;
        let listens = backend.wait_for("0.0.0.0:", Duration::from_secs(10))?;
        let port = listens.parse::<SocketAddr>()?.port();
        let (node_more, core_more) = more;
        let plan = Plan {
            sites: Some(place.sites()),
            node_more,
            core_more,
            ..Plan::with_backend(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        };
        let world = World::start(plan).await?;
        let nginx = with_nginx.then(|| Nginx::start(place, &world, port)).transpose()?;
        Ok(Self { world, nginx, _backend: backend })
    }

    /// A client of one of them.
    #[must_use]
    pub fn client(&self, stack: Stack) -> Client {
        let client = self.world.client(0);
        match (stack, &self.nginx) {
            (Stack::Nginx, Some(nginx)) => Client { address: nginx.address, ..client },
            (Stack::Antipode | Stack::Nginx, _) => client,
        }
    }
}

impl Nginx {
    fn start(place: &Place, world: &World, backend: u16) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (east, west) = (&place.lab.east, &place.lab.west);
        let wireguard = |host: &Host| host.wireguard_at(folder.path(), WIREGUARD_GO_PORT);
        let wireguards = [wireguard(east)?, wireguard(west)?];
        for (host, inner) in [(east, INNER_NODE), (west, INNER_CORE)] {
            let interface = host.interface();
            host.run("ip", &["address", "add", &format!("{inner}/24"), "dev", &interface])?;
            // As Debian has it, whatever this machine's own default is.
            let route = ["route", "replace", INNER, "dev", &interface, "congctl", "cubic"];
            host.run("ip", &route)?;
        }
        let key = |host: &Host| -> anyhow::Result<String> {
            let shown = host.run("wg", &["show", &host.interface(), "public-key"])?;
            Ok(shown.trim().to_owned())
        };
        let endpoint = format!("{CORE}:{WIREGUARD_GO_PORT}");
        let (near, far) = (east.interface(), west.interface());
        let core = key(west)?;
        let to_core = ["set", &near, "peer", &core, "endpoint", &endpoint];
        let keep = ["persistent-keepalive", "5"];
        let allowed = ["allowed-ips", &format!("{INNER_CORE}/32")];
        east.run("wg", &[&to_core[..], &keep, &allowed].concat())?;
        let allowed = format!("{INNER_NODE}/32");
        west.run("wg", &["set", &far, "peer", &key(east)?, "allowed-ips", &allowed])?;

        let address = SocketAddr::new(east.address, NGINX_PORT);
        let file = folder.path().join("nginx.conf");
        fs::write(&file, settings(folder.path(), world, address, backend))?;
        let mut command: Command = east.command("nginx");
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
        let master = Process::start("nginx", command)?;
        Ok(Self { address, master, _wireguards: wireguards, _folder: folder })
    }
}

impl Drop for Nginx {
    /// Asks it to end: were it killed, its workers would live on.
    fn drop(&mut self) {
        // What doesn't end in time is killed.
        drop(self.master.terminate(Duration::from_secs(5)));
    }
}

/// As an operator would have it: a worker a core, TLS, upgrades, time for idle sockets.
fn settings(folder: &std::path::Path, world: &World, address: SocketAddr, backend: u16) -> String {
    let (folder, certificates) = (folder.display(), &world.certificates);
    let (chain, key) = (certificates.chain_file.display(), certificates.key_file.display());
    format!(
        r"
daemon off;
user root;
worker_processes 2;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 20000; multi_accept on; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_max_temp_file_size 0;
    server {{
        listen {address} ssl reuseport backlog=4096;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        location / {{
            proxy_pass http://{INNER_CORE}:{backend};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $http_connection;
            proxy_set_header Host $host;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
        }}
    }}
}}
"
    )
}
