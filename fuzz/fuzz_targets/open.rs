//! Fuzzes `omendb::fuzzing::open`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omendb::fuzzing::open(data));
