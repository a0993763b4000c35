//! Kinds of WireGuard messages, and what is counted when one is sent or refused.

use boringtun::noise::errors::WireGuardError;

use super::{Outcome, WIREGUARD_BYTES};
use crate::metrics::{Direction, DropReason, HandshakeOutcome};
use crate::peer::Reply;
use crate::way::Way;

pub(crate) const KIND_RESPONSE: u8 = 2;
pub(crate) const KIND_COOKIE: u8 = 3;
pub(crate) const KIND_DATA: u8 = 4;

pub(super) fn is_data(message: &[u8]) -> bool {
    message.first() == Some(&KIND_DATA)
}

/// Whether a data message was refused for its counter: it came before, or may have.
pub(super) const fn is_copy(error: &WireGuardError) -> bool {
    matches!(error, WireGuardError::DuplicateCounter | WireGuardError::InvalidCounter)
}

pub(super) fn data_reason(error: &WireGuardError) -> DropReason {
    match error {
        WireGuardError::DuplicateCounter => DropReason::Duplicate,
        WireGuardError::InvalidCounter => DropReason::TooOld,
        WireGuardError::NoCurrentSession | WireGuardError::WrongIndex => DropReason::NoSession,
        WireGuardError::InvalidPacket => DropReason::Runt,
        WireGuardError::InvalidAeadTag
        | WireGuardError::DestinationBufferTooSmall
        | WireGuardError::IncorrectPacketLength
        | WireGuardError::UnexpectedPacket
        | WireGuardError::WrongPacketType
        | WireGuardError::WrongKey
        | WireGuardError::InvalidTai64nTimestamp
        | WireGuardError::WrongTai64nTimestamp
        | WireGuardError::InvalidMac
        | WireGuardError::LockFailed
        | WireGuardError::ConnectionExpired
        | WireGuardError::UnderLoad => DropReason::NotAuthentic,
    }
}

/// Sends a message that had waited for keys.
pub(super) fn flushed(bytes: &[u8], to: Way, out: &mut Outcome<'_>) {
    if is_data(bytes) {
        let inner = bytes.len().saturating_sub(WIREGUARD_BYTES);
        out.metrics.carried(Direction::Out, 1, u64::try_from(inner).unwrap_or(0));
    } else {
        out.metrics.handshake(HandshakeOutcome::Initiated);
    }
    out.replies.push(Reply { to, bytes: bytes.to_vec() });
}
