//! What happens next: the one queue of a world, in virtual milliseconds.

use std::collections::BTreeMap;

use crate::letter::Letter;
use crate::net::{PipeId, Way};
use crate::site::Site;

/// Virtual milliseconds since the world began.
pub type Ms = u64;

/// Something that happens at its time.
#[derive(Clone, Debug)]
pub enum Event {
    /// The next item of this direction of a pipe may have arrived.
    Arrive(PipeId, Way),
    /// The far end has read so many bytes: there is room again.
    Room(PipeId, Way, usize),
    /// A host asked to be woken.
    Wake(Site),
    /// A message between the gateway and somebody.
    Letter {
        /// Who sent it.
        from: Site,
        /// Who gets it.
        to: Site,
        /// What it says.
        letter: Letter,
    },
    /// The fault with this index in the schedule begins.
    Fault(usize),
    /// What a fault changed goes back.
    Repair(Repair),
}

/// The end of a fault that lasts.
#[derive(Clone, Copy, Debug)]
pub enum Repair {
    /// A path carries again.
    Heal(Site, Site, Cut),
    /// A path is as fast as before.
    Smooth(Site, Site),
    /// A process starts.
    Start(Site),
    /// A process that was stopped in its tracks goes on.
    Thaw(Site),
}

/// Which ways of a path are cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cut {
    /// Both.
    Both,
    /// Only from the first named to the second.
    Forth,
    /// Only from the second named to the first.
    Back,
}

/// Events by time, and among those of one time in the order in which they were put in.
#[derive(Debug, Default)]
pub struct Queue {
    events: BTreeMap<(Ms, u64), Event>,
    count: u64,
}

impl Queue {
    /// Puts an event in.
    pub fn put(&mut self, at: Ms, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    /// Takes the next event with its time.
    pub fn take(&mut self) -> Option<(Ms, Event)> {
        let ((at, _), event) = self.events.pop_first()?;
        Some((at, event))
    }

    /// Events put in so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}
