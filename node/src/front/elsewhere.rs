//! Where else a client can go: this node's neighbours, as the gateway weighs them.

use antipode_proto::registry::v1::Neighbours;
use http::HeaderValue;
use parking_lot::RwLock;
use rand::Rng;

/// Addresses named in one refusal.
const HINTS_MAX: usize = 3;

/// The neighbours that clients can go to.
#[derive(Debug, Default)]
pub struct Elsewhere {
    /// Best first, with weights.
    places: RwLock<Vec<(String, u32)>>,
}

impl Elsewhere {
    /// The gateway's newest word.
    pub fn set(&self, neighbours: &Neighbours) {
        let nodes = neighbours.nodes.iter();
        let place = |urls: &[String]| {
            let by_scheme = |scheme: &str| urls.iter().find(|url| url.starts_with(scheme));
            by_scheme("wss://").or_else(|| by_scheme("ws://")).cloned()
        };
        let places = nodes.filter_map(|node| Some((place(&node.public_urls)?, node.weight.max(1))));
        *self.places.write() = places.collect();
    }

    /// A place for one client: by chance, as the weights say, so that not all go to one. `None`:
    /// nobody can take it, or the gateway has named nobody yet.
    #[must_use]
    pub fn pick(&self, rng: &mut impl Rng) -> Option<String> {
        let places = self.places.read();
        let total: u32 = places.iter().map(|(_, weight)| *weight).sum();
        if total == 0 {
            return None;
        }
        let mut drawn = rng.random_range(0..total);
        let found = places.iter().find(|(_, weight)| {
            let is_it = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            is_it
        });
        found.map(|(url, _)| url.clone())
    }

    /// The best places, for the header of a refusal.
    #[must_use]
    pub fn hint(&self) -> Option<HeaderValue> {
        let places = self.places.read();
        let urls: Vec<&str> = places.iter().take(HINTS_MAX).map(|(url, _)| url.as_str()).collect();
        if urls.is_empty() { None } else { HeaderValue::from_str(&urls.join(", ")).ok() }
    }
}

#[cfg(test)]
mod tests {
    use antipode_proto::registry::v1::Neighbour;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn clients_are_shared_out_by_weight() {
        let elsewhere = Elsewhere::default();
        let mut rng = StdRng::seed_from_u64(7);
        assert_eq!((elsewhere.pick(&mut rng), elsewhere.hint()), (None, None));
        let node = |urls: &[&str], weight| Neighbour {
            public_urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            weight,
            ..Neighbour::default()
        };
        let nodes = vec![
            node(&["https://a", "ws://a", "wss://a"], 15),
            node(&["ws://b"], 5),
            node(&["https://nothing-to-open"], 20),
            node(&["wss://c"], 0),
        ];
        elsewhere.set(&Neighbours { nodes });
        assert_eq!(elsewhere.hint().unwrap(), "wss://a, ws://b, wss://c");
        let mut counts = [0; 3];
        for _ in 0..2100 {
            match elsewhere.pick(&mut rng).as_deref() {
                Some("wss://a") => counts[0] += 1,
                Some("ws://b") => counts[1] += 1,
                Some("wss://c") => counts[2] += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!((1400..1600).contains(&counts[0]), "{counts:?}");
        assert!((430..570).contains(&counts[1]) && (60..140).contains(&counts[2]), "{counts:?}");
        elsewhere.set(&Neighbours::default());
        assert_eq!(elsewhere.pick(&mut rng), None);
    }
}
