//! `--check`: one message through every region, beside the same thing without a relay.

use std::time::Duration;

use antipode_runtime::telemetry::chain;

use crate::probe::{Opening, Probe, ProbeError, Way};
use crate::table::{Align, Table};

/// One region's two ways in.
#[derive(Clone, Debug)]
pub struct Course {
    /// Name of the region, as the chat is told.
    pub region: &'static str,
    /// For people.
    pub city: &'static str,
    /// Through the relay next door, with TLS.
    pub relay: Way,
    /// All the way to Europe, with TLS.
    pub direct: Way,
    /// From the client to Europe and back; nothing can be quicker.
    pub round_trip: Duration,
    /// What is to be done there.
    pub task: Task,
}

/// What the other end can be asked to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Task {
    /// It is the demo's chat: talk.
    Chat,
    /// It is the user's own server: open a WebSocket, and get the same answer both ways.
    Open,
}

/// What was seen in one region.
#[derive(Debug)]
pub struct Finding {
    city: &'static str,
    outcome: Result<Figures, CheckError>,
}

/// How long things took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// From the first SYN to the answered upgrade.
    pub connect: Pair,
    /// An echo, where there is one.
    pub round_trip: Option<Pair>,
    /// The status both ways: 101, or whatever the user's own server says.
    pub status: u16,
}

/// The same thing both ways.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Through the relay.
    pub relay: Duration,
    /// Without it.
    pub direct: Duration,
}

/// What keeps a region from passing.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The way through the relay.
    #[error("relay: {}", chain(.0))]
    Relay(ProbeError),
    /// The way without it.
    #[error("direct: {}", chain(.0))]
    Direct(ProbeError),
    /// The relay changes the answer.
    #[error("answered {relay} through the relay, but {direct} without it")]
    Differs {
        /// The status through the relay.
        relay: u16,
        /// The status without it.
        direct: u16,
    },
    /// Quicker than light: it can't have gone through the tunnel.
    #[error(
        "an answer took {} ms, less than the {} ms of the distance",
        .took.as_millis(), .least.as_millis()
    )]
    TooQuick {
        /// What it took.
        took: Duration,
        /// What it must take.
        least: Duration,
    },
    /// The relay doesn't do what it is for.
    #[error("connecting through the relay is no quicker than without it")]
    NothingGained,
}

/// Runs every course, one after the other so that none disturbs another.
pub async fn run(courses: &[Course]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for course in courses {
        findings.push(Finding { city: course.city, outcome: run_one(course).await });
    }
    findings
}

/// Whether every message arrived.
#[must_use]
pub fn passed(findings: &[Finding]) -> bool {
    !findings.is_empty() && findings.iter().all(|finding| finding.outcome.is_ok())
}

/// The findings for people.
#[must_use]
pub fn table(findings: &[Finding]) -> String {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("region", Left),
        ("connect: relay", Right),
        ("direct", Right),
        ("round trip: relay", Right),
        ("direct", Right),
        ("verdict", Left),
    ]);
    for finding in findings {
        match &finding.outcome {
            Ok(figures) => {
                let [a, b] = columns(Some(figures.connect));
                let [c, d] = columns(figures.round_trip);
                table.row([finding.city.into(), a, b, c, d, figures.verdict()]);
            }
            Err(error) => {
                let ([a, b], [c, d]) = (columns(None), columns(None));
                table.row([finding.city.into(), a, b, c, d, format!("failed: {error}")]);
            }
        }
    }
    table.to_string()
}

impl Figures {
    fn verdict(&self) -> String {
        let factor = self.connect.direct.as_secs_f64() / self.connect.relay.as_secs_f64();
        let answer = match self.status {
            101 => String::new(),
            status => format!(", both answer {status}"),
        };
        format!("ok{answer}, connects {factor:.1} times as fast")
    }
}

async fn run_one(course: &Course) -> Result<Figures, CheckError> {
    match course.task {
        Task::Chat => chat(course).await,
        Task::Open => open(course).await,
    }
}

/// Opens a WebSocket both ways. The server may have none: then both ways must say the same.
async fn open(course: &Course) -> Result<Figures, CheckError> {
    let (direct_status, direct) = answer(&course.direct).await.map_err(CheckError::Direct)?;
    let (relay_status, relay) = answer(&course.relay).await.map_err(CheckError::Relay)?;
    if relay_status != direct_status {
        return Err(CheckError::Differs { relay: relay_status, direct: direct_status });
    }
    let connect = Pair { relay, direct };
    judge(Figures { connect, round_trip: None, status: relay_status }, course.round_trip)
}

async fn answer(way: &Way) -> Result<(u16, Duration), ProbeError> {
    match Probe::try_open(way).await? {
        Opening::Answered { status, took } => Ok((status, took)),
        Opening::Open(probe) => {
            let took = probe.connect;
            probe.close().await;
            Ok((101, took))
        }
    }
}

async fn chat(course: &Course) -> Result<Figures, CheckError> {
    let mut direct = Probe::open(&course.direct).await.map_err(CheckError::Direct)?;
    direct.hello("Direct", course.region).await.map_err(CheckError::Direct)?;
    let mut relay = Probe::open(&course.relay).await.map_err(CheckError::Relay)?;
    relay.hello("Relay", course.region).await.map_err(CheckError::Relay)?;

    let (there, back) = (format!("{} calling", course.city), format!("{} answers", course.city));
    relay.say(&there).await.map_err(CheckError::Relay)?;
    relay.hear(&there).await.map_err(CheckError::Relay)?;
    direct.hear(&there).await.map_err(CheckError::Direct)?;
    direct.say(&back).await.map_err(CheckError::Direct)?;
    relay.hear(&back).await.map_err(CheckError::Relay)?;

    let figures = Figures {
        connect: Pair { relay: relay.connect, direct: direct.connect },
        round_trip: Some(Pair {
            relay: relay.round_trip().await.map_err(CheckError::Relay)?,
            direct: direct.round_trip().await.map_err(CheckError::Direct)?,
        }),
        status: 101,
    };
    relay.close().await;
    direct.close().await;
    judge(figures, course.round_trip)
}

fn judge(figures: Figures, least: Duration) -> Result<Figures, CheckError> {
    let trip = figures.round_trip.unwrap_or(figures.connect);
    let quickest = trip.relay.min(trip.direct);
    if quickest < least {
        return Err(CheckError::TooQuick { took: quickest, least });
    }
    if figures.connect.relay >= figures.connect.direct {
        return Err(CheckError::NothingGained);
    }
    Ok(figures)
}

fn columns(times: Option<Pair>) -> [String; 2] {
    let ms = |time: Duration| format!("{} ms", time.as_millis());
    times.map_or_else(|| ["–".into(), "–".into()], |pair| [pair.relay, pair.direct].map(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_not_believed() {
        let least = Duration::from_millis(168);
        assert!(judge(figures(177, 506, 171, 168), least).is_ok());
        assert!(matches!(
            judge(figures(177, 506, 12, 168), least),
            Err(CheckError::TooQuick { .. })
        ));
        assert!(matches!(
            judge(figures(506, 506, 171, 168), least),
            Err(CheckError::NothingGained)
        ));
    }

    #[test]
    fn one_failed_region_fails_the_check() {
        let good = || Finding { city: "Singapore", outcome: Ok(figures(177, 506, 171, 168)) };
        let bad = || Finding { city: "Sydney", outcome: Err(CheckError::NothingGained) };
        assert!(!passed(&[]));
        assert!(passed(&[good()]));
        assert!(!passed(&[good(), bad()]));
        let text = table(&[good(), bad()]);
        for words in ["Singapore", "177 ms", "2.9 times", "failed: connecting through"] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
    }

    fn figures(connect: u64, connect_direct: u64, trip: u64, trip_direct: u64) -> Figures {
        let pair = |relay, direct| Pair {
            relay: Duration::from_millis(relay),
            direct: Duration::from_millis(direct),
        };
        let round_trip = Some(pair(trip, trip_direct));
        Figures { connect: pair(connect, connect_direct), round_trip, status: 101 }
    }
}
