//! Feeds `antipode_fuzz::sessions::session_state`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antipode_fuzz::sessions::session_state(data));
