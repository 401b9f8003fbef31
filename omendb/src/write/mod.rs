//! How records become durable: one verb a file.

pub(crate) mod bulk;
pub(crate) mod columns;
pub(crate) mod commit;
pub(crate) mod compact;
pub(crate) mod flush;
pub(crate) mod index;
pub(crate) mod install;
pub(crate) mod payload;
pub(crate) mod recover;
pub(crate) mod sparse;
pub(crate) mod stage;
pub(crate) mod text;
