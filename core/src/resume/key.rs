//! The key that tokens are signed with, in the core's state directory: a restarted core still knows
//! its own tokens, and can say that their sessions are over.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use antipode_runtime::state_file::{read_optional, write_atomic};

use super::token::{KEY_BYTES, TokenKey};

const FILE: &str = "resume.key";

/// The key can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It can't be read or made.
    #[error("{}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others can read it, and so take over sessions.
    #[error("{} can be read by other users: remove it, and a new one is made", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
    },
    /// It is not a key.
    #[error("{} is not {KEY_BYTES} bytes long: remove it, and a new one is made", path.display())]
    Length {
        /// Which file.
        path: PathBuf,
    },
}

/// Reads the key of `state_dir`, or makes it.
///
/// # Errors
///
/// The file is of no use; the message says what to do.
pub fn load_or_make(state_dir: &Path) -> Result<TokenKey, KeyError> {
    let path = state_dir.join(FILE);
    let failed = |source| KeyError::File { path: path.clone(), source };
    let Some(secret) = read_optional(&path).map_err(failed)? else {
        let secret: [u8; KEY_BYTES] = rand::random();
        write_atomic(&path, &secret).map_err(failed)?;
        return Ok(TokenKey::new(&secret));
    };
    let mode = path.metadata().map_err(failed)?.mode();
    if mode & 0o077 != 0 {
        return Err(KeyError::Open { path });
    }
    match secret.as_slice().try_into() {
        Ok(secret) => Ok(TokenKey::new(secret)),
        Err(_) => Err(KeyError::Length { path }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::resume::token::SessionId;

    #[test]
    fn a_key_is_made_once_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let id = SessionId::new([7; 16]);
        let token = load_or_make(dir.path()).unwrap().sign(id);
        assert_eq!(load_or_make(dir.path()).unwrap().verify(token.as_bytes()), Some(id));
        let mode = dir.path().join(FILE).metadata().unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);

        let elsewhere = tempfile::tempdir().unwrap();
        let other = load_or_make(elsewhere.path()).unwrap();
        assert_eq!(other.verify(token.as_bytes()), None, "each core has its own");
    }

    #[test]
    fn what_is_no_key_or_no_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        write_atomic(&path, b"too short").unwrap();
        assert!(matches!(load_or_make(dir.path()), Err(KeyError::Length { .. })));
        write_atomic(&path, &[7; KEY_BYTES]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load_or_make(dir.path()), Err(KeyError::Open { .. })));
        assert!(matches!(load_or_make(&dir.path().join("no")), Err(KeyError::File { .. })));
    }
}
