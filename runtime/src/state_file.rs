//! Private files that are either the old ones or the new ones, never half of each.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Replaces `path` by `bytes`, readable to this user alone.
///
/// The new content is on the disk before the old one is gone, so a crash leaves one of the two.
/// One writer a path at a time.
///
/// # Errors
///
/// Whatever the file system refuses.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().ok_or_else(|| Error::from(ErrorKind::InvalidInput))?;
    let mut name = path.file_name().ok_or_else(|| Error::from(ErrorKind::InvalidInput))?.to_owned();
    name.push(".new");
    let fresh = parent.join(name);
    if let Err(error) = std::fs::remove_file(&fresh)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    File::open(parent)?.sync_all()
}

/// Reads a file that may not be there.
///
/// # Errors
///
/// Whatever the file system refuses, but not that the file is missing.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a directory, and those above it, that only this user may enter.
///
/// # Errors
///
/// Whatever the file system refuses; a directory that is there already is left as it is.
pub fn make_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn replaces_whole_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "a much longer old content").unwrap();
        std::fs::write(dir.path().join("key.new"), "left by a crash").unwrap();
        write_atomic(&path, b"new").unwrap();

        assert_eq!(read_optional(&path).unwrap().unwrap(), b"new");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_missing_file_is_none_and_a_bad_one_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_optional(&dir.path().join("absent")).unwrap().is_none());
        assert!(read_optional(dir.path()).is_err());
    }

    #[test]
    fn directories_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        make_private_dir(&deep).unwrap();
        make_private_dir(&deep).unwrap();
        assert_eq!(deep.metadata().unwrap().mode() & 0o777, 0o700);
    }
}
