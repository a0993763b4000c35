//! X25519 keys as WireGuard writes them, and the tunnel address that follows from a public key.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Ipv6Addr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use blake2::digest::consts::U32;
use blake2::{Blake2s, Digest};
use x25519_dalek::StaticSecret;

/// Port inside the tunnel on which a core takes trunks, over QUIC (UDP) and over TCP alike.
pub const TRUNK_PORT: u16 = 4433;

/// How far from that of a trunk the port of its lanes for bulk is, over QUIC.
pub const BULK_PORT_OFFSET: u16 = 1;

/// Every tunnel address lies in this /48: `fd` and the five letters `Antip`.
///
/// [RFC 4193 §3.2](https://www.rfc-editor.org/rfc/rfc4193#section-3.2) asks for a random global
/// id, so that two networks that merge don't clash; ours is fixed, because the 80 bits that follow
/// come from a key and don't clash whoever assigns them.
pub const TUNNEL_PREFIX: [u8; 6] = [0xfd, b'A', b'n', b't', b'i', b'p'];

/// Separates this use of BLAKE2s over a public key from WireGuard's own.
const ADDRESS_LABEL: &[u8] = b"antipode tunnel address v1";

/// A key file holds 44 characters and a newline; anything much longer is some other file.
const KEY_FILE_BYTES_MAX: u64 = 256;

/// The tunnel address of the holder of `public_key`: [`TUNNEL_PREFIX`], then the first 80 bits of
/// BLAKE2s-256 over a label and the key.
///
/// Nobody assigns addresses, and both ends agree on them without asking. A peer can't take another
/// peer's address: that needs a second key with the same 80 bits, and a device gives an address to
/// the first peer that has it.
#[must_use]
pub fn tunnel_address(public_key: &PublicKey) -> Ipv6Addr {
    let mut hash = Blake2s::<U32>::new();
    hash.update(ADDRESS_LABEL);
    hash.update(public_key.0);
    let hash = hash.finalize();
    let mut octets = [0u8; 16];
    octets[..6].copy_from_slice(&TUNNEL_PREFIX);
    octets[6..].copy_from_slice(&hash[..10]);
    Ipv6Addr::from(octets)
}

/// A key could not be read, written or understood.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is not the base64 of 32 bytes.
    #[error("a WireGuard key is 44 characters of base64 ending in '=' (try `wg genkey`)")]
    NotAKey,
    /// The file could not be opened or read.
    #[error("read key file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file could not be written.
    #[error("write key file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is there, but holds something else.
    #[error("key file {} holds no WireGuard key: delete it to have one made", path.display())]
    Content {
        /// The file.
        path: PathBuf,
    },
    /// Everybody on this machine may read the key.
    #[error("key file {0} may be read by everybody: run `chmod 600 {0}`", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
}

/// A tunnel's secret. It is wiped when dropped and never shown by `Debug`.
#[derive(Clone)]
pub struct PrivateKey(StaticSecret);

impl PrivateKey {
    /// Makes a new key from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self(StaticSecret::random())
    }

    /// Reads a key from `path`, in the form `wg genkey` writes.
    ///
    /// # Errors
    /// If the file can't be read, is no key, or may be read by everybody.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let read = |source| KeyError::Read { path: path.into(), source };
        let file = File::open(path).map_err(read)?;
        let mode = file.metadata().map_err(read)?.permissions().mode();
        if mode & 0o007 != 0 {
            return Err(KeyError::Exposed { path: path.into() });
        }
        let mut text = secrecy::SecretBox::new(Box::new(String::new()));
        let mut limited = file.take(KEY_FILE_BYTES_MAX);
        let buffer = secrecy::ExposeSecretMut::expose_secret_mut(&mut text);
        limited.read_to_string(buffer).map_err(read)?;
        buffer.trim().parse().map_err(|_| KeyError::Content { path: path.into() })
    }

    /// Reads the key in `path`, or makes one there, readable by its owner only.
    ///
    /// # Errors
    /// As [`PrivateKey::load`], or if the file can't be written.
    pub fn load_or_generate(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome,
        }
        let key = Self::generate();
        key.write_new(path).map_err(|source| KeyError::Write { path: path.into(), source })?;
        Ok(key)
    }

    /// Writes to a file beside `path` and renames it, so that a crash leaves a whole key or none.
    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let options =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
        let mut file = options.open(&beside)?;
        file.set_permissions(PermissionsExt::from_mode(0o600))?;
        writeln!(file, "{}", BASE64.encode(self.0.as_bytes()))?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// The secret as boringtun wants it.
    pub(crate) fn secret(&self) -> &StaticSecret {
        &self.0
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Ok(Self(StaticSecret::from(key_bytes(text)?)))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public_key().short())
    }
}

/// Who a peer is, to WireGuard. `Display` and `FromStr` are WireGuard's base64.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The 32 bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 8 characters, for logs and metric labels.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }

    /// The holder's address in the tunnel; see [`tunnel_address`].
    #[must_use]
    pub fn address(&self) -> Ipv6Addr {
        tunnel_address(self)
    }

    /// The key as boringtun wants it.
    pub(crate) fn dalek(&self) -> x25519_dalek::PublicKey {
        x25519_dalek::PublicKey::from(self.0)
    }
}

impl From<[u8; 32]> for PublicKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Ok(Self(key_bytes(text)?))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.short())
    }
}

fn key_bytes(text: &str) -> Result<[u8; 32], KeyError> {
    let mut bytes = [0u8; 33];
    match BASE64.decode_slice(text, &mut bytes) {
        Ok(32) => Ok(std::array::from_fn(|i| bytes[i])),
        Ok(_) | Err(_) => Err(KeyError::NotAKey),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wireguards_base64() {
        // RFC 7748 §6.1: Alice's keys, in base64 as `wg pubkey` gives them.
        let private: PrivateKey = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=".parse().unwrap();
        let public = private.public_key();
        assert_eq!(public.to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
        assert_eq!(public.to_string().parse::<PublicKey>().unwrap(), public);
        assert_eq!(public.short(), "hSDwCYkw");
    }

    #[test]
    fn refuses_what_is_no_key() {
        for text in ["", "hello", "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTg==", "!!!!"] {
            assert!(matches!(text.parse::<PublicKey>(), Err(KeyError::NotAKey)), "{text:?}");
        }
    }

    /// Both ends derive addresses, so a change here parts old and new releases.
    #[test]
    fn address_of_a_key_never_changes() {
        let public: PublicKey = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=".parse().unwrap();
        assert_eq!(public.address().to_string(), "fd41:6e74:6970:5b7d:b7a6:f2ae:fed9:872e");
        assert_ne!(PrivateKey::generate().public_key().address(), public.address());
    }

    #[test]
    fn debug_hides_the_secret() {
        let text = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        let shown = format!("{:?}", text.parse::<PrivateKey>().unwrap());
        assert_eq!(shown, "PrivateKey(of hSDwCYkw)");
    }

    #[test]
    fn a_made_key_is_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wireguard.key");
        let made = PrivateKey::load_or_generate(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = PrivateKey::load_or_generate(&path).unwrap();
        assert_eq!(made.public_key(), read.public_key());
        assert!(!dir.path().join("wireguard.key.new").exists());
    }

    #[test]
    fn refuses_a_key_everybody_may_read_and_a_file_of_something_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wireguard.key");
        std::fs::write(&path, "not a key\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let exposed = PrivateKey::load(&path).unwrap_err();
        assert!(exposed.to_string().contains("chmod 600"), "{exposed}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(matches!(PrivateKey::load_or_generate(&path), Err(KeyError::Content { .. })));
        let missing = dir.path().join("none");
        assert!(matches!(PrivateKey::load(&missing), Err(KeyError::Read { .. })));
    }
}
