//! One command a file, or a small family.

pub mod check;
pub mod compact;
pub mod copies;
pub mod create;
pub mod cursor;
pub mod delete;
pub mod export;
pub mod export_parquet;
pub mod get;
pub mod import;
pub mod progress;
pub mod recall;
pub mod search;
pub mod stats;
