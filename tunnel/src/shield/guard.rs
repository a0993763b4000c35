//! The shield of one peer: what its senders ask, and what is decided from what they did.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::dose::{Dose, Refusal};
use super::inferred::Inferred;
use super::policy::{Plan, SPACING_ACROSS, ShieldState, Weather};
use crate::quality::Quality;
use crate::way::Way;

/// Rates are averaged over this time.
const RATES_OVER_S: f64 = 1.0;

/// What QUIC has done towards a peer since it was last told: for peers that answer no probes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct QuicCounts {
    /// Packets sent.
    pub sent: u64,
    /// Of these or earlier ones, found lost.
    pub lost: u64,
    /// The round trip as it is now.
    pub rtt: Duration,
}

/// What the shield does for a peer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ShieldReport {
    /// What is planned for the next datagrams.
    pub plan: Plan,
    /// Copies for each 1,000 chat datagrams, over the last seconds.
    pub copies_permille: u32,
}

/// One peer's part. Without loss a sender pays for two atomic operations.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// Chat datagrams, without their copies.
    chat: AtomicU64,
    copied: AtomicU64,
    /// The path loses: senders have to ask.
    is_up: AtomicBool,
    ward: Mutex<Ward>,
}

#[derive(Debug, Default)]
struct Ward {
    dose: Dose,
    inferred: Inferred,
    second: Option<Way>,
    rests: bool,
    before: Option<Counts>,
    rates: Rates,
}

#[derive(Clone, Copy, Debug)]
struct Counts {
    at: Instant,
    chat: u64,
    copied: u64,
    all: u64,
}

/// Datagrams a second.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    chat: f64,
    copied: f64,
    all: f64,
}

/// How a run is sent again: first so, and maybe once more over the way it went itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Given {
    /// Over another way than the run itself.
    pub(crate) second: Option<Way>,
    pub(crate) after: Duration,
    pub(crate) again: Option<Duration>,
}

impl Guard {
    /// Counts chat datagrams that went. Returns whether copies are to be asked for.
    pub(crate) fn count(&self, datagrams: u64) -> bool {
        self.chat.fetch_add(datagrams, Ordering::Relaxed);
        self.is_up.load(Ordering::Relaxed)
    }

    /// Counts copies that went.
    pub(crate) fn count_copies(&self, copies: u64) {
        self.copied.fetch_add(copies, Ordering::Relaxed);
    }

    /// Asks for copies of a run, and pays for them.
    ///
    /// # Errors
    /// Why there are none although the path loses.
    pub(crate) fn take(
        &self,
        run: usize,
        segment: usize,
        now: Instant,
    ) -> Result<Option<Given>, Refusal> {
        let mut ward = self.ward.lock();
        let plan = ward.dose.take(run, segment, now)?;
        let second = ward.second;
        Ok((plan.copies > 0).then_some(Given {
            second,
            after: if second.is_some() { SPACING_ACROSS } else { plan.spacing },
            again: (plan.copies > 1).then_some(plan.spacing),
        }))
    }

    /// Names a second way for copies, or none.
    pub(crate) fn set_second(&self, second: Option<Way>) {
        self.ward.lock().second = second;
    }

    /// Takes what QUIC tells.
    pub(crate) fn note_quic(&self, counts: QuicCounts, now: Instant) {
        let mut ward = self.ward.lock();
        let copies = ward.dose.plan().copies;
        ward.inferred.note(counts.sent, counts.lost, counts.rtt, copies, now);
    }

    /// Decides anew. `all` datagrams were sent so far, whatever they carried.
    pub(crate) fn decide(&self, quality: &Quality, all: u64, now: Instant) -> Plan {
        let mut ward = self.ward.lock();
        let (chat, copied) = (&self.chat, &self.copied);
        let counts = Counts {
            at: now,
            chat: chat.load(Ordering::Relaxed),
            copied: copied.load(Ordering::Relaxed),
            all,
        };
        ward.rests = false;
        ward.measure(counts);
        let weather = ward.weather(quality, now);
        let plan = ward.dose.decide(weather.as_ref(), now);
        self.is_up.store(is_lossy(plan.state), Ordering::Relaxed);
        plan
    }

    /// Stands down: the way of this peer needs no shield.
    pub(crate) fn rest(&self) -> Plan {
        let mut ward = self.ward.lock();
        self.is_up.store(false, Ordering::Relaxed);
        ward.dose = Dose::default();
        ward.rests = true;
        Plan::default()
    }

    /// What copies to this peer may cost, in bytes a second.
    pub(crate) fn set_share(&self, bytes_per_s: f64) {
        self.ward.lock().dose.budget.set_share(bytes_per_s);
    }

    pub(crate) fn report(&self) -> ShieldReport {
        let ward = self.ward.lock();
        let Rates { chat, copied, .. } = ward.rates;
        let thousandths = Duration::try_from_secs_f64(copied / chat.max(0.1));
        let copies_permille = thousandths.map_or(0, |share| share.as_millis());
        ShieldReport {
            plan: if ward.rests { Plan::default() } else { ward.dose.plan() },
            copies_permille: u32::try_from(copies_permille).unwrap_or(u32::MAX),
        }
    }
}

/// Whether a path in this state loses, and has a share in the budget.
pub(crate) const fn is_lossy(state: ShieldState) -> bool {
    match state {
        ShieldState::On | ShieldState::Full | ShieldState::Harmful => true,
        ShieldState::Off | ShieldState::Unmeasured | ShieldState::Clean => false,
    }
}

impl Ward {
    fn measure(&mut self, counts: Counts) {
        let Some(before) = self.before.replace(counts) else { return };
        let seconds = counts.at.saturating_duration_since(before.at).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let part = 1.0 - (-seconds / RATES_OVER_S).exp();
        let rates = &mut self.rates;
        for (rate, now, then) in [
            (&mut rates.chat, counts.chat, before.chat),
            (&mut rates.copied, counts.copied, before.copied),
            (&mut rates.all, counts.all, before.all),
        ] {
            let count = u32::try_from(now.saturating_sub(then)).unwrap_or(u32::MAX);
            *rate += (f64::from(count) / seconds - *rate) * part;
        }
    }

    /// What probes say, or else QUIC.
    fn weather(&mut self, quality: &Quality, now: Instant) -> Option<Weather> {
        let Rates { chat, all, .. } = self.rates;
        let told = self.inferred.told(now);
        if !quality.is_measured {
            return told.map(|told| Weather {
                loss: told.loss,
                burst: Duration::ZERO,
                queueing: told.queueing,
                rtt_min: told.rtt_min,
                chat_per_s: chat,
                all_per_s: all,
            });
        }
        Some(Weather {
            loss: quality.loss_out.into(),
            burst: quality.burst_out,
            queueing: quality.queueing,
            rtt_min: quality.rtt_min,
            chat_per_s: chat,
            all_per_s: all,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where there is another way the first copy takes it at once; a further one waits as ever.
    #[test]
    fn the_first_copy_takes_the_second_way() {
        let (guard, mut now) = (Guard::default(), crate::tunnel::now());
        guard.set_share(1e6);
        let quality = Quality { loss_out: 0.05, is_measured: true, ..Quality::default() };
        assert!(!guard.count(1), "nothing is known");
        for step in 0..8 {
            guard.decide(&quality, step * 250, now);
            now += Duration::from_millis(250);
        }
        assert!(guard.count(1));
        let spacing = guard.report().plan.spacing;
        let alone = guard.take(200, 200, now).unwrap().unwrap();
        assert_eq!(alone, Given { second: None, after: spacing, again: Some(spacing) });
        let way = Way::from(std::net::SocketAddr::from(([192, 0, 2, 1], 1)));
        guard.set_second(Some(way));
        let across = guard.take(200, 200, now).unwrap().unwrap();
        let after = SPACING_ACROSS;
        assert_eq!(across, Given { second: Some(way), after, again: Some(spacing) });
        guard.rest();
        assert!(!guard.count(1), "a stream needs none");
        assert_eq!(guard.report().plan, Plan::default());
    }
}
