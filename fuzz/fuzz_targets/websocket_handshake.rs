//! Feeds `antipode_fuzz::texts::websocket_handshake`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antipode_fuzz::texts::websocket_handshake(data));
