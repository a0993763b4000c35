//! How sessions hear that a successor takes over, and what they do then.
//!
//! Those that can't be handed over (an HTTP exchange, an upgrade under way, a socket with TLS, one
//! in the middle of its close) are told to leave while there are still lanes to tell their clients
//! by. The others are gathered: each stops between two steps, offers what it is made of, and waits
//! for the verdict. One that is not taken goes on as if nothing had been.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use antipode_proto::handover::v1::HandedSession;
use tokio::sync::{mpsc, oneshot, watch};

/// Offers that may wait: what sessions hold is copied only as fast as it is taken.
const OFFERS_AHEAD: usize = 64;

/// Where all sessions listen.
#[derive(Debug)]
pub(crate) struct Summons {
    stage: watch::Sender<Stage>,
    /// Sessions that would be told to leave, and are worth waiting for.
    staying: Arc<AtomicUsize>,
    /// Sessions that can be gathered and have not come.
    movable: Arc<AtomicUsize>,
}

#[derive(Clone, Debug, Default)]
enum Stage {
    #[default]
    Quiet,
    Leave,
    Gather(mpsc::Sender<Offer>),
}

/// A session that waits to be taken.
#[derive(Debug)]
pub(crate) struct Offer {
    /// All but the descriptor.
    pub(crate) session: HandedSession,
    /// The backend's socket.
    pub(crate) socket: OwnedFd,
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

/// Counts while it lives.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Default for Summons {
    fn default() -> Self {
        let (staying, movable) = (Arc::default(), Arc::default());
        Self { stage: watch::Sender::default(), staying, movable }
    }
}

/// For sessions.
impl Summons {
    /// Resolves when everybody who can't be handed over has to go. Cancel-safe.
    pub(crate) async fn told_to_leave(&self) {
        let told = |stage: &Stage| match stage {
            Stage::Quiet => false,
            Stage::Leave | Stage::Gather(_) => true,
        };
        let _ = self.stage.subscribe().wait_for(told).await;
    }

    /// Resolves when sessions are gathered, with the place to come to. Cancel-safe.
    pub(crate) async fn gathered(&self) -> mpsc::Sender<Offer> {
        let mut stage = self.stage.subscribe();
        loop {
            if let Stage::Gather(offers) = &*stage.borrow_and_update()
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

    /// Counts a session that comes when it is called.
    pub(crate) fn movable(&self) -> Counted {
        Counted::new(&self.movable)
    }
}

/// For a predecessor.
impl Summons {
    /// Sessions that would have to leave now.
    pub(crate) fn staying_len(&self) -> usize {
        self.staying.load(Ordering::SeqCst)
    }

    /// Sessions that can be gathered and have not come yet.
    pub(crate) fn movable_len(&self) -> usize {
        self.movable.load(Ordering::SeqCst)
    }

    pub(super) fn tell_to_leave(&self) {
        self.stage.send_replace(Stage::Leave);
    }

    pub(super) fn gather(&self) -> mpsc::Receiver<Offer> {
        let (offers, gathered) = mpsc::channel(OFFERS_AHEAD);
        self.stage.send_replace(Stage::Gather(offers));
        gathered
    }

    /// Nobody has to leave or to come any more.
    pub(super) fn calm(&self) {
        self.stage.send_replace(Stage::Quiet);
    }
}

impl Counted {
    /// Brings a session where it was called to, and waits for what becomes of it. `make` gives what
    /// it is made of, and is called when there is room.
    pub(crate) async fn go(
        self,
        offers: mpsc::Sender<Offer>,
        make: impl FnOnce() -> Option<(HandedSession, OwnedFd)>,
    ) -> Verdict {
        let Ok(place) = offers.reserve().await else { return Verdict::Stays };
        let Some((session, socket)) = make() else { return Verdict::Unable };
        let (taken, verdict) = oneshot::channel();
        place.send(Offer { session, socket, taken });
        drop(self);
        match verdict.await {
            Ok(()) => Verdict::Taken,
            Err(_) => Verdict::Stays,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn sessions_hear_what_concerns_them() {
        let summons = Summons::default();
        assert!(summons.told_to_leave().now_or_never().is_none());
        summons.tell_to_leave();
        assert!(summons.told_to_leave().now_or_never().is_some());
        assert!(summons.gathered().now_or_never().is_none(), "not yet");
        let gathered = summons.gather();
        assert!(summons.told_to_leave().now_or_never().is_some());
        assert!(summons.gathered().now_or_never().is_some());
        drop(gathered);
        assert!(summons.gathered().now_or_never().is_none(), "nobody is there to come to");
        summons.calm();
        assert!(summons.told_to_leave().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_session_goes_on_unless_it_is_taken() {
        let summons = Summons::default();
        let mut gathered = summons.gather();
        let socket = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        for (taken, verdict) in [(true, Verdict::Taken), (false, Verdict::Stays)] {
            let offers = summons.gathered().await;
            let movable = summons.movable();
            assert_eq!(summons.movable_len(), 1);
            let going = movable.go(offers, || Some((HandedSession::default(), socket())));
            let taking = async {
                let offer = gathered.recv().await.unwrap();
                assert_eq!(summons.movable_len(), 0, "it has come");
                if taken {
                    offer.taken.send(()).unwrap();
                }
            };
            let (came, ()) = tokio::join!(going, taking);
            assert_eq!(came, verdict);
        }
        let offers = summons.gathered().await;
        assert_eq!(summons.movable().go(offers, || None).await, Verdict::Unable);
        assert_eq!(summons.movable_len(), 0);
    }
}
