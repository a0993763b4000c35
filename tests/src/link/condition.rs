//! What the link does to its packets, and what must be shown under it.

use std::fmt;
use std::time::Duration;

use crate::wan::{Burst, Change};

use super::echoes::Load;

/// The link's one-way delay.
pub const ONE_WAY_MS: f64 = 100.0;
/// The least time that an echo can take.
pub const ROUND_TRIP_MS: f64 = 2.0 * ONE_WAY_MS;

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Condition {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What people read.
    pub says: &'static str,
    /// How the link changes, from what it is when the clients come.
    pub change: Change,
    /// What is done under it.
    pub course: Course,
    /// What must be shown.
    pub must: Vec<Must>,
}

/// What is done under a condition.
#[derive(Clone, Copy, Debug)]
pub enum Course {
    /// Clients echo.
    Echo(Load),
    /// Clients echo, and the link is cut for a while.
    Cut(Load, Duration),
    /// One download.
    Bulk,
    /// Clients echo alone, and then beside a body of so many bytes.
    Beside(Load, u64),
}

/// A bound on a figure, by the figure's name in the result.
#[derive(Clone, Copy, Debug)]
pub struct Must {
    /// Which figure.
    pub figure: &'static str,
    /// The bound.
    pub bound: Bound,
}

/// Which side of it is good.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// Not more.
    AtMost(f64),
    /// Not less.
    AtLeast(f64),
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(formatter, "<= {most:.3}"),
            Self::AtLeast(least) => write!(formatter, ">= {least:.3}"),
        }
    }
}

impl Bound {
    /// Whether a figure keeps it.
    #[must_use]
    pub fn is_kept(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }
}

/// One message of 128 bytes a second from each of 1,000 clients.
const CHAT: Load = Load { sessions: 1000, every: Duration::from_secs(1), bytes: 128 };
/// The same from 10,000: with the answers, 20,000 messages a second.
const CROWD: Load = Load { sessions: 10_000, every: Duration::from_secs(1), bytes: 128 };
/// For cuts: what waits for the link to come back is 200 sessions' worth.
const FEW: Load = Load { sessions: 200, every: Duration::from_secs(1), bytes: 128 };

/// Few who talk much: 200 messages a second with the answers, a fortieth of a link of 10 Mbit/s.
const BESIDE: Load = Load { sessions: 10, every: Duration::from_millis(100), bytes: 128 };

/// All rows, in the table's order.
#[must_use]
pub fn all() -> Vec<Condition> {
    let loss = |loss| Change { loss: Some(loss), ..Change::default() };
    let burst =
        |mean_ms| Change { burst: Some(Burst { loss: 0.01, mean_ms }), ..Change::default() };
    let jitter = Change { jitter_ms: Some(20.0), loss: Some(0.01), ..Change::default() };
    let times = |factor: f64| ROUND_TRIP_MS * factor;
    let echo = |name, says, change, must| Condition {
        name,
        says,
        change,
        course: Course::Echo(CHAT),
        must,
    };
    let mut rows = vec![
        echo(
            "clean",
            "no loss",
            Change::default(),
            vec![most("p50_ms", ROUND_TRIP_MS + 2.0), most("p999_ms", ROUND_TRIP_MS + 15.0)],
        ),
        echo("loss-1", "1 % loss", loss(0.01), vec![most("p999_ms", times(1.12))]),
        echo(
            "loss-3",
            "3 % loss",
            loss(0.03),
            vec![most("p99_ms", times(1.12)), most("p999_ms", times(1.6))],
        ),
        echo("burst-5", "1 % in bursts of 5 ms", burst(5.0), vec![most("p999_ms", times(1.25))]),
        echo("burst-20", "1 % in bursts of 20 ms", burst(20.0), Vec::new()),
        // The jitter falls on both ways of a round trip.
        echo(
            "jitter",
            "jitter 0 to 20 ms, 1 % loss",
            jitter,
            vec![most("p999_ms", 2.0 * 20.0 + times(1.12))],
        ),
    ];
    rows.extend([cut("cut-5", "cut of 5 s", 5), cut("cut-20", "cut of 20 s", 20)]);
    rows.push(cut("cut-60", "cut of 60 s", 60));
    // Before the link has carried much: a connection goes on with half of that, and a link that has
    // become a hundred times narrower in the meantime is another story.
    rows.push(beside());
    rows.extend(heavy());
    rows
}

fn cut(name: &'static str, says: &'static str, seconds: u64) -> Condition {
    Condition {
        name,
        says,
        change: Change::default(),
        course: Course::Cut(FEW, Duration::from_secs(seconds)),
        must: vec![
            most("flow_max_s", 1.0 + ROUND_TRIP_MS / 1000.0),
            most("missing", 0.0),
            most("duplicated", 0.0),
            most("reordered", 0.0),
            most("ended", 0.0),
        ],
    }
}

/// A link that one body fills: what it leaves to those who talk.
fn beside() -> Condition {
    let narrow = Change { rate_mbit: Some(10.0), queue_ms: Some(200.0), ..Change::default() };
    Condition {
        name: "body",
        says: "echoes beside 100 MB, 10 Mbit/s",
        change: narrow,
        course: Course::Beside(BESIDE, 100_000_000),
        must: vec![most("p99_more_ms", 20.0)],
    }
}

/// Much, and many; the crowds come last, since it takes a while until all of one have gone.
fn heavy() -> [Condition; 3] {
    let lossy = Change { loss: Some(0.01), ..Change::default() };
    let least = Must { figure: "megabytes_per_s", bound: Bound::AtLeast(10.0) };
    [
        Condition {
            name: "bulk",
            says: "one download, 1 % loss",
            change: lossy.clone(),
            course: Course::Bulk,
            must: vec![least],
        },
        Condition {
            name: "crowd-clean",
            says: "10,000 sessions, 20,000 messages/s, no loss",
            change: Change::default(),
            course: Course::Echo(CROWD),
            must: Vec::new(),
        },
        Condition {
            name: "crowd",
            says: "10,000 sessions, 20,000 messages/s, 1 % loss",
            change: lossy,
            course: Course::Echo(CROWD),
            must: vec![most("p99_ms", ROUND_TRIP_MS * 1.15)],
        },
    ]
}

const fn most(figure: &'static str, at_most: f64) -> Must {
    Must { figure, bound: Bound::AtMost(at_most) }
}
