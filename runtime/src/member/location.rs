//! Where a member stands, as its operator writes it down and as the gateway is told.

use antipode_proto::registry::v1 as wire;
use serde::Deserialize;

/// WGS 84 degrees.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// North is positive.
    pub latitude: f64,
    /// East is positive.
    pub longitude: f64,
}

impl Location {
    /// Says so if there is no such place.
    ///
    /// # Errors
    ///
    /// What `member.location` has to be.
    pub fn validate(self) -> Result<(), String> {
        let Self { latitude, longitude } = self;
        if (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude) {
            return Ok(());
        }
        Err("member.location must lie within ±90 and ±180 degrees".into())
    }
}

impl From<Location> for wire::Location {
    fn from(Location { latitude, longitude }: Location) -> Self {
        Self { latitude, longitude }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_on_earth() {
        let is_place = |latitude, longitude| Location { latitude, longitude }.validate().is_ok();
        assert!(is_place(90.0, -180.0) && is_place(1.3, 103.8));
        assert!(!is_place(90.1, 0.0) && !is_place(0.0, 180.1) && !is_place(f64::NAN, 0.0));
    }
}
