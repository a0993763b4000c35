//! Invitations to go elsewhere: the latest one each way.

use std::task::{Context, Poll};

use antipode_proto::trunk::v1::GoAway;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

/// The largest invitation that is kept, address and token together. A larger one is no address.
pub const INVITATION_BYTES_MAX: usize = 4096;

/// One session's invitations. A newer one takes the older one's place, so that nobody can make us
/// keep many.
#[derive(Debug, Default)]
pub(crate) struct Invitations {
    latest: Mutex<Latest>,
    waiting: AtomicWaker,
}

#[derive(Debug, Default)]
struct Latest {
    outward: Option<Box<GoAway>>,
    inward: Option<Box<GoAway>>,
}

impl Invitations {
    /// To the far end, with the session's next turn.
    pub(crate) fn invite(&self, go_away: GoAway) {
        self.latest.lock().outward = Some(Box::new(go_away));
    }

    pub(crate) fn next_outward(&self) -> Option<GoAway> {
        self.latest.lock().outward.take().map(|go_away| *go_away)
    }

    /// The far end's.
    pub(crate) fn handle(&self, go_away: GoAway) {
        if go_away.url.len() + go_away.token.len() <= INVITATION_BYTES_MAX {
            self.latest.lock().inward = Some(Box::new(go_away));
            self.waiting.wake();
        }
    }

    pub(crate) fn poll_invited(&self, task: &mut Context<'_>) -> Poll<GoAway> {
        self.waiting.register(task.waker());
        match self.try_invited() {
            Some(go_away) => Poll::Ready(go_away),
            None => Poll::Pending,
        }
    }

    pub(crate) fn try_invited(&self) -> Option<GoAway> {
        self.latest.lock().inward.take().map(|go_away| *go_away)
    }
}
