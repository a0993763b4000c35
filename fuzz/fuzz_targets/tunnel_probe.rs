//! Feeds `antipode_fuzz::links::tunnel_probe`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antipode_fuzz::links::tunnel_probe(data));
