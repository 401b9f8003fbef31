//! `get`: records by their ids.

use crate::failure::{Failure, Result};
use crate::formats::IdType;
use crate::output::{self, Output, record_json};
use crate::target::{self, Target};
use omendb::Error;
use serde_json::{Value, json};

/// Show records by their ids
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  omendb get library.omen king queen
  omendb get library.omen 17 --id-type int --json

An id made of digits means the integer, or the string if there is no such integer.
Ends with 1 if an id is not found; those found are shown all the same.")]
pub struct Get {
    #[command(flatten)]
    target: Target,
    /// Ids
    #[arg(required = true)]
    ids: Vec<String>,
    /// Take the ids as integers or as strings
    #[arg(long, value_name = "TYPE")]
    id_type: Option<IdType>,
}

impl Get {
    /// Reads the records. What is found is printed even where something is missing.
    pub fn run(&self, json: bool) -> Result<Output> {
        let db = target::read(&self.target.db)?;
        let collection = self.target.collection(&db)?;
        let (mut records, mut missing) = (Vec::new(), Vec::new());
        for word in &self.ids {
            match target::find(&collection, word, self.id_type)? {
                Some(record) => records.push(record),
                None => missing.push(word.as_str()),
            }
        }
        let text: Vec<String> = records
            .iter()
            .map(|record| {
                let vector = output::vector_json(&record.vector);
                let mut rows = vec![("id", record.id.to_string())];
                if let Some(text) = &record.text {
                    rows.push(("text", text.clone()));
                }
                if let Some(metadata) = &record.metadata {
                    rows.push(("metadata", metadata.to_string()));
                }
                rows.push(("vector", first_elements(&vector)));
                output::pairs(&rows)
            })
            .collect();
        let found: Vec<Value> = records.iter().map(record_json).collect();
        let output = Output::new(text.join("\n\n"), json!({"records": found, "missing": missing}));
        if missing.is_empty() {
            return Ok(output);
        }
        output.print(json)?;
        Err(Failure::Engine(Error::NotFound(format!("no record {} in {}", missing.join(", "), collection.name()))))
    }
}

/// The first elements of a vector, and how many there are.
fn first_elements(vector: &Value) -> String {
    let elements = vector.as_array().map_or(&[][..], Vec::as_slice);
    let shown: Vec<String> = elements.iter().take(6).map(Value::to_string).collect();
    let more = if elements.len() > 6 { format!(", ... {} elements", elements.len()) } else { String::new() };
    format!("[{}{more}]", shown.join(", "))
}
