//! Fuzzes `omendb::fuzzing::segment`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omendb::fuzzing::segment(data));
