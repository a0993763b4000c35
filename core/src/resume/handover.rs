//! Resumable sessions and their attachments on their way from one process to the next. A client
//! whose attachment comes along notices nothing; one that is away comes back with its token.

use std::sync::Arc;

use antipode_proto::handover::v1::{HandedAttachment, ResumePlace, from_predecessor};
use antipode_proto::session::Session;
use antipode_proto::trunk::v1::SessionKind;
use antipode_trunk::SessionPort;
use tracing::{Instrument, info_span};

use super::attachment::{self, Socket};
use super::held::Held;
use super::message::Assembler;
use super::seat::AttachmentId;
use super::serve::serve;
use super::token::SessionId;
use crate::bridge::websocket::Parts;
use crate::bridge::{Bridge, OpenSession};
use crate::handover::Made;

/// An attachment of another process, with its place on a trunk of ours.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) port: SessionPort,
    /// What has come of a message.
    pub(crate) assembler: Assembler,
}

/// What another process needs of an attachment. `None` for one that has not the session any more.
pub(super) fn export(held: &Held, id: AttachmentId, socket: &Socket) -> Option<Made> {
    if !held.is_held_by(id) {
        return None;
    }
    let mut handed = HandedAttachment {
        place: Some(socket.port().place()?),
        machine: Some(socket.port().export()?),
        session: held.id().bytes().to_vec().into(),
        ..HandedAttachment::default()
    };
    socket.assembler().export(&mut handed);
    Some((from_predecessor::Kind::Attachment(handed), None))
}

/// Goes on with a session of another process, as a task of its own, and with its attachment as
/// another. `false`: with that number there is none.
pub(crate) fn inherit(
    bridge: &Arc<Bridge>,
    place: &ResumePlace,
    mut machine: Session,
    answering: bool,
    (backend, mut parts): (&str, Parts),
    carrier: Option<Attachment>,
) -> bool {
    let Ok(id) = <[u8; 16]>::try_from(&*place.session) else { return false };
    let (id, resume) = (SessionId::new(id), &bridge.resume);
    let token = resume.registry.lock().token(id);
    let mut place = resume.keep_place();
    let metrics = bridge.metrics.resume.clone();
    let carrier = carrier.map(|carrier| (resume.next_attachment(), carrier));
    if carrier.is_some() {
        machine.handle_link_kept(answering);
    }
    let number = carrier.as_ref().map_or(0, |(_, carrier)| carrier.port.id());
    let holder = carrier.as_ref().map(|(id, _)| *id);
    let held = Held::inherit((id, token), (machine, number), holder, &resume.budget, metrics);
    resume.insert(&mut place, &held);
    if let Some((by, Attachment { port, assembler })) = carrier {
        attachment::spawn(bridge, Arc::clone(&held), by, Socket::go_on(port, assembler));
    }
    parts.assign(bridge.backends().assigned(backend));
    let serving = Arc::clone(bridge);
    let session = async move {
        let bridge = serving;
        bridge.metrics.session_opened(SessionKind::Websocket);
        let open = OpenSession::new(&bridge.metrics);
        let _room = bridge.room.keep();
        let outcome = Box::pin(serve(&bridge, &held, parts)).await;
        drop(place);
        open.close(outcome.unwrap_or_else(|ended| ended.cause));
    };
    let span = info_span!("session", resumable = true);
    bridge.shutdown.spawn(session.instrument(span));
    true
}
