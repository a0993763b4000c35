//! A WebSocket's end for those who speak whole messages: the real reader and writer of frames, and
//! the pipe below.

use antipode_websocket::{BINARY, Event, FIN, FrameStart, Policy, ReadError, Reader, Side, Writer};
use bytes::{Bytes, BytesMut};

use crate::ctx::Ctx;
use crate::net::{End, Item, PipeId};

/// What one end of a WebSocket hears.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A whole message.
    Message(Bytes),
    /// A ping, which was answered.
    Ping,
    /// A pong.
    Pong,
    /// A close frame.
    Close(Option<(u16, String)>),
    /// The stream ended without another word, or was hung up.
    Lost,
    /// The far end broke RFC 6455.
    Broken(ReadError),
    /// Something else than bytes: the answer to an upgrade.
    Item(Item),
}

/// A WebSocket over a pipe.
#[derive(Debug)]
pub struct Socket {
    /// The pipe.
    pub pipe: PipeId,
    end: End,
    reader: Reader,
    writer: Writer,
    input: BytesMut,
    output: BytesMut,
    message: BytesMut,
    frame_is_last: bool,
    is_lost: bool,
}

impl Socket {
    /// The client's end of a pipe that it dialled.
    #[must_use]
    pub fn client(pipe: PipeId, seed: u8) -> Self {
        Self::new(pipe, End::Dialler, Side::Client, Writer::client([seed; 32]))
    }

    /// The server's end of a pipe that it accepted.
    #[must_use]
    pub fn server(pipe: PipeId) -> Self {
        Self::new(pipe, End::Acceptor, Side::Server, Writer::server())
    }

    fn new(pipe: PipeId, end: End, side: Side, writer: Writer) -> Self {
        Self {
            pipe,
            end,
            reader: Reader::new(side, Policy::default()),
            writer,
            input: BytesMut::new(),
            output: BytesMut::new(),
            message: BytesMut::new(),
            frame_is_last: false,
            is_lost: false,
        }
    }

    /// The next thing heard, or `None` when nothing more has arrived.
    pub fn hear(&mut self, ctx: &mut Ctx) -> Option<Heard> {
        if self.is_lost {
            return None;
        }
        loop {
            match self.reader.read(&mut self.input) {
                Ok(Some(event)) => {
                    if let Some(heard) = self.take(event) {
                        return Some(heard);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    self.is_lost = true;
                    return Some(Heard::Broken(error));
                }
            }
            match ctx.read(self.pipe, self.end)? {
                Item::Bytes(bytes) => self.input.extend_from_slice(&bytes),
                Item::Fin | Item::Reset => {
                    self.is_lost = true;
                    return Some(Heard::Lost);
                }
                item @ (Item::Open(_) | Item::Answer(_)) => return Some(Heard::Item(item)),
            }
        }
    }

    /// As [`Socket::hear`], but nothing while its application does not read.
    pub fn hear_unless(&mut self, is_slow: bool, ctx: &mut Ctx) -> Option<Heard> {
        if is_slow { None } else { self.hear(ctx) }
    }

    /// Says a message, whole or in two frames, when there is room for it.
    pub fn say(&mut self, message: &[u8], split: Option<usize>) {
        let at = split.filter(|at| *at < message.len()).unwrap_or(message.len());
        let (first, rest) = message.split_at(at);
        let last = if rest.is_empty() { FIN } else { 0 };
        self.frame(BINARY | last, first);
        if !rest.is_empty() {
            self.frame(FIN, rest);
        }
    }

    /// Says a close.
    pub fn say_close(&mut self, close: Option<(u16, &str)>) {
        self.writer.close(&mut self.output, close).expect("outside a frame, a good code");
    }

    /// Bytes that wait for the pipe.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.output.len()
    }

    /// Whether the other end has read everything that was said.
    #[must_use]
    pub fn is_read(&self, ctx: &Ctx) -> bool {
        self.output.is_empty() && ctx.net.outstanding(self.pipe, self.end) == 0
    }

    /// Whether everything said is on the wire.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// Puts on the wire what there is room for; in pieces, as sockets do.
    pub fn flush(&mut self, ctx: &mut Ctx) {
        loop {
            let room = ctx.net.room(self.pipe, self.end);
            let piece = if ctx.rng_bool(8) { 1 + ctx.rng_usize(40) } else { 16 * 1024 };
            let len = self.output.len().min(room).min(piece);
            if len == 0 {
                return;
            }
            let bytes = self.output.split_to(len).freeze();
            ctx.send(self.pipe, self.end, Item::Bytes(bytes));
        }
    }

    /// Ends the stream after what was said.
    pub fn close(&mut self, ctx: &mut Ctx) {
        self.flush(ctx);
        ctx.close(self.pipe, self.end);
        self.is_lost = true;
    }

    /// Hangs up.
    pub fn abort(&mut self, ctx: &mut Ctx) {
        ctx.abort(self.pipe, self.end);
        self.is_lost = true;
    }

    fn frame(&mut self, first_byte: u8, payload: &[u8]) {
        let frame_len = u64::try_from(payload.len()).expect("a length fits 64 bits");
        let start = FrameStart { first_byte, frame_len };
        self.writer.chunk(&mut self.output, Some(start), payload).expect("a whole frame");
    }

    fn take(&mut self, event: Event) -> Option<Heard> {
        match event {
            Event::Chunk { start, payload, last_of_frame } => {
                if let Some(start) = start {
                    self.frame_is_last = start.first_byte & FIN != 0;
                }
                self.message.extend_from_slice(&payload);
                let is_whole = last_of_frame && self.frame_is_last;
                is_whole.then(|| Heard::Message(std::mem::take(&mut self.message).freeze()))
            }
            Event::Ping(payload) => {
                self.writer.pong(&mut self.output, &payload).expect("no frame is open");
                Some(Heard::Ping)
            }
            Event::Pong(_) => Some(Heard::Pong),
            Event::Close(close) => Some(Heard::Close(close)),
        }
    }
}
