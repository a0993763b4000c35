//! Reliable streams over paths that delay, lose and break, and what a kernel does when its process
//! or its machine dies.
//!
//! Loss on a stream shows as delay. A cut path holds what is under way; when it heals, the stream
//! goes on after a retransmission. A process that is killed is hung up on by its kernel; a machine
//! that loses power says nothing, and neither does a mapping that a roaming client leaves behind.

mod carry;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::event::Ms;
use crate::site::Site;

/// One stream between two sites, for as long as the world lasts.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PipeId(pub u32);

/// A direction of a pipe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// From who dialled.
    Forth,
    /// To who dialled.
    Back,
}

/// An end of a pipe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Who dialled.
    Dialler,
    /// Who was dialled.
    Acceptor,
}

/// What travels on a pipe.
#[derive(Clone, Debug)]
pub enum Item {
    /// The first item: why the pipe is dialled.
    Open(Purpose),
    /// The first item back.
    Answer(Answer),
    /// Bytes of the stream; of a lane, one batch.
    Bytes(Bytes),
    /// Nothing follows this way.
    Fin,
    /// Hung up.
    Reset,
}

/// Why a pipe is dialled.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// A lane of a trunk: `Hello` and the node's name.
    Lane {
        /// The run of the node's process.
        run: u64,
        /// The lane.
        lane: u32,
    },
    /// An upgrade request of a client.
    Client {
        /// The subprotocols that it offers.
        offers: Vec<String>,
        /// Path of the request.
        target: String,
    },
    /// An upgrade request at the backend.
    Backend {
        /// Path of the request.
        target: String,
    },
}

/// The answer to the purpose.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The core greets, with the run of its process.
    Lane {
        /// The run.
        run: u64,
    },
    /// 101, with the subprotocol that was chosen.
    Upgraded {
        /// Empty: none.
        protocol: String,
    },
    /// Any other status.
    Refused {
        /// The status.
        status: u16,
    },
}

/// How the ends of a site's pipes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Going {
    /// The process died: its kernel hangs up on everybody.
    Killed,
    /// The machine is without power: nobody is told.
    Silent,
}

/// All pipes and paths.
#[derive(Debug, Default)]
pub struct Net {
    pipes: BTreeMap<PipeId, Pipe>,
    paths: BTreeMap<(Site, Site), Path>,
    /// Machines without power.
    off: Vec<Site>,
    next: u32,
}

#[derive(Debug)]
struct Pipe {
    dialler: Site,
    acceptor: Site,
    ways: [Flow; 2],
    /// Whether the process at the end still holds it: dialler, acceptor.
    held: [bool; 2],
    /// Nothing passes any more, and nobody is told.
    is_dead: bool,
    window: usize,
}

#[derive(Debug, Default)]
struct Flow {
    flight: VecDeque<(Ms, Item)>,
    inbox: VecDeque<Item>,
    /// Bytes sent and not known to be read.
    outstanding: usize,
    /// Room that could not be told because the way back is cut.
    room_held: usize,
    is_finished: bool,
    /// The front of `flight` met a cut path.
    is_stuck: bool,
}

/// One path between two sites.
#[derive(Clone, Copy, Debug)]
struct Path {
    latency: Ms,
    jitter: Ms,
    loss_percent: u8,
    /// Cuts of each way that are in force: from the lesser site, from the greater.
    cuts: [u8; 2],
    /// A fault adds this.
    slower: Ms,
    lossier: u8,
}

impl Default for Path {
    fn default() -> Self {
        Self { latency: 10, jitter: 3, loss_percent: 0, cuts: [0; 2], slower: 0, lossier: 0 }
    }
}

impl Way {
    const fn index(self) -> usize {
        match self {
            Self::Forth => 0,
            Self::Back => 1,
        }
    }
}

impl End {
    /// The way that this end writes.
    #[must_use]
    pub const fn writes(self) -> Way {
        match self {
            Self::Dialler => Way::Forth,
            Self::Acceptor => Way::Back,
        }
    }

    /// The way that this end reads.
    #[must_use]
    pub const fn reads(self) -> Way {
        match self {
            Self::Dialler => Way::Back,
            Self::Acceptor => Way::Forth,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Dialler => 0,
            Self::Acceptor => 1,
        }
    }
}

impl Net {
    /// How long the path is when all is well.
    pub fn set_path(&mut self, a: Site, b: Site, latency: Ms, jitter: Ms, loss_percent: u8) {
        *self.path_mut(a, b) = Path { latency, jitter, loss_percent, ..Path::default() };
    }

    /// Makes a path slower and lossier, or takes that back.
    pub fn set_slower(&mut self, a: Site, b: Site, slower: Ms, lossier: u8) {
        let path = self.path_mut(a, b);
        (path.slower, path.lossier) = (slower, lossier);
    }

    /// Whether nothing gets from `from` to `to` now.
    #[must_use]
    pub fn is_cut(&self, from: Site, to: Site) -> bool {
        self.path(from, to).cuts[usize::from(from > to)] > 0
    }

    /// One way of a path, without jitter.
    #[must_use]
    pub fn latency(&self, a: Site, b: Site) -> Ms {
        let path = self.path(a, b);
        path.latency + path.slower
    }

    /// Whether the site's machine is without power.
    #[must_use]
    pub fn is_off(&self, site: Site) -> bool {
        self.off.contains(&site)
    }

    /// Who is at the other end.
    #[must_use]
    pub fn far(&self, pipe: PipeId, end: End) -> Option<Site> {
        let pipe = self.pipes.get(&pipe)?;
        Some(match end {
            End::Dialler => pipe.acceptor,
            End::Acceptor => pipe.dialler,
        })
    }

    /// How many bytes this end may write now.
    #[must_use]
    pub fn room(&self, pipe: PipeId, end: End) -> usize {
        let Some(pipe) = self.pipes.get(&pipe) else { return 0 };
        let flow = &pipe.ways[end.writes().index()];
        if flow.is_finished { 0 } else { pipe.window.saturating_sub(flow.outstanding) }
    }

    /// Bytes that this end has written and the other has not read.
    #[must_use]
    pub fn outstanding(&self, pipe: PipeId, end: End) -> usize {
        self.pipes.get(&pipe).map_or(0, |pipe| pipe.ways[end.writes().index()].outstanding)
    }

    /// Pipes with an end at this site.
    #[must_use]
    pub fn pipes_of(&self, site: Site) -> Vec<PipeId> {
        let here = |pipe: &&Pipe| pipe.dialler == site || pipe.acceptor == site;
        self.pipes.iter().filter(|(_, pipe)| here(pipe)).map(|(id, _)| *id).collect()
    }

    /// Pipes that this site dialled to that one.
    #[must_use]
    pub fn pipes_between(&self, dialler: Site, acceptor: Site) -> Vec<PipeId> {
        let between = |pipe: &&Pipe| pipe.dialler == dialler && pipe.acceptor == acceptor;
        self.pipes.iter().filter(|(_, pipe)| between(pipe)).map(|(id, _)| *id).collect()
    }

    fn path(&self, a: Site, b: Site) -> Path {
        self.paths.get(&(a.min(b), a.max(b))).copied().unwrap_or_default()
    }

    fn path_mut(&mut self, a: Site, b: Site) -> &mut Path {
        self.paths.entry((a.min(b), a.max(b))).or_default()
    }
}

fn ends(pipe: &Pipe, way: Way) -> (Site, Site) {
    match way {
        Way::Forth => (pipe.dialler, pipe.acceptor),
        Way::Back => (pipe.acceptor, pipe.dialler),
    }
}

const fn reader_of(way: Way) -> End {
    match way {
        Way::Forth => End::Acceptor,
        Way::Back => End::Dialler,
    }
}
