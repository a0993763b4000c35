//! WebSocket framing (RFC 6455) as a pure machine: checks frames and carries them in chunks, never a whole message.
