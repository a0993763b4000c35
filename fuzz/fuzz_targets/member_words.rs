//! Feeds `antipode_fuzz::texts::member_words`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antipode_fuzz::texts::member_words(data));
