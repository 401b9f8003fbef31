//! From a question to its best answers.

pub mod topk;
