//! From a question to its best answers.

pub(crate) mod exec;
pub(crate) mod hybrid;
pub mod topk;
