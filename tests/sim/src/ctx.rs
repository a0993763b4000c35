//! What every host of a world works with: time, chance, the network, the history, the model.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::event::{Event, Ms, Queue};
use crate::history::{Entry, History};
use crate::letter::Letter;
use crate::model::Model;
use crate::net::Net;
use crate::site::Site;

/// Everything that is not a host.
#[derive(Debug)]
pub struct Ctx {
    /// When the world began, on the clock that the machines are given.
    began: Instant,
    /// Virtual milliseconds since then.
    pub ms: Ms,
    /// What is to happen.
    pub queue: Queue,
    /// Pipes and paths.
    pub net: Net,
    /// What happened.
    pub history: History,
    /// What should have happened.
    pub model: Model,
    rng: StdRng,
    wakes: BTreeSet<(Site, Ms)>,
}

/// No talk in particular.
pub const NO_TALK: u16 = u16::MAX;

impl Ctx {
    /// A world's context at its beginning.
    #[must_use]
    pub fn new(seed: u64, began: Instant, model: Model) -> Self {
        Self {
            began,
            ms: 0,
            queue: Queue::default(),
            net: Net::default(),
            history: History::default(),
            model,
            rng: StdRng::seed_from_u64(seed ^ 0x6e65_7477_6f72_6b21),
            wakes: BTreeSet::new(),
        }
    }

    /// The moment that machines are given.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.began + Duration::from_millis(self.ms)
    }

    /// The first whole millisecond at which `at` has come.
    #[must_use]
    pub fn ms_of(&self, at: Instant) -> Ms {
        let since = at.saturating_duration_since(self.began);
        let rounded = since + Duration::from_nanos(999_999);
        u64::try_from(rounded.as_millis()).unwrap_or(Ms::MAX)
    }

    /// Wakes a site at this time, or now if it has passed.
    pub fn wake(&mut self, site: Site, at: Ms) {
        let at = at.max(self.ms);
        if self.wakes.insert((site, at)) {
            self.queue.put(at, Event::Wake(site));
        }
    }

    /// Wakes a site at the next full `period`.
    pub fn wake_every(&mut self, site: Site, period: Ms) {
        self.wake(site, (self.ms / period + 1) * period);
    }

    /// A wake-up has come.
    pub fn woken(&mut self, site: Site) {
        self.wakes.remove(&(site, self.ms));
    }

    /// Sends a letter; a cut path loses it.
    pub fn post(&mut self, from: Site, to: Site, letter: Letter) {
        if self.net.is_cut(from, to) {
            return;
        }
        let at = self.ms + self.path_delay(from, to);
        self.queue.put(at, Event::Letter { from, to, letter });
    }

    /// Notes what happened.
    pub fn note(&mut self, site: Site, what: &'static str, talk: u16, numbers: [u64; 2]) {
        self.history.add(Entry { at: self.ms, site, what, talk, numbers });
    }

    /// True once in `n` times.
    pub fn rng_bool(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    /// A number below `n`.
    pub fn rng_below(&mut self, n: u64) -> u64 {
        self.rng.random_range(0..n.max(1))
    }

    /// A number below `n`.
    pub fn rng_usize(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n.max(1))
    }
}
