//! Fuzzes `omendb::fuzzing::text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omendb::fuzzing::text(data));
