//! The small chat backend: an ordinary WebSocket server that knows nothing of relays.
//!
//! It speaks JSON in text messages at [`PATH`]. What a page sends:
//!
//! - `{"op":"hello","name":"Ana","region":"sydney"}`: who talks, and from where.
//! - `{"op":"say","text":"hi","sent_at_us":1795417285123457}`, after a hello: a message for
//!   everybody; the time comes back as it is.
//! - `{"op":"echo","id":7}`: comes back at once, to measure a round trip; needs no hello.
//!
//! What the server sends:
//!
//! - `{"op":"welcome","people":2,"recent":[…]}` answers a hello; `recent` holds `said` messages.
//! - `{"op":"said","id":1,"name":"Ana","region":"sydney","text":"hi","sent_at_us":…}`, to all who
//!   said hello, the sender too.
//! - `{"op":"people","people":3}`: somebody came or went.
//! - `{"op":"echo","id":7}`: the answer.
//! - `{"op":"refused","why":"…"}`: the last message was not taken.

mod message;
mod person;
mod room;

pub use message::{FromPage, Refusal, Said, ToPage};
pub use person::upgrade;
pub use room::Room;

/// Where the WebSocket is.
pub const PATH: &str = "/chat";

/// People at once; the next one is told that the room is full.
pub const PEOPLE_MAX: usize = 1_000;

/// Characters in a name.
pub const NAME_CHARS_MAX: usize = 32;

/// Characters in a message.
pub const TEXT_CHARS_MAX: usize = 500;

/// Messages that a newcomer gets to read.
pub const RECENT_MAX: usize = 30;

/// Messages that may wait for one slow reader before it is let go.
pub const WAITING_MAX: usize = 256;

/// The largest WebSocket message taken: the text in four-byte characters, escaped, and the rest.
pub const MESSAGE_BYTES_MAX: usize = 8 << 10;
