//! Feeds `antipode_fuzz::texts::http_headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antipode_fuzz::texts::http_headers(data));
