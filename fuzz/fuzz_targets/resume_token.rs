//! Feeds `antipode_fuzz::texts::resume_token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antipode_fuzz::texts::resume_token(data));
