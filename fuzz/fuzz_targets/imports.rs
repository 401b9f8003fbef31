//! Fuzzes `omendb_cli::fuzzing::imports`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omendb_cli::fuzzing::imports(data));
