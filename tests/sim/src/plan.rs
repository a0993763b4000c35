//! What a seed decides: the shape of a world, what its people say, and what goes wrong.

mod fault;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::event::Ms;
use crate::message::HEADER_BYTES;

pub use fault::{Broken, Fault};

/// A world that is not yet run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where everything comes from.
    pub seed: u64,
    /// Regional relays.
    pub nodes: u8,
    /// Far ends.
    pub cores: u8,
    /// Who talks, and how.
    pub talks: Vec<TalkPlan>,
    /// What goes wrong, and when.
    pub faults: Vec<(Ms, Fault)>,
    /// After this nothing goes wrong any more.
    pub calm: Ms,
    /// One-way delay between a node and a core.
    pub trunk_latency: Ms,
    /// Loss on the trunks' paths.
    pub trunk_loss_percent: u8,
    /// Lanes of a trunk.
    pub lanes: u32,
    /// Most bytes that one session keeps for a replay.
    pub unacked_bytes_max: u64,
}

/// What a client is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A browser's own WebSocket.
    Plain,
    /// A client that speaks `antipode.resume.v1`.
    Resumable,
}

/// Who says the last word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Closer {
    /// The client, once it has said and heard everything.
    ClientHavingHeardAll,
    /// The client, right behind its last message.
    ClientAtOnce,
    /// The backend, once it has said and heard everything.
    BackendHavingHeardAll,
    /// The backend, right behind its last message.
    BackendAtOnce,
}

/// One client's conversation with the backend.
#[derive(Clone, Debug)]
pub struct TalkPlan {
    /// What the client is.
    pub kind: Kind,
    /// When it opens.
    pub begins: Ms,
    /// What it says: when, counted from the opening, and how many bytes.
    pub up: Vec<(Ms, usize)>,
    /// What the backend says.
    pub down: Vec<(Ms, usize)>,
    /// Who closes.
    pub closer: Closer,
}

impl Plan {
    /// What `seed` decides.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let calm = rng.random_range(8_000..90_000);
        let nodes = rng.random_range(2..=3);
        let cores = if rng.random_ratio(1, 4) { 2 } else { 1 };
        let count = rng.random_range(2..=5);
        let talks = (0..count).map(|_| TalkPlan::draw(&mut rng, calm)).collect();
        let plan = Self {
            seed,
            nodes,
            cores,
            talks,
            faults: Vec::new(),
            calm,
            trunk_latency: rng.random_range(5..150),
            trunk_loss_percent: if rng.random_ratio(1, 3) { rng.random_range(1..8) } else { 0 },
            lanes: rng.random_range(1..=3),
            unacked_bytes_max: if rng.random_ratio(1, 2) { 320 * 1024 } else { 4 * 1024 * 1024 },
        };
        let faults = fault::draw(&mut rng, &plan);
        Self { faults, ..plan }
    }

    /// The same world with some of its faults left out.
    #[must_use]
    pub fn with_faults(&self, faults: Vec<(Ms, Fault)>) -> Self {
        Self { faults, ..self.clone() }
    }
}

impl TalkPlan {
    fn draw(rng: &mut StdRng, calm: Ms) -> Self {
        let kind = if rng.random_ratio(1, 3) { Kind::Plain } else { Kind::Resumable };
        let begins = rng.random_range(0..calm / 4);
        let lasts = calm - begins;
        let closer = match rng.random_range(0..4) {
            0 => Closer::ClientAtOnce,
            1 => Closer::BackendAtOnce,
            2 => Closer::BackendHavingHeardAll,
            _ => Closer::ClientHavingHeardAll,
        };
        let (up, down) = (messages(rng, lasts), messages(rng, lasts));
        Self { kind, begins, up, down, closer }
    }
}

fn messages(rng: &mut StdRng, lasts: Ms) -> Vec<(Ms, usize)> {
    let count = rng.random_range(1..40);
    let is_flood = rng.random_ratio(1, 6);
    let mut messages: Vec<(Ms, usize)> = (0..count)
        .map(|_| {
            let len = match rng.random_range(0..20) {
                0 => rng.random_range(10_000..60_000),
                1..=4 => rng.random_range(200..9_000),
                _ if is_flood => rng.random_range(10_000..60_000),
                _ => rng.random_range(HEADER_BYTES..200),
            };
            (rng.random_range(0..lasts), len)
        })
        .collect();
    if is_flood {
        // All at once: credit and buffers come to their ends.
        let at = rng.random_range(0..lasts);
        messages.iter_mut().for_each(|message| message.0 = at);
    }
    messages.sort_unstable();
    messages
}
