//! Fuzzes `omendb::fuzzing::columns`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omendb::fuzzing::columns(data));
