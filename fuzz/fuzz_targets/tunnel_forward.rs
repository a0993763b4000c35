//! Feeds `antipode_fuzz::mesh::tunnel_forward`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antipode_fuzz::mesh::tunnel_forward(data));
