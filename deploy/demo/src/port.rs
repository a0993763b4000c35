//! The page's port: taking it, and saying who has it if it is taken.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpListener;

/// The page can't be put where it should be.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Somebody else listens there.
    #[error(
        "port {} is taken{}: stop that, or give the page another port with --port N \
         (--port 0 takes any free one)", address.port(), by(holder.as_deref())
    )]
    Taken {
        /// What was asked for.
        address: SocketAddr,
        /// The program that has it, if we may know.
        holder: Option<String>,
    },
    /// Below 1024 without the right to it.
    #[error("port {} is for root only: take one from 1024 up with --port N", address.port())]
    NotPermitted {
        /// What was asked for.
        address: SocketAddr,
    },
    /// Not an address of this machine, or of a family that it doesn't speak.
    #[error(
        "this machine has no address {}: use --listen 127.0.0.1, or leave it out", address.ip()
    )]
    NotOurs {
        /// What was asked for.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("can't listen on {address}")]
    Other {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Listens on `address`.
///
/// # Errors
/// Says what is in the way and how to get around it.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, PortError> {
    let error = match TcpListener::bind(address).await {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    // EAFNOSUPPORT: an IPv6 address on a machine without IPv6. It has no ErrorKind of its own.
    const NO_SUCH_FAMILY: i32 = 97;
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse {
        return Err(PortError::Taken { address, holder: holder(address.port()) });
    }
    if kind == io::ErrorKind::PermissionDenied {
        return Err(PortError::NotPermitted { address });
    }
    if kind == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(NO_SUCH_FAMILY) {
        return Err(PortError::NotOurs { address });
    }
    Err(PortError::Other { address, source: error })
}

fn by(holder: Option<&str>) -> String {
    holder.map(|holder| format!(" by {holder}")).unwrap_or_default()
}

/// The program that listens on a TCP port, from /proc: `name (pid 1234)`. Another user's isn't
/// shown to us.
fn holder(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| {
            table.lines().filter_map(|line| listening(line, port)).collect::<Vec<_>>()
        })
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = std::fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    processes.map(|entry| entry.path()).find_map(|process| {
        let pid: u32 = process.file_name()?.to_str()?.parse().ok()?;
        holds(&process, &inodes).then_some(())?;
        let name = std::fs::read_to_string(process.join("comm")).ok()?;
        Some(format!("{} (pid {pid})", name.trim()))
    })
}

/// The inode in a line of /proc/net/tcp, if that socket listens on `port`.
fn listening(line: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let matches = u16::from_str_radix(local_port, 16).ok()? == port && *fields.get(3)? == LISTEN;
    matches.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
}

fn holds(process: &Path, sockets: &[String]) -> bool {
    let Ok(open) = std::fs::read_dir(process.join("fd")) else { return false };
    open.filter_map(Result::ok)
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_says_who_and_how_to_go_on() {
        let first = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = listen(address).await.unwrap_err().to_string();
        let pid = format!("(pid {})", std::process::id());
        for word in [&*address.port().to_string(), &pid, "--port"] {
            assert!(error.contains(word), "no {word} in {error:?}");
        }
    }

    #[tokio::test]
    async fn a_foreign_address_is_told_apart() {
        let error = listen("192.0.2.1:0".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, PortError::NotOurs { .. }), "{error:?}");
    }
}
