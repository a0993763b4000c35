//! Secrets come from files, never from the configuration itself: a parse error would quote them.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use secrecy::{ExposeSecret, SecretString};
use tracing::warn;

/// The most a secret file may hold: any key or token is far smaller.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A secret couldn't be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is missing, or this user may not read it.
    #[error(
        "can't read the secret file {}: see that it exists and that this user may read it",
        path.display()
    )]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A token stands where a path belongs; its text isn't repeated.
    #[error(
        "the configuration holds a secret where the path of a file belongs: write the secret \
         into a file and name that"
    )]
    Inline,
    /// Nothing but white space.
    #[error("the secret file {} is empty", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// Longer than any secret.
    #[error(
        "the secret file {} holds more than {SECRET_BYTES_MAX} bytes: is it the right file?",
        path.display()
    )]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
}

/// Reads a secret without the white space around it; warns if others may read the file too.
///
/// # Errors
///
/// When the file can't be read, isn't UTF-8, is empty or is far too long.
pub fn read_secret_file(path: &Path) -> Result<SecretString, SecretError> {
    if path.as_os_str().to_string_lossy().contains("antipode-join-v") {
        return Err(SecretError::Inline);
    }
    let read_error = |source| SecretError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read_error)?;
    warn_if_open_to_others(path, &file.metadata().map_err(read_error)?);

    let mut text = String::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(read_error)?;
    if u64::try_from(text.len()).is_ok_and(|len| len > SECRET_BYTES_MAX) {
        return Err(SecretError::TooLong { path: path.to_owned() });
    }
    match text.trim() {
        "" => Err(SecretError::Empty { path: path.to_owned() }),
        secret => Ok(SecretString::from(secret)),
    }
}

fn warn_if_open_to_others(path: &Path, metadata: &Metadata) {
    let mode = metadata.mode() & 0o777;
    if is_open_to_others(mode) {
        let mode = format!("{mode:o}");
        let path = path.display();
        warn!(%path, mode, "secret file can be read by other users: run `chmod 600` on it");
    }
}

/// Whether group or others may do anything with a file of this mode.
const fn is_open_to_others(mode: u32) -> bool {
    mode & 0o077 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_for_the_owner_alone_are_private() {
        for private in [0o600, 0o400, 0o700] {
            assert!(!is_open_to_others(private), "{private:o}");
        }
        for open in [0o640, 0o604, 0o644, 0o601, 0o620] {
            assert!(is_open_to_others(open), "{open:o}");
        }
    }

    fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn white_space_around_a_secret_is_no_part_of_it() {
        let file = file_of(b" hunter2\n\n");
        let secret = read_secret_file(file.path()).unwrap();
        assert_eq!(secret.expose_secret(), "hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_secret_file(Path::new("/nonexistent/token")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/token"), "{error}");
    }

    #[test]
    fn a_secret_in_place_of_a_path_is_not_repeated() {
        let error = read_secret_file(Path::new("antipode-join-v1.c2VjcmV0")).unwrap_err();
        assert!(matches!(error, SecretError::Inline));
        assert!(!error.to_string().contains("c2VjcmV0"), "{error}");
    }

    #[test]
    fn empty_long_and_binary_files_are_refused() {
        let empty = file_of(b" \n");
        assert!(matches!(read_secret_file(empty.path()), Err(SecretError::Empty { .. })));
        let long = file_of(&vec![b'a'; 64 * 1024 + 1]);
        assert!(matches!(read_secret_file(long.path()), Err(SecretError::TooLong { .. })));
        let longest = file_of(&vec![b'a'; 64 * 1024]);
        assert!(read_secret_file(longest.path()).is_ok());
        let binary = file_of(&[0xff, 0xfe]);
        assert!(matches!(read_secret_file(binary.path()), Err(SecretError::Read { .. })));
    }
}
