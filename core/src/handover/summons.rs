//! How sessions hear that a successor takes over, and what they do then.
//!
//! Those that can't be handed over (an HTTP exchange, an upgrade under way, a socket with TLS, one
//! in the middle of its close) are told to leave while there are still lanes to tell their clients
//! by. The others are gathered: each stops between two steps, offers what it is made of, and waits
//! for the verdict. One that is not taken goes on as if nothing had been. Attachments come before
//! the sessions that they carry: what an attachment has taken has to be in the session's machine.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use antipode_proto::handover::v1::from_predecessor;
use tokio::sync::{mpsc, oneshot, watch};

/// Offers that may wait: what sessions hold is copied only as fast as it is taken.
const OFFERS_AHEAD: usize = 64;

/// Where all sessions listen.
#[derive(Debug)]
pub(crate) struct Summons {
    stage: watch::Sender<Stage>,
    /// Sessions that would be told to leave, and are worth waiting for.
    staying: Arc<AtomicUsize>,
    /// What can be gathered and has not come, by wave.
    movable: [Arc<AtomicUsize>; 2],
}

/// What is gathered together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wave {
    /// The WebSockets of resumable clients.
    Attachments,
    /// The sockets of backends.
    Sockets,
}

#[derive(Clone, Debug, Default)]
enum Stage {
    #[default]
    Quiet,
    Leave,
    Gather(Wave, mpsc::Sender<Offer>),
}

/// What a session, or an attachment, is made of: the message, and the backend's socket.
pub(crate) type Made = (from_predecessor::Kind, Option<OwnedFd>);

/// A session, or an attachment, that waits to be taken.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) made: Made,
    /// Told once a successor has the session; if it is dropped, the session goes on here.
    pub(crate) taken: oneshot::Sender<()>,
}

/// What became of a session that was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// A successor has it.
    Taken,
    /// It goes on here.
    Stays,
    /// It could not be offered.
    Unable,
}

/// Counts while it lives, and while it does not wait for a verdict.
#[derive(Debug)]
pub(crate) struct Counted {
    count: Arc<AtomicUsize>,
    counts: bool,
}

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        let mut counted = Self { count: Arc::clone(count), counts: false };
        counted.set(true);
        counted
    }

    fn set(&mut self, counts: bool) {
        match (self.counts, counts) {
            (false, true) => self.count.fetch_add(1, Ordering::SeqCst),
            (true, false) => self.count.fetch_sub(1, Ordering::SeqCst),
            (false, false) | (true, true) => return,
        };
        self.counts = counts;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set(false);
    }
}

impl Default for Summons {
    fn default() -> Self {
        let (staying, movable) = (Arc::default(), Default::default());
        Self { stage: watch::Sender::default(), staying, movable }
    }
}

/// For sessions.
impl Summons {
    /// Resolves when everybody who can't be handed over has to go. Cancel-safe.
    pub(crate) async fn told_to_leave(&self) {
        let told = |stage: &Stage| match stage {
            Stage::Quiet => false,
            Stage::Leave | Stage::Gather(..) => true,
        };
        let _ = self.stage.subscribe().wait_for(told).await;
    }

    /// Resolves when one's wave is gathered, with the place to come to. Cancel-safe.
    pub(crate) async fn gathered(&self, wave: Wave) -> mpsc::Sender<Offer> {
        let mut stage = self.stage.subscribe();
        loop {
            if let Stage::Gather(now, offers) = &*stage.borrow_and_update()
                && *now == wave
                && !offers.is_closed()
            {
                return offers.clone();
            }
            // The sender is our own.
            let _ = stage.changed().await;
        }
    }

    /// Counts a session that would have to leave, and comes to its end before long.
    pub(crate) fn staying(&self) -> Counted {
        Counted::new(&self.staying)
    }

    /// Counts one that comes when its wave is gathered.
    pub(crate) fn movable(&self, wave: Wave) -> Counted {
        Counted::new(self.count_of(wave))
    }

    const fn count_of(&self, wave: Wave) -> &Arc<AtomicUsize> {
        let [attachments, sockets] = &self.movable;
        match wave {
            Wave::Attachments => attachments,
            Wave::Sockets => sockets,
        }
    }
}

/// For a predecessor.
impl Summons {
    /// Sessions that would have to leave now.
    pub(crate) fn staying_len(&self) -> usize {
        self.staying.load(Ordering::SeqCst)
    }

    /// How many of a wave have not come yet.
    pub(crate) fn movable_len(&self, wave: Wave) -> usize {
        self.count_of(wave).load(Ordering::SeqCst)
    }

    pub(super) fn tell_to_leave(&self) {
        self.stage.send_replace(Stage::Leave);
    }

    pub(crate) fn gather(&self, wave: Wave) -> mpsc::Receiver<Offer> {
        let (offers, gathered) = mpsc::channel(OFFERS_AHEAD);
        self.stage.send_replace(Stage::Gather(wave, offers));
        gathered
    }

    /// Nobody has to leave or to come any more.
    pub(super) fn calm(&self) {
        self.stage.send_replace(Stage::Quiet);
    }
}

impl Counted {
    /// Brings something to where it was called, and waits for what becomes of it. `make` gives what
    /// it is made of, and is called when there is room.
    pub(crate) async fn go(
        &mut self,
        offers: mpsc::Sender<Offer>,
        make: impl FnOnce() -> Option<Made>,
    ) -> Verdict {
        let Ok(place) = offers.reserve().await else { return Verdict::Stays };
        let Some(made) = make() else { return Verdict::Unable };
        let (taken, verdict) = oneshot::channel();
        place.send(Offer { made, taken });
        self.set(false);
        if verdict.await.is_ok() {
            return Verdict::Taken;
        }
        self.set(true);
        Verdict::Stays
    }
}

#[cfg(test)]
mod tests {
    use antipode_proto::handover::v1::LetGo;
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn everybody_hears_what_concerns_them() {
        let summons = Summons::default();
        let gathered = |wave| summons.gathered(wave).now_or_never().is_some();
        let told = || summons.told_to_leave().now_or_never().is_some();
        assert!(!told());
        summons.tell_to_leave();
        assert!(told() && !gathered(Wave::Attachments) && !gathered(Wave::Sockets));
        let first = summons.gather(Wave::Attachments);
        assert!(told() && gathered(Wave::Attachments) && !gathered(Wave::Sockets));
        let second = summons.gather(Wave::Sockets);
        assert!(told() && !gathered(Wave::Attachments) && gathered(Wave::Sockets));
        drop((first, second));
        assert!(!gathered(Wave::Sockets), "nobody is there to come to");
        summons.calm();
        assert!(!told());
    }

    #[tokio::test]
    async fn a_session_goes_on_unless_it_is_taken() {
        let summons = Summons::default();
        let mut gathered = summons.gather(Wave::Sockets);
        let mut movable = summons.movable(Wave::Sockets);
        assert_eq!(summons.movable_len(Wave::Attachments), 0);
        for (taken, verdict) in [(false, Verdict::Stays), (true, Verdict::Taken)] {
            assert_eq!(summons.movable_len(Wave::Sockets), 1);
            let offers = summons.gathered(Wave::Sockets).await;
            let made = || Some((from_predecessor::Kind::LetGo(LetGo {}), None));
            let going = movable.go(offers, made);
            let taking = async {
                let offer = gathered.recv().await.unwrap();
                assert_eq!(summons.movable_len(Wave::Sockets), 0, "it has come");
                if taken {
                    offer.taken.send(()).unwrap();
                }
            };
            let (came, ()) = tokio::join!(going, taking);
            assert_eq!(came, verdict);
        }
        let offers = summons.gathered(Wave::Sockets).await;
        let mut movable = summons.movable(Wave::Sockets);
        assert_eq!(movable.go(offers, || None).await, Verdict::Unable);
        drop(movable);
        assert_eq!(summons.movable_len(Wave::Sockets), 0);
    }
}
