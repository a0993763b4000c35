//! Feeds `antipode_fuzz::texts::join_token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antipode_fuzz::texts::join_token(data));
