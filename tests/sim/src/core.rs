//! A far end: the real trunk's ends, registry, seats, tokens and session machines; its listener and
//! the relays to the backend are modelled.

mod attachment;
mod bridge;
mod held;
mod resumes;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use antipode_proto::body::INITIAL_CREDIT_BYTES;
use antipode_proto::resume::{Frame, SUBPROTOCOL, Welcome};
use antipode_proto::session::Config;
use antipode_proto::trunk::v1::{Cause, Header, RequestHead, ResponseHead};
use antipode_trunk::peer::Incoming;
use antipode_trunk::{NodeIdentity, SessionPort};
use bytes::Bytes;

use crate::backend::parse_target;
use crate::ctx::{Ctx, NO_TALK};
use crate::event::Ms;
use crate::net::{Answer, End, Item, PipeId, Purpose};
use crate::site::Site;
use crate::trunk_end::Accepted;
use attachment::Attachment;
use bridge::Bridge;
use held::{Held, WINDOW};
use resumes::Resumes;

/// What the backend's socket takes before it has to be read.
const BACKEND_WINDOW_BYTES: usize = 64 * 1024;
/// Silence of a trunk after which the gateway's word that its process is gone is believed.
const GONE_SILENCE: Ms = 2_000;

/// Makes of a run another one, for a node whose sessions were given up.
const FORGOTTEN: u64 = 1 << 63;

/// One core's machine and the process on it.
#[derive(Debug)]
pub struct Core {
    site: Site,
    index: u8,
    lanes: u32,
    config: Config,
    /// Counts the processes that have run here.
    run: u64,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    trunks: BTreeMap<u8, Accepted>,
    opening: Vec<Opening>,
    plain: Vec<(SessionPort, Bridge)>,
    attachments: Vec<Attachment>,
    resumes: Resumes,
    /// Runs of nodes that the gateway says are gone.
    gone: Vec<(u8, u64)>,
    /// Runs of each node's process that a newer one has replaced.
    older_runs: BTreeMap<u8, Vec<u64>>,
}

/// A session whose backend has not answered yet.
#[derive(Debug)]
struct Opening {
    port: SessionPort,
    pipe: PipeId,
    talk: u16,
    attempt: u16,
    is_resumable: bool,
}

impl Core {
    /// A machine with no process.
    #[must_use]
    pub fn new(index: u8, lanes: u32, config: Config) -> Self {
        Self { site: Site::Core(index), index, lanes, config, run: 0, process: None }
    }

    /// A process starts.
    pub fn start(&mut self, ctx: &mut Ctx) {
        if self.process.is_some() {
            return;
        }
        self.run += 1;
        ctx.note(self.site, "starts", NO_TALK, [self.run, 0]);
        self.process = Some(Process {
            trunks: BTreeMap::new(),
            opening: Vec::new(),
            plain: Vec::new(),
            attachments: Vec::new(),
            resumes: Resumes::new(self.index, self.run),
            gone: Vec::new(),
            older_runs: BTreeMap::new(),
        });
    }

    /// The process is gone: what it held is gone with it.
    pub fn stop(&mut self, ctx: &mut Ctx) {
        ctx.note(self.site, "stops", NO_TALK, [self.run, 0]);
        self.process = None;
    }

    /// A new process takes over: the resumable sessions and their backends' sockets. Trunks begin
    /// anew, and whatever stands on them ends.
    pub fn hand_over(&mut self, ctx: &mut Ctx) {
        let Some(process) = &mut self.process else { return };
        self.run += 1;
        ctx.note(self.site, "hands over", NO_TALK, [self.run, 0]);
        for trunk in process.trunks.values_mut() {
            trunk.bare.end_all(Cause::CoreDraining, "a new process takes over");
            trunk.hang_up(ctx);
        }
        process.trunks.clear();
        process.attachments.clear();
        for (_, bridge) in process.plain.drain(..) {
            ctx.close(bridge.pipe, End::Dialler);
        }
        for opening in process.opening.drain(..) {
            ctx.abort(opening.pipe, End::Dialler);
        }
        process.resumes.hand_over(ctx);
        ctx.wake(self.site, ctx.ms);
    }

    /// Whether a process runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// A node dials a lane.
    pub fn accept(&mut self, ctx: &mut Ctx, pipe: PipeId) {
        let Some(process) = &mut self.process else { return };
        let node = ctx.net.far(pipe, End::Acceptor);
        let (Some(Site::Node(node)), Some(Item::Open(Purpose::Lane { run, lane }))) =
            (node, ctx.read(pipe, End::Acceptor))
        else {
            return ctx.abort(pipe, End::Acceptor);
        };
        let (here, lanes, config) = (self.site, self.lanes, core_config(self.config));
        let older = process.older_runs.entry(node).or_default();
        if older.contains(&run) {
            return ctx.abort(pipe, End::Acceptor);
        }
        let known = process.trunks.get(&node).is_some_and(|trunk| trunk.run == run);
        if !known {
            ctx.note(here, "trunk opens", NO_TALK, [node.into(), run]);
            let fresh = Accepted::new(here, run, lanes, config, identity(node));
            if let Some(mut older) = process.trunks.insert(node, fresh) {
                process.older_runs.entry(node).or_default().push(older.run);
                older.bare.end_all(Cause::ClientLost, "the node was restarted");
                older.hang_up(ctx);
            }
        }
        if let Some(trunk) = process.trunks.get_mut(&node) {
            trunk.lane(ctx, lane, pipe, self.run);
        }
    }

    /// The gateway says that this run of a node's process is gone.
    pub fn handle_gone(&mut self, ctx: &mut Ctx, node: u8, run: u64) {
        if let Some(process) = &mut self.process {
            process.gone.push((node, run));
            ctx.wake(self.site, ctx.ms + GONE_SILENCE);
        }
    }

    /// Sessions held: of the trunks, and of resumable clients.
    #[must_use]
    pub fn sessions(&self) -> usize {
        let Some(process) = &self.process else { return 0 };
        let trunks = process.trunks.values();
        trunks.map(|trunk| trunk.bare.sessions_count()).sum::<usize>() + process.resumes.len()
    }

    /// Moves everything that can move.
    pub fn pump(&mut self, ctx: &mut Ctx) {
        let (here, run, config) = (self.site, self.run, self.config);
        let Some(process) = &mut self.process else { return };
        process.end_gone(ctx, run);
        let mut incoming = Vec::new();
        for trunk in process.trunks.values_mut() {
            trunk.pump(ctx);
            incoming.extend(std::iter::from_fn(|| trunk.bare.next_incoming()));
        }
        process.trunks.retain(|_, trunk| !trunk.is_over() || trunk.told_run.is_some());
        incoming.into_iter().for_each(|incoming| process.take(ctx, here, incoming));
        process.pump_opening(ctx, here, config);
        process.plain.retain_mut(|(port, bridge)| {
            port.look(|machine| bridge.check(ctx, machine));
            !bridge.pump(ctx, port)
        });
        // What a relay took from the backend is for an attachment, and the reverse.
        for _ in 0..2 {
            let Process { attachments, resumes, .. } = process;
            attachments.retain_mut(|attachment| !attachment.pump(ctx, resumes));
            resumes.pump(ctx);
        }
        let Process { attachments, resumes, .. } = process;
        attachments.retain_mut(|attachment| !attachment.pump(ctx, resumes));
        process.trunks.values_mut().for_each(|trunk| trunk.flush(ctx));
    }
}

impl Process {
    fn end_gone(&mut self, ctx: &mut Ctx, our_run: u64) {
        let trunks = &mut self.trunks;
        self.gone.retain(|(node, run)| {
            let Some(trunk) = trunks.get_mut(node).filter(|trunk| trunk.run == *run) else {
                return false;
            };
            if trunk.heard + GONE_SILENCE > ctx.ms {
                return true;
            }
            trunk.bare.end_all(Cause::ClientLost, "the node's process has ended");
            trunk.hang_up(ctx);
            // Should it come back all the same, it hears that we have forgotten its sessions.
            trunk.told_run = Some(our_run ^ FORGOTTEN);
            false
        });
    }

    fn take(&mut self, ctx: &mut Ctx, here: Site, incoming: Incoming) {
        let Incoming { head, port, .. } = incoming;
        let Some((talk, attempt)) = parse_target(&head.target) else { return };
        if head.answered_early && head.resumable {
            let response = ResponseHead {
                status: 101,
                headers: vec![chosen(SUBPROTOCOL)],
                ..ResponseHead::default()
            };
            let _ = port.send(response.into());
            let id = self.resumes.next_attachment();
            return self.attachments.push(Attachment::asked(here, talk, id, port, ctx.ms));
        }
        let is_resumable = offers(&head).contains(SUBPROTOCOL);
        let purpose = Purpose::Backend { target: head.target };
        let pipe = ctx.dial(here, Site::Backend, purpose, BACKEND_WINDOW_BYTES);
        ctx.note(here, "asks the backend", talk, [attempt.into(), pipe.0.into()]);
        self.opening.push(Opening { port, pipe, talk, attempt, is_resumable });
    }

    fn pump_opening(&mut self, ctx: &mut Ctx, here: Site, config: Config) {
        for opening in std::mem::take(&mut self.opening) {
            let Opening { port, pipe, talk, attempt, .. } = &opening;
            let left = match port.try_deliver() {
                Ok(None) => false,
                Ok(Some(_)) | Err(_) => true,
            };
            if left {
                ctx.note(here, "client left", *talk, [(*attempt).into(), 0]);
                port.reset(Cause::ClientLost, "the client left before the backend answered");
                ctx.abort(*pipe, End::Dialler);
                continue;
            }
            match ctx.read(*pipe, End::Dialler) {
                None => self.opening.push(opening),
                Some(Item::Answer(Answer::Upgraded { .. })) => {
                    self.opened(ctx, here, config, opening);
                }
                Some(_) => port.reset(Cause::BackendLost, "the backend went"),
            }
        }
    }

    fn opened(&mut self, ctx: &mut Ctx, here: Site, config: Config, opening: Opening) {
        let Opening { port, pipe, talk, is_resumable, .. } = opening;
        let bridge = Bridge::new(here, pipe, talk, ctx.ms);
        let headers = if is_resumable { vec![chosen(SUBPROTOCOL)] } else { Vec::new() };
        let response = ResponseHead { status: 101, headers, ..ResponseHead::default() };
        let _ = port.send(response.into());
        if !is_resumable {
            return self.plain.push((port, bridge));
        }
        let id = self.resumes.next_attachment();
        let (number, token) = self.resumes.draw();
        let welcome = Welcome {
            credit: INITIAL_CREDIT_BYTES,
            window_ms: u64::try_from(WINDOW.as_millis()).expect("two minutes"),
            ping_ms: 10_000,
            token: Bytes::copy_from_slice(token.as_bytes()),
            core: here.to_string(),
            protocol: String::new(),
        };
        let held = Held::new(ctx, config, token, id, bridge, (here, talk));
        let attachment = Attachment::first(here, talk, id, port, number, ctx.ms);
        let _ = attachment.send(Frame::Welcome(welcome));
        self.resumes.insert(number, held);
        self.attachments.push(attachment);
    }
}

/// A core keeps a session without a lane for longer than its node does.
fn core_config(config: Config) -> Config {
    Config { resume_window: config.resume_window + std::time::Duration::from_secs(30), ..config }
}

fn identity(node: u8) -> NodeIdentity {
    let name = format!("node{node}");
    let region = String::new();
    NodeIdentity { member_id: name.clone(), name, region, address: Ipv6Addr::LOCALHOST }
}

fn offers(head: &RequestHead) -> String {
    let header = head.headers.iter().find(|header| header.name == "sec-websocket-protocol");
    header.map_or_else(String::new, |it| String::from_utf8_lossy(&it.value).into_owned())
}

fn chosen(protocol: &str) -> Header {
    let value = protocol.as_bytes().to_vec().into();
    Header { name: "sec-websocket-protocol".to_owned(), value }
}
