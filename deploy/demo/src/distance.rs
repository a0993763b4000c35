//! From coordinates to delays: how long light takes through the fibre that lies between two cities.
//!
//! A simulation, but not an invented one. Light in fibre covers two thirds of its way in vacuum,
//! cables follow coasts and straits instead of great circles, and they wind between the cities that
//! they pass. With [`SLACK`] the figures fall within a few milliseconds of the round trips that
//! people see from these regions to Europe: about 160 ms from Singapore, 250 from Sydney, 195 from
//! São Paulo.

use std::time::Duration;

/// Mean radius of the Earth, IUGG's R1.
const EARTH_RADIUS_KM: f64 = 6_371.008_8;

/// Speed of light in fibre: vacuum's 299,792 km/s over a refractive index of about 1.5.
pub const FIBRE_KM_PER_MS: f64 = 299.792_458 / 1.5;

/// How much longer fibre is than the great circles between the cities on its way.
///
/// One figure for all regions, chosen once: landfalls, detours, slack in the ground and the
/// equipment on the way make up a quarter.
pub const SLACK: f64 = 1.25;

/// One way from a client to the relay in its own region: a city network and its exchange.
pub const NEAR_ONE_WAY: Duration = Duration::from_millis(3);

/// A place on Earth, WGS 84 degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coordinates {
    /// North is positive.
    pub latitude: f64,
    /// East is positive.
    pub longitude: f64,
}

impl Coordinates {
    /// Distance along the surface, by the haversine formula.
    #[must_use]
    pub fn great_circle_km(self, other: Self) -> f64 {
        let (from, to) = (self.latitude.to_radians(), other.latitude.to_radians());
        let north = ((to - from) / 2.0).sin().powi(2);
        let east = ((other.longitude - self.longitude).to_radians() / 2.0).sin().powi(2);
        let haversine = (from.cos() * to.cos()).mul_add(east, north);
        2.0 * EARTH_RADIUS_KM * haversine.sqrt().min(1.0).asin()
    }
}

/// How traffic goes between two places.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Route {
    /// The straight way, for comparison.
    pub great_circle_km: f64,
    /// The length of the fibre: the legs between the cities on the way, times [`SLACK`].
    pub fibre_km: f64,
}

impl Route {
    /// The route that touches `places` in order. Fewer than two places are no way at all.
    #[must_use]
    pub fn through(places: impl IntoIterator<Item = Coordinates>) -> Self {
        let mut places = places.into_iter();
        let Some(first) = places.next() else {
            return Self { great_circle_km: 0.0, fibre_km: 0.0 };
        };
        let (mut last, mut legs_km) = (first, 0.0);
        for place in places {
            legs_km += last.great_circle_km(place);
            last = place;
        }
        Self { great_circle_km: first.great_circle_km(last), fibre_km: legs_km * SLACK }
    }

    /// How long light takes from one end to the other.
    #[must_use]
    pub fn one_way(&self) -> Duration {
        Duration::from_secs_f64(self.fibre_km / FIBRE_KM_PER_MS / 1_000.0)
    }

    /// The fibre's length over the great circle's.
    #[must_use]
    pub fn factor(&self) -> f64 {
        if self.great_circle_km > 0.0 { self.fibre_km / self.great_circle_km } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLE: Coordinates = Coordinates { latitude: 90.0, longitude: 0.0 };
    const ORIGIN: Coordinates = Coordinates { latitude: 0.0, longitude: 0.0 };
    const ANTIPODE: Coordinates = Coordinates { latitude: 0.0, longitude: 180.0 };

    #[test]
    fn great_circles() {
        let quarter = std::f64::consts::FRAC_PI_2 * EARTH_RADIUS_KM;
        check(ORIGIN, ORIGIN, 0.0);
        check(ORIGIN, POLE, quarter);
        check(ORIGIN, ANTIPODE, 2.0 * quarter);
        let east = Coordinates { latitude: 0.0, longitude: 179.0 };
        let west = Coordinates { latitude: 0.0, longitude: -179.0 };
        check(east, west, 2.0f64.to_radians() * EARTH_RADIUS_KM);
    }

    #[test]
    fn a_detour_costs_its_length_and_the_slack() {
        let route = Route::through([ORIGIN, POLE, ORIGIN]);
        assert!(route.great_circle_km.abs() < 1e-6);
        let legs_km = std::f64::consts::PI * EARTH_RADIUS_KM;
        assert!((route.fibre_km - legs_km * SLACK).abs() < 1e-6);
        assert!((route.factor() - 1.0).abs() < 1e-9, "no way to be longer than nothing");
        assert_eq!(Route::through([]).one_way(), Duration::ZERO);
        assert_eq!(Route::through([POLE]).one_way(), Duration::ZERO);
    }

    #[test]
    fn light_needs_a_millisecond_for_two_hundred_kilometres() {
        let route = Route { great_circle_km: 100.0, fibre_km: FIBRE_KM_PER_MS * 10.0 };
        assert_eq!(route.one_way(), Duration::from_millis(10));
    }

    #[track_caller]
    fn check(a: Coordinates, b: Coordinates, expected_km: f64) {
        for km in [a.great_circle_km(b), b.great_circle_km(a)] {
            assert!((km - expected_km).abs() < 0.5, "{km} km, expected {expected_km}");
        }
    }
}
