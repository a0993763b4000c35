//! The lives that are recorded.

use serde_json::{Value, json};

use crate::directed as then;
use crate::world::{Act, World};

/// What a life is like.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    pub(crate) side: &'static str,
    pub(crate) seed: u64,
    /// It has an attachment at first.
    pub(crate) welcomed: bool,
    /// At least so many steps before `then`.
    pub(crate) steps: usize,
    pub(crate) weights: &'static [(usize, Act)],
    /// Payload bytes of a chunk.
    pub(crate) sizes: &'static [usize],
    pub(crate) credit_bytes_max: u64,
    pub(crate) unacked_bytes_max: u64,
    /// How it goes on by intent.
    pub(crate) then: Option<fn(&mut World<'_>)>,
}

impl Profile {
    pub(crate) fn is_client(&self) -> bool {
        self.side == "client"
    }

    pub(crate) fn config(&self) -> Value {
        json!({
            "credit_bytes_max": self.credit_bytes_max,
            "unacked_bytes_max": self.unacked_bytes_max,
            "ack_delay_ms": 40,
            "resume_window_ms": 120_000,
        })
    }
}

/// Costs that are powers of two with the overhead of 64, so that limits are met to the byte.
const ROUND: &[usize] = &[960, 4_032, 8_128, 16_320];
const LARGE: &[usize] = &[16_320];
const MIXED: &[usize] = &[0, 1, 63, 100, 1_000, 5_000, 16_383, 16_384];

const TALK: &[(usize, Act)] = &[
    (6, Act::Send),
    (8, Act::Transmit),
    (8, Act::Arrive),
    (6, Act::Deliver),
    (5, Act::Consume),
    (6, Act::PeerSend),
    (5, Act::PeerConsume),
    (3, Act::Wait),
    (3, Act::Due),
];

const BREAKS: &[(usize, Act)] = &[
    (24, Act::Send),
    (32, Act::Transmit),
    (32, Act::Arrive),
    (24, Act::Deliver),
    (16, Act::Consume),
    (24, Act::PeerSend),
    (16, Act::PeerConsume),
    (8, Act::Wait),
    (8, Act::Due),
    (5, Act::Break),
    (20, Act::Up),
    (2, Act::Move),
    (16, Act::Limbo),
];

/// Much comes, and the far side takes it fast.
const DOWNLOAD: &[(usize, Act)] = &[
    (10, Act::PeerSend),
    (12, Act::Arrive),
    (10, Act::Deliver),
    (6, Act::Consume),
    (6, Act::Transmit),
    (1, Act::Wait),
    (1, Act::Due),
];

/// Much comes, and nothing is taken for a while at a time.
const PRESSURE: &[(usize, Act)] = &[
    (10, Act::PeerSend),
    (12, Act::Arrive),
    (10, Act::Deliver),
    (5, Act::Consume),
    (8, Act::Transmit),
    (2, Act::Pressure),
    (1, Act::Due),
];

/// Much goes, and the peer is slow.
const UPLOAD: &[(usize, Act)] = &[
    (12, Act::Send),
    (14, Act::Transmit),
    (5, Act::Arrive),
    (1, Act::PeerConsume),
    (1, Act::Wait),
    (1, Act::Break),
    (2, Act::Up),
];

const FAREWELL: &[(usize, Act)] = &[
    (12, Act::Send),
    (32, Act::Transmit),
    (32, Act::Arrive),
    (24, Act::Deliver),
    (16, Act::Consume),
    (12, Act::PeerSend),
    (20, Act::PeerConsume),
    (8, Act::Due),
    (2, Act::Break),
    (16, Act::Up),
    (8, Act::Limbo),
    (1, Act::End),
    (1, Act::PeerEnd),
];

const KIB: u64 = 1024;

const LIFE: Profile = Profile {
    name: "",
    side: "client",
    seed: 0,
    welcomed: true,
    steps: 200,
    weights: TALK,
    sizes: MIXED,
    credit_bytes_max: 4 * 1024 * KIB,
    unacked_bytes_max: 4 * 1024 * KIB + 256 * KIB,
    then: None,
};

pub(crate) fn profiles() -> Vec<Profile> {
    let mut profiles = conversations();
    profiles.extend(limits_and_ends());
    for (seed, (side, name, then)) in (100..).zip(directed()) {
        let welcomed = !name.ends_with("before the welcome");
        let steps = if !welcomed || name.ends_with("from the start") { 0 } else { 24 };
        profiles.push(Profile { name, side, seed, welcomed, steps, then: Some(then), ..LIFE });
    }
    profiles
}

fn conversations() -> Vec<Profile> {
    vec![
        Profile { name: "talk", seed: 1, ..LIFE },
        Profile { name: "talk at the server", side: "server", seed: 2, ..LIFE },
        Profile { name: "breaks", seed: 3, weights: BREAKS, steps: 300, ..LIFE },
        Profile {
            name: "breaks, small replay buffer",
            seed: 4,
            weights: BREAKS,
            steps: 300,
            ..small()
        },
        Profile {
            name: "breaks at the server",
            side: "server",
            seed: 5,
            weights: BREAKS,
            steps: 300,
            ..LIFE
        },
        Profile {
            name: "download, the window grows",
            seed: 6,
            weights: DOWNLOAD,
            sizes: LARGE,
            steps: 300,
            ..LIFE
        },
        Profile {
            name: "download, the window is as large as it may be",
            seed: 7,
            weights: DOWNLOAD,
            sizes: LARGE,
            credit_bytes_max: 300 * KIB,
            ..LIFE
        },
        Profile { name: "pressure", seed: 8, weights: PRESSURE, sizes: ROUND, steps: 300, ..LIFE },
    ]
}

fn limits_and_ends() -> Vec<Profile> {
    vec![
        Profile {
            name: "upload until the credit is spent",
            seed: 9,
            weights: UPLOAD,
            sizes: ROUND,
            ..LIFE
        },
        Profile {
            name: "upload until the replay buffer is full",
            seed: 10,
            weights: UPLOAD,
            sizes: ROUND,
            ..small()
        },
        Profile { name: "farewell", seed: 11, steps: 300, weights: FAREWELL, ..LIFE },
        Profile { name: "farewell again", seed: 12, steps: 300, weights: FAREWELL, ..LIFE },
        Profile {
            name: "farewell at the server",
            side: "server",
            seed: 13,
            weights: FAREWELL,
            ..LIFE
        },
        Profile {
            name: "the replay buffer to the byte, from the start",
            seed: 99,
            steps: 0,
            then: Some(then::buffer_edges),
            ..small()
        },
    ]
}

fn small() -> Profile {
    Profile { credit_bytes_max: 256 * KIB, unacked_bytes_max: 64 * KIB, ..LIFE }
}

type Directed = (&'static str, &'static str, fn(&mut World<'_>));

fn directed() -> Vec<Directed> {
    vec![
        ("client", "first words from the start", then::first_words),
        ("client", "an ack beyond what was sent", then::ack_beyond),
        ("client", "a chunk with an ack beyond what was sent", then::chunk_acks_beyond),
        ("client", "more than the credit from the start", then::exceed_credit),
        ("client", "a chunk after the end", then::chunk_after_end),
        ("client", "copies and gaps", then::copies_and_gaps),
        ("client", "an answer to an older question", then::stale_answer),
        ("client", "an answer from before what was acknowledged", then::forgetful_answer),
        ("client", "an answer from beyond what was sent", then::answer_beyond),
        ("client", "an answer that was not asked for", then::unasked_answer),
        ("client", "resumed, and the credit was spent", then::resume_at_credit),
        ("client", "a server that has heard nothing from the start", then::resume_from_nothing),
        ("client", "forgotten when all was said", then::forgotten_when_complete),
        ("client", "reset when all was said", then::reset_when_complete),
        ("client", "reset by the peer", then::peer_resets),
        ("client", "reset for a cause of later", then::peer_resets_unknown),
        ("client", "reset with a long detail", then::reset_with_long_detail),
        ("client", "reset while detached", then::reset_while_detached),
        ("client", "reset while asking", then::reset_while_asking),
        ("client", "reset and expired", then::reset_and_expire),
        ("client", "reset before the welcome", then::reset_at_once),
        ("client", "expired before the welcome", then::expire_at_once),
        ("server", "a server that expired before the welcome", then::expire_at_once),
        ("client", "abandoned", then::abandon),
        ("client", "expired", then::expire),
        ("client", "expired over several attempts", then::expire_over_attempts),
        ("client", "go-away", then::go_away),
        ("client", "window growth to the byte and the moment from the start", then::growth_edges),
        ("client", "acks at a quarter of the window from the start", then::quarter_edges),
        ("client", "room to the byte from the start", then::room_edges),
        ("server", "gone before a word from the start", then::unconfirmed),
        ("server", "reset before a word from the start", then::unconfirmed_reset),
        ("server", "an older attachment", then::older_attach),
        ("server", "a client that forgot", then::forgetful_attach),
        ("server", "a client that acknowledges too much", then::attach_beyond),
        ("server", "two clients in a row", then::two_attaches),
        ("server", "reset while detached, at the server", then::server_resets_detached),
        ("server", "expired at the server", then::expire),
    ]
}
