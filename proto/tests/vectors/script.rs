//! One session machine and the calls on it, as JSON: a step goes in, its outputs come back.

use std::time::{Duration, Instant};

use antipode_proto::resume::Frame;
use antipode_proto::session::{Config, Session, Side};
use antipode_proto::trunk::v1::Cause;
use antipode_proto::trunk::v1::frame::Kind;
use serde_json::{Map, Value, json};

use crate::json::{from_body, from_frame, number, object, text, to_body, to_cause, to_frame};

/// Runs steps, one after another.
#[derive(Debug)]
pub(crate) struct Runner {
    start: Instant,
    pub(crate) session: Session,
    look: Map<String, Value>,
}

impl Runner {
    pub(crate) fn new(side: &str, config: &Value) -> Self {
        let side = match side {
            "client" => Side::Client,
            "server" => Side::Server,
            unknown => panic!("no side {unknown:?}"),
        };
        let ms = |key| Duration::from_millis(number(config, key));
        let config = Config {
            credit_bytes_max: number(config, "credit_bytes_max"),
            unacked_bytes_max: number(config, "unacked_bytes_max"),
            ack_delay: ms("ack_delay_ms"),
            resume_window: ms("resume_window_ms"),
        };
        let start = start();
        Self { start, session: Session::new(side, config, start), look: Map::new() }
    }

    pub(crate) fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// Makes the call of `step`, and returns it with its outputs.
    pub(crate) fn run(&mut self, step: &Value) -> Value {
        let mut outputs = self.call(step);
        let look = self.look_around();
        let changed: Map<_, _> = look
            .iter()
            .filter(|&(key, value)| self.look.get(key) != Some(value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        self.look = look;
        let mut step = step.as_object().expect("a step").clone();
        step.append(&mut outputs);
        if !changed.is_empty() {
            step.insert("look".to_owned(), Value::Object(changed));
        }
        Value::Object(step)
    }

    fn call(&mut self, step: &Value) -> Map<String, Value> {
        let now = self.at(number(step, "at"));
        let session = &mut self.session;
        let mut outputs = Map::new();
        match text(step, "do").as_str() {
            "link_up" => session.handle_link_up(),
            "link_down" => session.handle_link_down(now),
            "send" => session.send(to_body(&step["body"])),
            "frame" => outputs = handle_frame(session, to_frame(&step["frame"])),
            "transmit" => {
                let frame = session.poll_transmit().map(to_json);
                outputs.insert("gives".to_owned(), frame.unwrap_or_default());
            }
            "deliver" => {
                let delivery = session.poll_deliver();
                let delivery = delivery
                    .map(|(seq, body)| json!({ "seq": seq.get(), "body": from_body(&body) }));
                outputs.insert("gives".to_owned(), delivery.unwrap_or_default());
            }
            "consumed" => session.handle_consumed(number(step, "seq").into(), now),
            "timeout" => session.handle_timeout(now),
            "pressure" => session.set_pressure(step["on"].as_bool().expect("on or off")),
            "reset" => session.reset(cause(step), &text(step, "detail")),
            "abandon" => session.abandon(cause(step), &text(step, "detail")),
            unknown => panic!("no call {unknown:?}"),
        }
        outputs
    }

    /// What every implementation shows after each call.
    fn look_around(&self) -> Map<String, Value> {
        let session = &self.session;
        let timeout = session.poll_timeout().map(|due| millis(due - self.start));
        let ended = session
            .ended()
            .map(|ended| json!({ "cause": i32::from(ended.cause), "detail": ended.detail }));
        let look = json!({
            "room": session.has_room(),
            "wants": session.wants_transmit(),
            "timeout": timeout,
            "epoch": session.epoch(),
            "ended": ended,
            "complete": session.is_complete(),
            "heard_out": session.is_heard_out(),
            "finished": session.is_finished(),
            "unacked": session.unacked_bytes(),
            "held": session.held_bytes(),
            "replayed": session.replayed(),
        });
        let Value::Object(look) = look else { panic!("it is an object") };
        look
    }
}

fn handle_frame(session: &mut Session, frame: Frame) -> Map<String, Value> {
    let mut newer = Value::Null;
    if let Frame::Attach(attach) = &frame {
        newer = session.attach_is_newer(attach).into();
    }
    let kind = frame.into_kind().expect("a frame that a machine takes");
    let error = session.handle_frame(kind).err().map(|error| error.label().into());
    let Value::Object(outputs) = object([("newer", newer), ("error", error.unwrap_or_default())])
    else {
        panic!("it is an object")
    };
    outputs
}

fn to_json(kind: Kind) -> Value {
    from_frame(&Frame::from_kind(kind).expect("a frame of resumable clients"))
}

fn cause(step: &Value) -> Cause {
    Cause::try_from(to_cause(step)).expect("a cause")
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().expect("short")
}

/// Any instant will do: the machine only compares.
#[allow(clippy::disallowed_methods, reason = "the one clock reading of these vectors")]
fn start() -> Instant {
    Instant::now()
}
