//! Feeds `antipode_fuzz::packets::tunnel_device`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antipode_fuzz::packets::tunnel_device(data));
