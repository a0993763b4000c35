//! A resumable session from its upgrade to its end, and an upgrade that goes on with one.

use std::sync::Arc;
use std::time::Duration;

use antipode_proto::body::INITIAL_CREDIT_BYTES;
use antipode_proto::resume::{Frame, Welcome};
use antipode_proto::trunk::v1::{Cause, RequestHead, Reset, ResponseHead};
use antipode_trunk::{Ended, SessionPort};
use bytes::Bytes;
use http::StatusCode;
use tokio::time::timeout;
use tracing::debug;

use super::attachment::{self, Broken, NOT_RESUMED, Socket};
use super::held::Held;
use super::offer;
use super::seat::AttachmentId;
use super::token::SessionId;
use super::{Place, Refusal};
use crate::bridge::websocket::{self, Asked, Open, Parts};
use crate::bridge::{Answer, Bridge, OpenSession};
use crate::metrics::cause_label;

/// Serves a client that begins a session, for as long as the session lasts.
pub(crate) async fn begin(
    bridge: Arc<Bridge>,
    mut head: RequestHead,
    port: SessionPort,
    place: Place,
) {
    offer::drop_extensions(&mut head);
    bridge.metrics.session_opened(head.kind());
    let open = OpenSession::new(&bridge.metrics);
    let (cause, detail) = match Box::pin(carry(&bridge, head, port, place)).await {
        Ok(cause) => (cause, String::new()),
        Err(Ended { cause, detail }) => (cause, detail),
    };
    open.close(cause);
    debug!(cause = cause_label(cause), detail, "session closed");
}

async fn carry(
    bridge: &Arc<Bridge>,
    head: RequestHead,
    port: SessionPort,
    mut place: Place,
) -> Result<Cause, Ended> {
    let port = Arc::new(port);
    let Some(_room) = bridge.room.take() else {
        let outcome = bridge.answer(&head, &port, Answer::CoreFull).await;
        port.finished().await;
        return outcome;
    };
    let asked = tokio::select! {
        asked = websocket::ask(bridge, &head, &port) => asked,
        () = bridge.grace_over() => {
            port.reset(Cause::CoreDraining, "the core is draining");
            Ok(Asked::Answered(Cause::CoreDraining))
        }
    };
    let mut open = match asked {
        Ok(Asked::Open(open)) => open,
        Ok(Asked::Answered(cause)) => {
            port.finished().await;
            return Ok(cause);
        }
        Err(ended) => return Err(ended),
    };
    let port = Arc::into_inner(port).expect("whoever asked a backend is done");
    let number = port.id();
    let first = bridge.resume.next_attachment();
    let held = hold(bridge, &mut place, first, number);
    let socket = Socket::new(port);
    if let Err(ended) = welcome(bridge, &held, &mut open, &socket) {
        held.leave(first);
        return Err(ended);
    }
    attachment::spawn(bridge, Arc::clone(&held), first, socket);
    serve(bridge, &held, open.into_parts()).await
}

/// Makes the session, which can be found from here on.
fn hold(bridge: &Bridge, place: &mut Place, first: AttachmentId, number: u64) -> Arc<Held> {
    let resume = &bridge.resume;
    let id = SessionId::new(rand::random());
    let token = resume.registry.lock().token(id);
    let metrics = bridge.metrics.resume.clone();
    let held = Held::new((id, token), (first, number), &resume.table, &resume.budget, metrics);
    resume.insert(place, &held);
    held
}

/// Answers the upgrade, and tells the client what it needs to come back.
fn welcome(bridge: &Bridge, held: &Held, open: &mut Open, socket: &Socket) -> Result<(), Ended> {
    let resume = &bridge.resume;
    let mut response = open.response_head();
    let protocol = offer::answer(&mut response.headers);
    socket.port().send(response.into())?;
    socket.send(Frame::Welcome(Welcome {
        credit: INITIAL_CREDIT_BYTES,
        window_ms: millis(resume.table.window),
        ping_ms: millis(resume.table.ping_interval),
        token: Bytes::copy_from_slice(held.token().as_bytes()),
        core: resume.core.clone(),
        protocol,
    }))
}

/// Relays between the backend's socket and the session, whoever carries it.
pub(super) async fn serve(bridge: &Bridge, held: &Held, mut parts: Parts) -> Result<Cause, Ended> {
    parts.belongs_to(held.id());
    let carried = async {
        let outcome = websocket::go_on(bridge, held.port(), parts).await;
        tokio::select! {
            () = held.over() => {}
            // There is no socket any more that a successor could go on with.
            () = bridge.summons.told_to_leave() => {
                held.reset(Cause::CoreDraining, "the core restarts");
                held.over().await;
            }
        }
        outcome
    };
    let cut = async {
        bridge.grace_over().await;
        held.reset(Cause::CoreDraining, "the core is draining");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = Box::pin(carried) => outcome,
        () = held.expire() => unreachable!("time goes on"),
        () = cut => unreachable!("it waits for what follows from the reset"),
    }
}

/// Serves a client whose upgrade the node has answered, so that it can go on with a session.
pub(crate) async fn attach(bridge: Arc<Bridge>, port: SessionPort) {
    let mut socket = Socket::new(port);
    let response = ResponseHead {
        status: StatusCode::SWITCHING_PROTOCOLS.as_u16().into(),
        headers: vec![offer::ours()],
        ..ResponseHead::default()
    };
    if socket.port().send(response.into()).is_err() {
        return socket.port().finished().await;
    }
    let id = bridge.resume.next_attachment();
    let patience = bridge.resume.table.attach_timeout;
    let staying = bridge.summons.staying();
    let asked = tokio::select! {
        biased;
        asked = timeout(patience, socket.first_frame()) => asked,
        // It comes back, and the successor knows its session.
        () = bridge.summons.told_to_leave() => {
            return bridge.reset_for_successor(socket.port());
        }
    };
    drop(staying);
    let found = match asked {
        Ok(Ok(Some(Frame::Attach(attach)))) => bridge.resume.attach(attach, id),
        Ok(Ok(Some(_))) => Err(Refusal::Protocol("no attach".to_owned())),
        Ok(Err(Broken(what))) => Err(Refusal::Protocol(what.to_owned())),
        // The session is not touched: its client, or the way from it, may have been slow.
        Err(_) => {
            bridge.metrics.resume.resumed("late");
            socket.close(Cause::ClientIdle, None, "no attach came in time");
            return attachment::part(&bridge, socket).await;
        }
        Ok(Ok(None)) => {
            bridge.metrics.resume.resumed("left");
            socket.close(Cause::ClientLost, None, "");
            return attachment::part(&bridge, socket).await;
        }
    };
    match found {
        Ok(held) => {
            bridge.metrics.resume.resumed("attached");
            attachment::run(&bridge, held, id, socket).await;
        }
        Err(refusal) => refuse(&bridge, socket, &refusal).await,
    }
}

/// Tells a client that it can't go on, and why.
async fn refuse(bridge: &Bridge, socket: Socket, refusal: &Refusal) {
    debug!(%refusal, "not resumed");
    bridge.metrics.resume.resumed(refusal.label());
    let Ended { cause, detail } = Ended::new(refusal.cause(), &refusal.to_string());
    let refused = Frame::Refused(Reset { cause: cause.into(), detail });
    let _ = socket.send(refused);
    socket.close(cause, Some(NOT_RESUMED), refusal.label());
    attachment::part(bridge, socket).await;
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("the settings bound it")
}
