//! The demo's world: Europe, three regions far from it, and the way their cables go.
//!
//! City coordinates are WGS 84 degrees, rounded to a hundredth.

use crate::distance::{Coordinates, Route};

/// Where the core and the backend stand.
pub const EUROPE: City = City::new("Amsterdam", 52.37, 4.90);

/// A named point on the map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct City {
    /// Its English name.
    pub name: &'static str,
    /// Where it is.
    pub at: Coordinates,
}

impl City {
    const fn new(name: &'static str, latitude: f64, longitude: f64) -> Self {
        Self { name, at: Coordinates { latitude, longitude } }
    }
}

/// A region with a relay in it.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// Name of the node there and of its region: at most 32 of `[a-z0-9-]`.
    pub name: &'static str,
    /// The city, for people.
    pub city: City,
    /// An IANA time zone of the region, for programs that steer by it.
    pub time_zone: &'static str,
    /// Cities that the traffic passes on its way to [`EUROPE`].
    pub by_way_of: &'static [City],
}

const COLOMBO: City = City::new("Colombo", 6.93, 79.85);
const DJIBOUTI: City = City::new("Djibouti", 11.59, 43.15);
const FORTALEZA: City = City::new("Fortaleza", -3.73, -38.53);
const LONDON: City = City::new("London", 51.51, -0.13);
const MARSEILLE: City = City::new("Marseille", 43.30, 5.37);
const MIAMI: City = City::new("Miami", 25.76, -80.19);
const NEW_YORK: City = City::new("New York", 40.71, -74.01);
const PERTH: City = City::new("Perth", -31.95, 115.86);
const SAO_PAULO: City = City::new("São Paulo", -23.55, -46.63);
const SINGAPORE: City = City::new("Singapore", 1.35, 103.82);
const SUEZ: City = City::new("Suez", 29.97, 32.55);
const SYDNEY: City = City::new("Sydney", -33.87, 151.21);

/// The regions of the demo, in the order in which they are shown.
pub const REGIONS: [Region; 3] = [
    Region {
        name: "singapore",
        city: SINGAPORE,
        time_zone: "Asia/Singapore",
        by_way_of: &[COLOMBO, DJIBOUTI, SUEZ, MARSEILLE],
    },
    Region {
        name: "sydney",
        city: SYDNEY,
        time_zone: "Australia/Sydney",
        by_way_of: &[PERTH, SINGAPORE, COLOMBO, DJIBOUTI, SUEZ, MARSEILLE],
    },
    Region {
        name: "sao-paulo",
        city: SAO_PAULO,
        time_zone: "America/Sao_Paulo",
        by_way_of: &[FORTALEZA, MIAMI, NEW_YORK, LONDON],
    },
];

impl Region {
    /// The way its traffic goes to [`EUROPE`].
    #[must_use]
    pub fn route(&self) -> Route {
        let passed = self.by_way_of.iter().map(|city| city.at);
        Route::through(std::iter::once(self.city.at).chain(passed).chain([EUROPE.at]))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The whole demo rests on these: a changed coordinate has to be seen in review.
    #[test]
    fn round_trips_are_what_the_internet_shows() {
        check("singapore", 162, 1.54);
        check("sydney", 252, 1.51);
        check("sao-paulo", 195, 1.99);
    }

    #[test]
    fn names_fit_the_registry() {
        for region in REGIONS {
            let allowed = |b: u8| b.is_ascii_lowercase() || b == b'-';
            assert!(region.name.len() <= 32 && region.name.bytes().all(allowed), "{region:?}");
        }
    }

    #[track_caller]
    fn check(name: &str, round_trip_ms: u64, factor: f64) {
        let region = REGIONS.iter().find(|region| region.name == name).unwrap();
        let route = region.route();
        let round_trip = route.one_way() * 2;
        let off = round_trip.abs_diff(Duration::from_millis(round_trip_ms));
        assert!(off < Duration::from_millis(1), "{name}: {round_trip:?}");
        assert!((route.factor() - factor).abs() < 0.01, "{name}: {}", route.factor());
    }
}
