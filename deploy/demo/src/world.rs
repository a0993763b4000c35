//! What the page is told about the demo: the regions, their ways to Europe, and the ports.

use std::net::SocketAddr;

use serde::Serialize;

use crate::distance::NEAR_ONE_WAY;
use crate::region::{City, EUROPE, Region};

/// The demo as it is laid out. Hosts are left out: the page takes the one it was loaded from.
#[derive(Clone, Debug, Serialize)]
pub struct World {
    /// What is behind the relays.
    pub backend: Backend,
    /// Port of the gateway's HTTP face, for steering.
    pub steer_port: u16,
    /// Where core and backend stand.
    pub europe: Spot,
    /// In the order in which they are shown.
    pub regions: Vec<Place>,
}

/// What is behind the relays.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Backend {
    /// The demo's own chat.
    Chat {
        /// Where its WebSocket is.
        path: &'static str,
    },
    /// The user's server.
    Yours {
        /// As it was given.
        url: String,
        /// Its path, with the query.
        path: String,
    },
}

/// A city on the map.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spot {
    city: &'static str,
    latitude: f64,
    longitude: f64,
}

/// A region and its two ways into the backend.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// Name of the node.
    pub name: &'static str,
    #[serde(flatten)]
    spot: Spot,
    time_zone: &'static str,
    by_way_of: Vec<Spot>,
    great_circle_km: f64,
    fibre_km: f64,
    /// From the client to Europe and back, as simulated.
    pub round_trip_ms: f64,
    /// From the client to its relay and back, as simulated.
    near_round_trip_ms: f64,
    /// Through the relay next door.
    pub relay: Ways,
    /// All the way to Europe.
    pub direct: Ways,
}

/// The ports of one way, each a path with the length of the way.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ways {
    /// Without TLS.
    pub port: Option<u16>,
    /// With TLS.
    pub tls_port: Option<u16>,
}

impl From<City> for Spot {
    fn from(city: City) -> Self {
        Self { city: city.name, latitude: city.at.latitude, longitude: city.at.longitude }
    }
}

impl World {
    /// Regions around a backend.
    #[must_use]
    pub fn new(backend: Backend, steer_port: u16, regions: Vec<Place>) -> Self {
        Self { backend, steer_port, europe: EUROPE.into(), regions }
    }
}

impl Place {
    /// The city, for people.
    #[must_use]
    pub fn city(&self) -> &'static str {
        self.spot.city
    }

    /// A region and the ports that lead out of it.
    #[must_use]
    pub fn new(region: &Region, relay: Ways, direct: Ways) -> Self {
        let route = region.route();
        let ms = |one_way: std::time::Duration| one_way.as_secs_f64() * 2_000.0;
        Self {
            name: region.name,
            spot: region.city.into(),
            time_zone: region.time_zone,
            by_way_of: region.by_way_of.iter().copied().map(Spot::from).collect(),
            great_circle_km: route.great_circle_km,
            fibre_km: route.fibre_km,
            round_trip_ms: ms(route.one_way() + NEAR_ONE_WAY),
            near_round_trip_ms: ms(NEAR_ONE_WAY),
            relay,
            direct,
        }
    }
}

impl Ways {
    /// Both ways in.
    #[must_use]
    pub fn both(plain: SocketAddr, tls: SocketAddr) -> Self {
        Self { port: Some(plain.port()), tls_port: Some(tls.port()) }
    }
}
