//! Fuzzes `omendb::fuzzing::manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omendb::fuzzing::manifest(data));
