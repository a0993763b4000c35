//! Feeds `antipode_fuzz::links::tunnel_stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antipode_fuzz::links::tunnel_stream(data));
