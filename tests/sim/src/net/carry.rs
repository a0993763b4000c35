//! How items get from end to end: delays, cuts, resets, room.

use super::{End, Flow, Going, Item, Path, Pipe, PipeId, Purpose, Way, ends, reader_of};
use crate::ctx::Ctx;
use crate::event::{Cut, Event, Ms};
use crate::site::Site;

impl Ctx {
    /// Dials `to`; the purpose arrives there as the first item.
    pub fn dial(&mut self, from: Site, to: Site, purpose: Purpose, window: usize) -> PipeId {
        let id = PipeId(self.net.next);
        self.net.next += 1;
        let pipe = Pipe {
            dialler: from,
            acceptor: to,
            ways: [Flow::default(), Flow::default()],
            held: [true, true],
            is_dead: false,
            window,
        };
        self.net.pipes.insert(id, pipe);
        self.send(id, End::Dialler, Item::Open(purpose));
        id
    }

    /// Puts an item on the wire. Nothing follows a [`Item::Fin`] or a [`Item::Reset`].
    pub fn send(&mut self, id: PipeId, end: End, item: Item) {
        let way = end.writes();
        let Some(pipe) = self.net.pipes.get(&id) else { return };
        let (from, to) = ends(pipe, way);
        let path = self.net.path(from, to);
        let delay = self.delay(path);
        let Some(pipe) = self.net.pipes.get_mut(&id) else { return };
        let flow = &mut pipe.ways[way.index()];
        if flow.is_finished || pipe.is_dead {
            return;
        }
        match &item {
            Item::Bytes(bytes) => flow.outstanding += bytes.len(),
            Item::Fin | Item::Reset => flow.is_finished = true,
            Item::Open(_) | Item::Answer(_) => {}
        }
        if matches!(item, Item::Reset) && self.rng_bool(2) {
            // What waits in the sender's buffer goes with it.
            let flow = &mut self.pipe_mut(id).ways[way.index()];
            flow.flight.clear();
        }
        let now = self.ms;
        let flow = &mut self.pipe_mut(id).ways[way.index()];
        let at = (now + delay).max(flow.flight.back().map_or(0, |(at, _)| *at));
        flow.flight.push_back((at, item));
        self.queue.put(at, Event::Arrive(id, way));
    }

    /// The next item that has arrived at this end.
    pub fn read(&mut self, id: PipeId, end: End) -> Option<Item> {
        let way = end.reads();
        let pipe = self.net.pipes.get_mut(&id)?;
        let item = pipe.ways[way.index()].inbox.pop_front()?;
        if let Item::Bytes(bytes) = &item {
            let (from, to) = ends(pipe, way);
            let back = self.net.latency(from, to);
            self.queue.put(self.ms + back, Event::Room(id, way, bytes.len()));
        }
        Some(item)
    }

    /// Whether something can be read at this end.
    #[must_use]
    pub fn has_read(&self, id: PipeId, end: End) -> bool {
        let pipe = self.net.pipes.get(&id);
        pipe.is_some_and(|pipe| !pipe.ways[end.reads().index()].inbox.is_empty())
    }

    /// The process is done with its end: it says so, and whatever still comes meets a reset.
    pub fn close(&mut self, id: PipeId, end: End) {
        self.send(id, end, Item::Fin);
        self.let_go(id, end);
    }

    /// Hangs up: the other end is told at once, if the path carries it.
    pub fn abort(&mut self, id: PipeId, end: End) {
        self.send(id, end, Item::Reset);
        self.let_go(id, end);
    }

    /// Whether the pipe's purpose has arrived and nobody has read it.
    #[must_use]
    pub fn is_new(&self, id: PipeId) -> bool {
        let inbox = self.net.pipes.get(&id).map(|pipe| &pipe.ways[Way::Forth.index()].inbox);
        inbox.is_some_and(|inbox| matches!(inbox.front(), Some(Item::Open(_))))
    }

    /// Somebody in the middle resets the stream: both ends are told.
    pub fn cut_stream(&mut self, id: PipeId) {
        self.reset_from(id, End::Dialler);
        self.reset_from(id, End::Acceptor);
    }

    /// From now on nothing passes, and only this end is told.
    pub fn deaden_one(&mut self, id: PipeId, told: End) {
        self.deaden(id);
        if let Some(pipe) = self.net.pipes.get_mut(&id) {
            pipe.ways[told.reads().index()].inbox.push_back(Item::Reset);
            let site = ends(pipe, told.reads()).1;
            self.wake(site, self.ms);
        }
    }

    fn reset_from(&mut self, id: PipeId, end: End) {
        let Some(pipe) = self.net.pipes.get_mut(&id) else { return };
        // What is under way is lost.
        pipe.ways[end.writes().index()].flight.clear();
        self.send(id, end, Item::Reset);
    }

    /// What is under way to this end, as much as its process has in its buffers already when the
    /// pipe is given up: up to two items.
    pub fn take_late(&mut self, id: PipeId, end: End) -> Vec<Item> {
        let count = self.rng_usize(3);
        let Some(pipe) = self.net.pipes.get_mut(&id) else { return Vec::new() };
        let flow = &mut pipe.ways[end.reads().index()];
        if pipe.is_dead || flow.is_stuck {
            return Vec::new();
        }
        let count = count.min(flow.flight.len());
        flow.flight.drain(..count).map(|(_, item)| item).collect()
    }

    /// TCP's keep-alive: an end whose other end is gone without a word learns of it.
    pub fn keep_alive(&mut self, id: PipeId, end: End) {
        let Some(pipe) = self.net.pipes.get_mut(&id) else { return };
        let far = reader_of(end.writes());
        if !pipe.held[far.index()] && pipe.ways[end.reads().index()].flight.is_empty() {
            pipe.ways[end.reads().index()].inbox.push_back(Item::Reset);
        }
    }

    /// From now on nothing passes, and nobody is told.
    pub fn deaden(&mut self, id: PipeId) {
        if let Some(pipe) = self.net.pipes.get_mut(&id) {
            pipe.is_dead = true;
            pipe.ways.iter_mut().for_each(|flow| flow.flight.clear());
        }
    }

    /// All ends of a site's process go.
    pub fn drop_ends(&mut self, site: Site, going: Going) {
        for id in self.net.pipes_of(site) {
            let pipe = self.pipe_mut(id);
            let ends = [(End::Dialler, pipe.dialler), (End::Acceptor, pipe.acceptor)];
            for (end, _) in ends.into_iter().filter(|(_, owner)| *owner == site) {
                if !self.pipe_mut(id).held[end.index()] {
                    continue;
                }
                match going {
                    Going::Killed if self.rng_bool(2) => self.close(id, end),
                    Going::Killed => self.abort(id, end),
                    Going::Silent => self.let_go(id, end),
                }
            }
        }
    }

    /// The machine loses its power, or gets it back.
    pub fn set_off(&mut self, site: Site, is_off: bool) {
        self.net.off.retain(|off| *off != site);
        if is_off {
            self.net.off.push(site);
        } else {
            self.release(|pipe, way| ends(pipe, way).1 == site);
        }
    }

    /// Cuts a path, or takes one cut back.
    pub fn set_cut(&mut self, a: Site, b: Site, cut: Cut, is_cut: bool) {
        let ways = match cut {
            Cut::Both => vec![(a, b), (b, a)],
            Cut::Forth => vec![(a, b)],
            Cut::Back => vec![(b, a)],
        };
        for (from, to) in ways {
            let count = &mut self.net.path_mut(a, b).cuts[usize::from(from > to)];
            *count = if is_cut { *count + 1 } else { count.saturating_sub(1) };
        }
        if !is_cut {
            self.release(|pipe, way| {
                let (from, to) = ends(pipe, way);
                (from, to) == (a, b) || (from, to) == (b, a)
            });
        }
    }

    /// An [`Event::Arrive`]: returns the site at whose process something is to be read now.
    pub fn handle_arrive(&mut self, id: PipeId, way: Way) -> Option<Site> {
        let pipe = self.net.pipes.get(&id)?;
        let (from, to) = ends(pipe, way);
        let is_stuck = self.net.is_cut(from, to) || self.net.is_off(to);
        let (now, is_dead) = (self.ms, pipe.is_dead);
        let reader = reader_of(way);
        let pipe = self.net.pipes.get_mut(&id)?;
        let is_held = pipe.held[reader.index()];
        let flow = &mut pipe.ways[way.index()];
        let front = flow.flight.front().filter(|(at, _)| *at <= now)?;
        if is_dead {
            flow.flight.clear();
            return None;
        }
        if is_stuck {
            flow.is_stuck = true;
            return None;
        }
        let hung_up = matches!(front.1, Item::Reset);
        let (_, item) = flow.flight.pop_front()?;
        if is_held {
            flow.inbox.push_back(item);
            if hung_up {
                let resets = |(_, item): &(Ms, Item)| matches!(item, Item::Reset);
                pipe.ways.iter_mut().for_each(|flow| flow.flight.retain(resets));
            }
            return Some(to);
        }
        if !hung_up {
            self.send(id, reader, Item::Reset);
        }
        self.forget_if_over(id);
        None
    }

    /// An [`Event::Room`]: returns the site whose process may write again.
    pub fn handle_room(&mut self, id: PipeId, way: Way, len: usize) -> Option<Site> {
        let pipe = self.net.pipes.get(&id)?;
        let (from, to) = ends(pipe, way);
        let is_cut = self.net.is_cut(to, from);
        let pipe = self.net.pipes.get_mut(&id)?;
        if pipe.is_dead {
            return None;
        }
        let flow = &mut pipe.ways[way.index()];
        if is_cut {
            flow.room_held += len;
            return None;
        }
        flow.outstanding = flow.outstanding.saturating_sub(len);
        Some(from)
    }

    /// How long an item or a letter takes; loss makes it longer.
    pub fn path_delay(&mut self, a: Site, b: Site) -> Ms {
        let path = self.net.path(a, b);
        self.delay(path)
    }

    fn delay(&mut self, path: Path) -> Ms {
        let mut delay = path.latency + path.slower + self.rng_below(path.jitter + 1);
        let loss = u64::from(path.loss_percent) + u64::from(path.lossier);
        let mut again = 3 * (path.latency + path.slower) + 10;
        while self.rng_below(100) < loss.min(60) {
            delay += again;
            again = (again * 2).min(2_000);
        }
        delay
    }

    fn release(&mut self, of: impl Fn(&Pipe, Way) -> bool) {
        let mut events = Vec::new();
        for (id, pipe) in &mut self.net.pipes {
            for way in [Way::Forth, Way::Back] {
                if !of(pipe, way) {
                    continue;
                }
                let flow = &mut pipe.ways[way.index()];
                if std::mem::take(&mut flow.is_stuck) {
                    events.extend(flow.flight.iter().map(|_| Event::Arrive(*id, way)));
                }
                let back = &mut pipe.ways[1 - way.index()];
                let held = std::mem::take(&mut back.room_held);
                if held > 0 {
                    let other = if way == Way::Forth { Way::Back } else { Way::Forth };
                    events.push(Event::Room(*id, other, held));
                }
            }
        }
        // TCP tries again on its own clock, QUIC within its probe timeout.
        let wait = self.rng_below(400) + 1;
        let at = self.ms + wait;
        events.into_iter().for_each(|event| self.queue.put(at, event));
    }

    fn let_go(&mut self, id: PipeId, end: End) {
        let Some(pipe) = self.net.pipes.get_mut(&id) else { return };
        pipe.held[end.index()] = false;
        pipe.ways[end.reads().index()].inbox.clear();
        self.forget_if_over(id);
    }

    fn forget_if_over(&mut self, id: PipeId) {
        let over = |pipe: &Pipe| {
            pipe.held == [false; 2] && pipe.ways.iter().all(|flow| flow.flight.is_empty())
        };
        if self.net.pipes.get(&id).is_some_and(over) {
            self.net.pipes.remove(&id);
        }
    }

    fn pipe_mut(&mut self, id: PipeId) -> &mut Pipe {
        self.net.pipes.get_mut(&id).expect("looked up a moment ago")
    }
}
