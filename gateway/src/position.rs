//! A place on the earth, and how far it is to another.

/// Mean radius of the earth in kilometres ([IUGG](https://doi.org/10.1007/s001900050278), R1).
const EARTH_RADIUS_KM: f64 = 6371.009;

/// A place: WGS 84 degrees, finite and in range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    latitude: f64,
    longitude: f64,
}

impl Position {
    /// A place, or `None` if the figures are not one: latitude -90 to 90, longitude -180 to 180.
    #[must_use]
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        // A NaN is in no range.
        let valid = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        valid.then_some(Self { latitude, longitude })
    }

    /// Degrees north of the equator.
    #[must_use]
    pub fn latitude(self) -> f64 {
        self.latitude
    }

    /// Degrees east of Greenwich.
    #[must_use]
    pub fn longitude(self) -> f64 {
        self.longitude
    }

    /// Length of the great circle to `other` in kilometres, by the haversine formula.
    #[must_use]
    pub fn distance_km(self, other: Self) -> f64 {
        let (from, to) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_north = (to - from) / 2.0;
        let half_east = (other.longitude - self.longitude).to_radians() / 2.0;
        let chord = half_north.sin().powi(2) + from.cos() * to.cos() * half_east.sin().powi(2);
        // Rounding may carry the chord of antipodes past 1.
        2.0 * EARTH_RADIUS_KM * chord.clamp(0.0, 1.0).sqrt().asin()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_distances() {
        check("Amsterdam to Singapore", (52.37, 4.90), (1.29, 103.85), 10_510.0);
        check("Sydney to Sao Paulo", (-33.87, 151.21), (-23.55, -46.63), 13_360.0);
        check("across the date line", (0.0, 179.5), (0.0, -179.5), 111.2);
        check("pole to pole", (90.0, 0.0), (-90.0, 77.0), 20_015.0);
        check("nowhere", (10.0, 10.0), (10.0, 10.0), 0.0);
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for (latitude, longitude) in
            [(90.1, 0.0), (-91.0, 0.0), (0.0, 180.5), (f64::NAN, 0.0), (0.0, f64::INFINITY)]
        {
            assert_eq!(Position::new(latitude, longitude), None, "{latitude} {longitude}");
        }
    }

    proptest! {
        #[test]
        fn a_distance_is_a_metric(
            a in (-90.0..=90.0f64, -180.0..=180.0f64),
            b in (-90.0..=90.0f64, -180.0..=180.0f64),
            c in (-90.0..=90.0f64, -180.0..=180.0f64),
        ) {
            let [a, b, c] = [a, b, c].map(|(lat, lon)| Position::new(lat, lon).unwrap());
            let there = a.distance_km(b);
            prop_assert!((0.0..=20_016.0).contains(&there));
            prop_assert!((there - b.distance_km(a)).abs() < 1e-6);
            prop_assert!(there <= a.distance_km(c) + c.distance_km(b) + 1e-3);
        }
    }

    #[track_caller]
    fn check(what: &str, from: (f64, f64), to: (f64, f64), expected_km: f64) {
        let [from, to] = [from, to].map(|(lat, lon)| Position::new(lat, lon).unwrap());
        let km = from.distance_km(to);
        assert!((km - expected_km).abs() <= expected_km * 0.003 + 0.01, "{what}: {km}");
    }
}
