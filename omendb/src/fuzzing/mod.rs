//! What the fuzz targets run, kept here so that `cargo test` replays their corpus on any toolchain. Not an interface.
//!
//! Each target takes arbitrary bytes, decodes them as they are and, where checksums would stop a fuzzer at the door,
//! once more with the checksums made right. It panics where the code under test breaks a promise of its own.

mod database;
mod decoders;
mod queries;
mod reseal;
mod texts;

pub use database::{ImageFile, open, pack, unpack};
pub use decoders::{log, manifest, payload, segment, tombstones};
pub use queries::{columns, filter};
pub use texts::text;

/// Feeds one input to the code under test; whatever the input, it must return.
pub type Target = fn(&[u8]);

/// The targets by name: what `fuzz/fuzz_targets` holds one program each for.
pub const TARGETS: &[(&str, Target)] = &[
    ("log", log),
    ("manifest", manifest),
    ("segment", segment),
    ("tombstones", tombstones),
    ("payload", payload),
    ("open", open),
    ("filter", filter),
    ("columns", columns),
    ("text", text),
];
