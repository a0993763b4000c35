//! Feeds `antipode_fuzz::frames::trunk_batch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antipode_fuzz::frames::trunk_batch(data));
