//! `antipode.resume.v1` by hand, as docs/protocol.md has it: as much as begins a session and goes
//! on with it.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, Socket};

const LIMIT: Duration = Duration::from_secs(30);
const CREDIT_BYTES: u64 = 262_144;
const WELCOME: u8 = 1;
const ATTACH: u8 = 2;
const ATTACHED: u8 = 3;
const ACK: u8 = 7;

/// A session that can be gone on with.
#[derive(Debug)]
pub struct Session {
    /// The WebSocket that carries it.
    pub socket: Socket,
    epoch: u64,
    token: Vec<u8>,
    core: String,
}

impl Session {
    /// Begins one at `target`.
    ///
    /// # Errors
    ///
    /// If the upgrade is refused, or the core does not speak the protocol.
    pub async fn begin(client: &Client, target: &str) -> anyhow::Result<Self> {
        let header = [("sec-websocket-protocol", "antipode.resume.v1")];
        let (mut socket, _) = client.open_with(target, &header).await?;
        let welcome = message(&mut socket).await?;
        let mut rest = welcome.strip_prefix(&[WELCOME]).context("a welcome")?;
        let _version = integer(&mut rest)?;
        let epoch = integer(&mut rest)?;
        for _credit_window_and_ping in 0..3 {
            integer(&mut rest)?;
        }
        let token = bytes(&mut rest)?.to_vec();
        let core = String::from_utf8(bytes(&mut rest)?.to_vec())?;
        let mut confirmation = vec![ACK, 0];
        put(&mut confirmation, CREDIT_BYTES);
        socket.send(Message::binary(confirmation)).await?;
        Ok(Self { socket, epoch, token, core })
    }

    /// What an upgrade that goes on with it offers.
    #[must_use]
    pub fn offer(&self) -> String {
        format!("antipode.resume.v1, antipode.core.{}", self.core)
    }

    /// Goes on with it at `client`'s node; nothing has been received so far.
    ///
    /// # Errors
    ///
    /// If it is not resumed.
    pub async fn resume(&mut self, client: &Client) -> anyhow::Result<()> {
        let offer = self.offer();
        let (mut socket, _) = client.open_with("/", &[("sec-websocket-protocol", &offer)]).await?;
        self.epoch += 1;
        let mut attach = vec![ATTACH, 1];
        for field in [self.epoch, 0, CREDIT_BYTES, u64::try_from(self.token.len())?] {
            put(&mut attach, field);
        }
        attach.extend(&self.token);
        socket.send(Message::binary(attach)).await?;
        let answer = message(&mut socket).await?;
        ensure!(answer.first() == Some(&ATTACHED), "not resumed: {answer:?}");
        self.socket = socket;
        Ok(())
    }
}

async fn message(socket: &mut Socket) -> anyhow::Result<Vec<u8>> {
    let message = timeout(LIMIT, socket.next()).await?.context("closed instead")??;
    ensure!(message.is_binary(), "no frame of the protocol: {message:?}");
    Ok(message.into_data().to_vec())
}

/// Unsigned LEB128.
fn put(frame: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        frame.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    frame.push(u8::try_from(value).expect("seven bits"));
}

fn integer(rest: &mut &[u8]) -> anyhow::Result<u64> {
    let mut value = 0;
    for shift in (0..56).step_by(7) {
        let (first, after) = rest.split_first().context("an integer")?;
        *rest = after;
        value |= u64::from(first & 0x7f) << shift;
        if *first < 0x80 {
            return Ok(value);
        }
    }
    anyhow::bail!("an integer of too many bytes")
}

fn bytes<'frame>(rest: &mut &'frame [u8]) -> anyhow::Result<&'frame [u8]> {
    let len = usize::try_from(integer(rest)?)?;
    let (bytes, after) = rest.split_at_checked(len).context("so many bytes")?;
    *rest = after;
    Ok(bytes)
}
