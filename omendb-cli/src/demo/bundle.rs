//! The words that travel in the program: English words with their GloVe vectors and WordNet glosses.

use crate::failure::{Result, invalid};
use flate2::read::GzDecoder;
use half::f16;
use omendb::Batch;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;

/// Dimensions of the vectors.
pub const DIM: usize = 100;

const WORDS: &[u8] = include_bytes!("../../data/words.jsonl.gz");
const VECTORS: &[u8] = include_bytes!("../../data/vectors.f16.gz");

/// One word: its id is the word itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Word {
    /// The word.
    pub word: String,
    /// Part of speech.
    pub pos: String,
    /// What it means.
    pub gloss: String,
}

/// All words, most frequent first, and their vectors, row-major.
pub struct Bundle {
    /// The words.
    pub words: Vec<Word>,
    vectors: Vec<f32>,
}

impl Bundle {
    /// Unpacks the bundle.
    pub fn load() -> Result<Self> {
        let damaged = |e: &dyn std::fmt::Display| {
            invalid(format!("the words within the program are damaged: {e}; build it again"))
        };
        let mut words = Vec::new();
        for line in BufReader::new(GzDecoder::new(WORDS)).lines() {
            let line = line.map_err(|e| damaged(&e))?;
            words.push(serde_json::from_str(&line).map_err(|e| damaged(&e))?);
        }
        let mut bytes = Vec::new();
        GzDecoder::new(VECTORS).read_to_end(&mut bytes).map_err(|e| damaged(&e))?;
        let vectors: Vec<f32> = bytes.as_chunks::<2>().0.iter().map(|c| f16::from_le_bytes(*c).to_f32()).collect();
        if vectors.len() != words.len() * DIM {
            return Err(damaged(&format!("{} words, {} numbers", words.len(), vectors.len())));
        }
        Ok(Bundle { words, vectors })
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// The vector of word `i`.
    pub fn vector(&self, i: usize) -> &[f32] {
        &self.vectors[i * DIM..(i + 1) * DIM]
    }

    /// The metadata of word `i`.
    pub fn metadata(&self, i: usize) -> Value {
        json!({"pos": self.words[i].pos})
    }

    /// Some of the words as a batch.
    pub fn batch(&self, range: Range<usize>) -> Result<Batch<'_>> {
        let words = &self.words[range.clone()];
        let metadata: Vec<Value> = range.clone().map(|i| self.metadata(i)).collect();
        let batch =
            Batch::new(words.iter().map(|w| &w.word).collect(), &self.vectors[range.start * DIM..range.end * DIM]);
        let batch = batch.with_metadata(metadata.iter().map(Some))?;
        Ok(batch.with_text(words.iter().map(|w| Some(w.gloss.as_str()))))
    }
}
