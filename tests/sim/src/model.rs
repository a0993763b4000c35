//! What must be true of every talk: the reference that the world is held against.
//!
//! Applications tell it what they say and hear; whoever breaks something tells it whom that may
//! cost what. Everything else is a failure.

mod finally;

use std::collections::BTreeMap;

use antipode_proto::session::Session;

use crate::event::Ms;
use crate::message::{Direction, Message};
use crate::plan::{Closer, Kind, TalkPlan};

/// The first thing that was not as it must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// When.
    pub at: Ms,
    /// In which talk, if in one.
    pub talk: Option<u16>,
    /// What.
    pub what: String,
}

/// All talks, and the first failure.
#[derive(Debug, Default)]
pub struct Model {
    /// By number.
    pub talks: Vec<Talk>,
    /// The first.
    pub failure: Option<Failure>,
    /// Most bytes that one session may have got and not given on, at one end.
    pub credit_max: u64,
    /// Most bytes that one session may keep for a replay.
    pub unacked_max: u64,
    /// Nodes without a process, and since when.
    pub gone: BTreeMap<u8, Ms>,
}

/// One talk as its two applications see it.
#[derive(Debug)]
pub struct Talk {
    /// What it is meant to be.
    pub plan: TalkPlan,
    /// Upgrades asked for so far; each is an attempt with its own socket at the backend.
    pub attempts: u16,
    /// The attempt that became the talk.
    pub established: Option<u16>,
    /// Messages that the client's application has said and heard.
    pub client: Said,
    /// The same of the backend's application, by attempt.
    pub backend: BTreeMap<u16, BackendSide>,
    /// The close that the client's application asked for.
    pub client_closed: bool,
    /// How the client's application saw it end.
    pub client_end: Option<ClientEnd>,
    /// Why the session may end before its time, if it may.
    pub excuse: Option<&'static str>,
    /// When the first application closed.
    pub closing: Option<Ms>,
    /// Whether its core has heard the client since it was welcomed.
    pub confirmed: bool,
}

/// What an application has said and heard, in messages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Said {
    /// Said.
    pub said: u32,
    /// Heard, in order.
    pub heard: u32,
}

/// A socket at the backend.
#[derive(Clone, Debug, Default)]
pub struct BackendSide {
    /// What its application has said and heard.
    pub said: Said,
    /// The backend's application has closed it.
    pub closed: bool,
    /// How it ended.
    pub end: Option<BackendEnd>,
}

/// How a client's application sees the end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientEnd {
    /// A close frame, or an end of the resume protocol.
    Closed(Option<u16>),
    /// The session can't be resumed, and it was said so.
    Refused(i32),
    /// The socket ended without a close frame.
    Lost,
    /// The client's process died.
    Died,
}

/// How the backend sees the end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BackendEnd {
    /// A close frame.
    Closed(Option<u16>),
    /// The socket ended without one.
    Lost,
}

/// What a session may hold beyond a limit: a segment that overshoots, and an end.
const OVERSHOOT_BYTES: u64 = 2 * (16 * 1024 + 64);

/// How long a close may take on a plain socket before it counts as unanswered.
const CLOSE_MAX: Ms = 9_000;

/// The close code of a client's application.
pub const CLIENT_CODE: u16 = 4201;
/// The close code of the backend's application.
pub const BACKEND_CODE: u16 = 4302;

impl Model {
    /// Talks that have not begun.
    #[must_use]
    pub fn new(plans: Vec<TalkPlan>) -> Self {
        let talk = |plan| Talk {
            plan,
            attempts: 0,
            established: None,
            client: Said::default(),
            backend: BTreeMap::new(),
            client_closed: false,
            client_end: None,
            excuse: None,
            closing: None,
            confirmed: false,
        };
        Self { talks: plans.into_iter().map(talk).collect(), ..Self::default() }
    }

    /// Something is not as it must be; the first counts.
    pub fn fail(&mut self, at: Ms, talk: Option<u16>, what: impl Into<String>) {
        self.failure.get_or_insert_with(|| Failure { at, talk, what: what.into() });
    }

    /// What a machine keeps for a replay, and what it has got and not given on, are each within
    /// their limits.
    pub fn check_held(&mut self, at: Ms, talk: u16, machine: &Session) {
        let kept = machine.unacked_bytes();
        let got = machine.held_bytes().saturating_sub(kept);
        if kept > self.unacked_max + OVERSHOOT_BYTES {
            self.fail(at, Some(talk), format!("{kept} bytes are kept for a replay"));
        }
        if got > self.credit_max + OVERSHOOT_BYTES {
            self.fail(at, Some(talk), format!("{got} bytes wait to be taken"));
        }
    }

    /// From here on the talk may end early; it may still not lie.
    pub fn excuse(&mut self, talk: u16, why: &'static str) {
        self.talk(talk).excuse.get_or_insert(why);
    }

    /// One talk.
    ///
    /// # Panics
    ///
    /// If there is none of this number.
    pub fn talk(&mut self, talk: u16) -> &mut Talk {
        self.talks.get_mut(usize::from(talk)).expect("talks are numbered from 0")
    }

    /// An application hears a message: it has to be the next one that was said.
    pub fn heard(&mut self, at: Ms, talk: u16, attempt: u16, direction: Direction, bytes: &[u8]) {
        if let Err(what) = self.check_heard(talk, attempt, direction, bytes) {
            self.fail(at, Some(talk), what);
        }
    }

    /// An application closes.
    pub fn closes(&mut self, at: Ms, talk: u16) {
        self.talk(talk).closing.get_or_insert(at);
    }

    /// A close that is not answered for 10 s is not waited for any longer by a plain socket's hops.
    fn excuse_long_close(&mut self, at: Ms, talk: u16) {
        let it = self.talk(talk);
        let is_long = it.closing.is_some_and(|since| since + CLOSE_MAX < at);
        if it.plan.kind == Kind::Plain && is_long {
            self.excuse(talk, "the close was not answered in time");
        }
    }

    /// The client's application sees the end.
    pub fn client_ended(&mut self, at: Ms, talk: u16, end: ClientEnd) {
        self.excuse_long_close(at, talk);
        if self.talk(talk).client_end.replace(end).is_some() {
            self.fail(at, Some(talk), "the client's socket ended twice");
        }
    }

    /// The backend sees the end of a socket.
    pub fn backend_ended(&mut self, at: Ms, talk: u16, attempt: u16, end: BackendEnd) {
        self.excuse_long_close(at, talk);
        let it = self.talk(talk);
        let is_live = it.established == Some(attempt);
        let may_end = it.client_closed || it.excuse.is_some() || !is_live;
        let unconfirmed = it.plan.kind == Kind::Resumable && !it.confirmed;
        let side = it.backend.entry(attempt).or_default();
        let closed = side.closed;
        let is_first = side.end.is_none();
        side.end.get_or_insert_with(|| end.clone());
        if !is_first {
            self.fail(at, Some(talk), "the backend's socket ended twice");
        } else if !(may_end || closed || unconfirmed) {
            let what = format!("the backend saw {end:?} while its client could still go on");
            self.fail(at, Some(talk), what);
        } else if end == BackendEnd::Closed(Some(CLIENT_CODE)) && !self.talk(talk).client_closed {
            self.fail(at, Some(talk), "the backend saw a close that no client had said");
        }
    }

    fn check_heard(
        &mut self,
        talk: u16,
        attempt: u16,
        direction: Direction,
        bytes: &[u8],
    ) -> Result<(), String> {
        let message = Message::read(bytes).map_err(|mangled| mangled.0)?;
        let whose = (message.talk, message.attempt, message.direction);
        if whose != (talk, attempt, direction) {
            return Err(format!("{message} was heard by talk {talk}.{attempt}"));
        }
        let it = self.talk(talk);
        let backend = it.backend.entry(attempt).or_default();
        let (sizes, said, heard) = match direction {
            Direction::Up => (&it.plan.up, it.client.said, &mut backend.said.heard),
            Direction::Down => (&it.plan.down, backend.said.said, &mut it.client.heard),
        };
        if message.number != *heard {
            let what = if message.number < *heard { "again or late" } else { "behind a gap" };
            return Err(format!("{message} came {what}: number {heard} was next"));
        }
        if message.number >= said {
            return Err(format!("{message} was heard before it was said"));
        }
        let len = usize::try_from(message.number).ok().and_then(|at| sizes.get(at));
        if len.is_none_or(|(_, len)| *len != message.len) {
            return Err(format!("{message} has another length"));
        }
        *heard += 1;
        Ok(())
    }
}

impl Talk {
    /// The live attempt's socket at the backend.
    #[must_use]
    pub fn live(&self) -> Option<&BackendSide> {
        self.backend.get(&self.established?)
    }

    /// Whether the client's application has said all it had to say.
    #[must_use]
    pub fn client_said_all(&self) -> bool {
        is_all(self.client.said, self.plan.up.len())
    }

    /// Whether it has heard all.
    #[must_use]
    pub fn client_heard_all(&self) -> bool {
        is_all(self.client.heard, self.plan.down.len())
    }

    /// Whether it is the client's turn to close now.
    #[must_use]
    pub fn client_should_close(&self) -> bool {
        match self.plan.closer {
            Closer::ClientAtOnce => self.client_said_all(),
            Closer::ClientHavingHeardAll => self.client_said_all() && self.client_heard_all(),
            Closer::BackendHavingHeardAll | Closer::BackendAtOnce => false,
        }
    }

    /// Whether it is the backend's turn to close the socket of this attempt.
    #[must_use]
    pub fn backend_should_close(&self, attempt: u16) -> bool {
        let Some(side) = self.backend.get(&attempt) else { return false };
        let said_all = is_all(side.said.said, self.plan.down.len());
        let heard_all = is_all(side.said.heard, self.plan.up.len());
        match self.plan.closer {
            Closer::BackendAtOnce => said_all,
            Closer::BackendHavingHeardAll => said_all && heard_all,
            Closer::ClientHavingHeardAll | Closer::ClientAtOnce => false,
        }
    }
}

/// Whether so many are all of them.
pub(crate) fn is_all(count: u32, of: usize) -> bool {
    usize::try_from(count) == Ok(of)
}
