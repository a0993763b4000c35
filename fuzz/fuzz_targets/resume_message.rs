//! Feeds `antipode_fuzz::frames::resume_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antipode_fuzz::frames::resume_message(data));
