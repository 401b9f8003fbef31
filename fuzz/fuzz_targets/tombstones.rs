//! Fuzzes `omendb::fuzzing::tombstones`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omendb::fuzzing::tombstones(data));
