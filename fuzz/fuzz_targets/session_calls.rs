//! Feeds `antipode_fuzz::sessions::session_calls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antipode_fuzz::sessions::session_calls(data));
