//! Fuzzes `omendb::fuzzing::filter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omendb::fuzzing::filter(data));
