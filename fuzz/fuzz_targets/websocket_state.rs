//! Feeds `antipode_fuzz::frames::websocket_state`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antipode_fuzz::frames::websocket_state(data));
