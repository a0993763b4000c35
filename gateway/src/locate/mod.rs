//! Where a client is, from the clues at hand, the best first.

mod address;
mod tables;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

pub use address::{AddressBook, OpenError, Reloaded};
use arc_swap::ArcSwapOption;
pub use tables::{Country, country_count, zone_count};

use crate::position::Position;

/// What is known of a client. What is not believed (a header of a stranger) is left out before.
#[derive(Clone, Debug, Default)]
pub struct Clues {
    /// What it says itself.
    pub coordinates: Option<Position>,
    /// Its own address.
    pub address: Option<IpAddr>,
    /// Its country, by a trusted proxy.
    pub country: Option<Country>,
    /// The IANA time zone its browser reports.
    pub time_zone: Option<String>,
}

/// What told where a client is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum LocatedBy {
    /// The client's own coordinates.
    Coordinates,
    /// Its address, through the operator's mmdb file.
    Address,
    /// Its country.
    Country,
    /// Its time zone.
    TimeZone,
    /// Nothing.
    None,
}

impl LocatedBy {
    /// `located_by` in answers.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Coordinates => "coordinates",
            Self::Address => "address",
            Self::Country => "country",
            Self::TimeZone => "time_zone",
            Self::None => "none",
        }
    }
}

/// The tables that turn clues into places: two built in, and the operator's mmdb file, if any.
#[derive(Debug, Default)]
pub struct Geography {
    addresses: ArcSwapOption<AddressBook>,
}

impl Geography {
    /// With an mmdb file.
    #[must_use]
    pub fn new(addresses: Option<AddressBook>) -> Self {
        Self { addresses: ArcSwapOption::new(addresses.map(Arc::new)) }
    }

    /// Puts a newer mmdb file in place; questions under way keep the old one.
    pub fn replace(&self, addresses: AddressBook) {
        self.addresses.store(Some(Arc::new(addresses)));
    }

    /// The mmdb file in use.
    #[must_use]
    pub fn addresses(&self) -> Option<Arc<AddressBook>> {
        self.addresses.load_full()
    }

    /// Where the client is, by the best clue that leads anywhere.
    #[must_use]
    pub fn locate(&self, clues: &Clues) -> (Option<Position>, LocatedBy) {
        let by_address = || self.by_address(clues.address?);
        let by_country = || tables::country(clues.country?);
        let by_zone = || tables::time_zone(clues.time_zone.as_deref()?);
        let found = |by: LocatedBy| move |position: Position| (Some(position), by);
        clues
            .coordinates
            .map(found(LocatedBy::Coordinates))
            .or_else(|| by_address().map(found(LocatedBy::Address)))
            .or_else(|| by_country().map(found(LocatedBy::Country)))
            .or_else(|| by_zone().map(found(LocatedBy::TimeZone)))
            .unwrap_or((None, LocatedBy::None))
    }

    fn by_address(&self, address: IpAddr) -> Option<Position> {
        self.addresses.load().as_ref()?.position(address.to_canonical())
    }
}
