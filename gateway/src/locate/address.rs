//! An mmdb file: addresses to places. City sets have coordinates, country sets only a code.
//!
//! Two shapes are in use: MaxMind's nested one (`location.latitude`, `country.iso_code`) and a flat
//! one (`latitude`, `country_code`). Both are read, with figures as numbers or as text.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use maxminddb::{MaxMindDbError, Reader};
use serde::Deserialize;

use super::tables::{self, Country};
use crate::position::Position;

/// An mmdb file in memory.
pub struct AddressBook {
    path: PathBuf,
    stamp: Stamp,
    reader: Reader<Vec<u8>>,
}

/// What [`AddressBook::reload_if_changed`] found.
#[derive(Debug)]
pub enum Reloaded {
    /// The file is as it was.
    Unchanged,
    /// A newer file was read.
    Newer(Box<AddressBook>),
}

/// Why an mmdb file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file can't be read.
    #[error("mmdb file {path} can't be read: check locate.mmdb_file and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no mmdb file, or a broken one.
    #[error("{path} is no valid mmdb file: fetch it again, unpacked (.mmdb, not .tar.gz)")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: MaxMindDbError,
    },
}

/// Tells one version of a file from the next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    modified: SystemTime,
    len_bytes: u64,
}

impl AddressBook {
    /// Reads the whole file, so that replacing it on disk can't disturb a look-up.
    ///
    /// # Errors
    ///
    /// If the file can't be read or is no mmdb file.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let unreadable = |source| OpenError::Read { path: path.to_owned(), source };
        let stamp = Stamp::of(path).map_err(unreadable)?;
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let broken = |source| OpenError::Format { path: path.to_owned(), source };
        let reader = Reader::from_source(bytes).map_err(broken)?;
        Ok(Self { path: path.to_owned(), stamp, reader })
    }

    /// Reads the file again if it changed since.
    ///
    /// # Errors
    ///
    /// As [`AddressBook::open`]; the book in hand stays good.
    pub fn reload_if_changed(&self) -> Result<Reloaded, OpenError> {
        let path = self.path.clone();
        let stamp = Stamp::of(&path).map_err(|source| OpenError::Read { path, source })?;
        if stamp == self.stamp {
            return Ok(Reloaded::Unchanged);
        }
        Self::open(&self.path).map(Box::new).map(Reloaded::Newer)
    }

    /// What kind of set it is, such as `GeoLite2-City`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// Where an address is. An unknown address and a broken record are alike: no place.
    pub(super) fn position(&self, address: IpAddr) -> Option<Position> {
        let record: Record = self.reader.lookup(address).ok()?.decode().ok()??;
        record.coordinates().or_else(|| tables::country(record.country()?))
    }
}

impl std::fmt::Debug for AddressBook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddressBook")
            .field("path", &self.path)
            .field("kind", &self.kind())
            .finish_non_exhaustive()
    }
}

impl Stamp {
    fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self { modified: metadata.modified()?, len_bytes: metadata.len() })
    }
}

/// Both shapes at once; all else in a record is passed over.
#[derive(Deserialize)]
struct Record {
    location: Option<Location>,
    country: Option<CountryField>,
    registered_country: Option<CountryField>,
    latitude: Option<Degrees>,
    longitude: Option<Degrees>,
    country_code: Option<String>,
}

#[derive(Deserialize)]
struct Location {
    latitude: Option<Degrees>,
    longitude: Option<Degrees>,
}

/// MaxMind nests the code; others write the country's name here, and its code elsewhere.
#[derive(Deserialize)]
#[serde(untagged)]
enum CountryField {
    Nested { iso_code: Option<String> },
    Text(String),
}

/// Degrees as a double, a float, or text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Degrees {
    Number(f64),
    Text(String),
}

impl Record {
    fn coordinates(&self) -> Option<Position> {
        let nested = self.location.as_ref();
        let nested = nested.and_then(|l| place(l.latitude.as_ref(), l.longitude.as_ref()));
        nested.or_else(|| place(self.latitude.as_ref(), self.longitude.as_ref()))
    }

    fn country(&self) -> Option<Country> {
        let nested = self.country.as_ref().or(self.registered_country.as_ref());
        let nested = nested.and_then(|country| match country {
            CountryField::Nested { iso_code } => iso_code.as_deref(),
            CountryField::Text(text) => Some(text.as_str()),
        });
        let codes = [nested, self.country_code.as_deref()];
        codes.into_iter().flatten().find_map(Country::parse)
    }
}

impl Degrees {
    fn value(&self) -> Option<f64> {
        match self {
            Self::Number(degrees) => Some(*degrees),
            Self::Text(degrees) => degrees.parse().ok(),
        }
    }
}

fn place(latitude: Option<&Degrees>, longitude: Option<&Degrees>) -> Option<Position> {
    Position::new(latitude?.value()?, longitude?.value()?)
}
