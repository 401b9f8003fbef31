//! From a question to its best answers.

pub(crate) mod exec;
pub mod topk;
