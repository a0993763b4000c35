//! Feeds `antipode_fuzz::texts::cidr`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antipode_fuzz::texts::cidr(data));
