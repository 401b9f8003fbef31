//! From a question to its best answers.

pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod fusion;
pub(crate) mod group;
pub(crate) mod hybrid;
pub(crate) mod measure;
pub(crate) mod mmr;
pub(crate) mod plan;
pub(crate) mod sparse;
pub mod topk;
