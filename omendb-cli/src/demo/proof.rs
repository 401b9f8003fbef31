//! Comparing what is stored with the words as they were before they were written.

use super::bundle::Bundle;
use crate::failure::Result;
use omendb::{Collection, Record, Vector};
use std::ops::Range;

/// What the comparison found.
pub struct Proof {
    /// Words compared.
    pub compared: usize,
    /// Acknowledged words that are not there.
    pub missing: Vec<String>,
    /// Words that are there with another vector, meaning or part of speech.
    pub wrong: Vec<String>,
    /// Words beyond the acknowledged ones: the batch that was being written when the process was killed.
    pub beyond: usize,
    /// Whether the database counts as many records as were found.
    counted: bool,
}

impl Proof {
    /// Compares the first `acknowledged` words, which must all be there, and looks for what lies beyond them.
    pub fn of(words: &Collection, bundle: &Bundle, acknowledged: usize) -> Result<Proof> {
        let mut proof = Proof { compared: 0, missing: Vec::new(), wrong: Vec::new(), beyond: 0, counted: false };
        for start in (0..acknowledged).step_by(1000) {
            proof.compare(words, bundle, start..(start + 1000).min(acknowledged))?;
        }
        // No more than one batch can be under way, but all the rest is looked for.
        let records = words.get_many(bundle.words[acknowledged..].iter().map(|w| &w.word))?;
        proof.beyond = records.iter().flatten().count();
        for (i, record) in records.iter().enumerate() {
            match record {
                Some(record) if i < proof.beyond && is_whole(record, bundle, acknowledged + i) => {}
                Some(record) => proof.wrong.push(record.id.to_string()),
                None => {}
            }
        }
        let found = proof.compared - proof.missing.len() + proof.beyond;
        proof.counted = words.count()? == found as u64;
        Ok(proof)
    }

    fn compare(&mut self, words: &Collection, bundle: &Bundle, range: Range<usize>) -> Result<()> {
        let records = words.get_many(bundle.words[range.clone()].iter().map(|w| &w.word))?;
        self.compared += range.len();
        for i in range.clone() {
            match records.get(i - range.start).and_then(Option::as_ref) {
                None => self.missing.push(bundle.words[i].word.clone()),
                Some(record) if is_whole(record, bundle, i) => {}
                Some(_) => self.wrong.push(bundle.words[i].word.clone()),
            }
        }
        Ok(())
    }

    /// What is not as it should be, if anything.
    pub fn failure(&self) -> Option<String> {
        if let Some(word) = self.missing.first() {
            return Some(format!("{} acknowledged words are lost, the first is {word:?}", self.missing.len()));
        }
        if let Some(word) = self.wrong.first() {
            return Some(format!("{} words are not what was written, the first is {word:?}", self.wrong.len()));
        }
        if !self.counted {
            return Some("the database counts another number of records than were found".to_owned());
        }
        (self.beyond > 4).then(|| format!("{} words beyond the acknowledged ones, more than one batch", self.beyond))
    }
}

/// Whether a record is word `i`, all of it.
fn is_whole(record: &Record, bundle: &Bundle, i: usize) -> bool {
    let word = &bundle.words[i];
    record.id.to_string() == word.word
        && record.text.as_ref() == Some(&word.gloss)
        && record.metadata == Some(bundle.metadata(i))
        && matches!(&record.vector, Vector::F32(v) if v == bundle.vector(i))
}
