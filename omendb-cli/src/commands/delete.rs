//! `delete`: records by their ids, or all whose metadata passes a filter.

use crate::failure::{Failure, Result};
use crate::formats::IdType;
use crate::output::Output;
use crate::target::{self, Target};
use omendb::{Error, Id};
use serde_json::json;

/// Delete records by their ids, or by their metadata
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  omendb delete library.omen king queen
  omendb delete library.omen -c docs 17 18 --id-type int
  omendb delete library.omen --filter \"year < 2020\"

An id made of digits means the integer, or the string if there is no such integer.
Ends with 1 if an id is not found; those found are deleted all the same. Space is freed in the background
or by `omendb compact`.")]
pub struct Delete {
    #[command(flatten)]
    target: Target,
    /// Ids
    #[arg(required_unless_present = "filter", conflicts_with = "filter")]
    ids: Vec<String>,
    /// Delete all records whose metadata passes: an SQL-style condition or a JSON object
    #[arg(long, value_name = "CONDITION")]
    filter: Option<String>,
    /// Take the ids as integers or as strings
    #[arg(long, value_name = "TYPE")]
    id_type: Option<IdType>,
}

impl Delete {
    /// Deletes the records in one batch.
    pub fn run(&self, json: bool) -> Result<Output> {
        let db = target::write(&self.target.db)?;
        let collection = self.target.collection(&db)?;
        if let Some(filter) = &self.filter {
            let deleted = collection.delete_matching(&target::filter(filter)?)?;
            db.close()?;
            return Ok(Output::new(format!("deleted {deleted}"), json!({"deleted": deleted, "missing": []})));
        }
        let (mut known, mut missing): (Vec<Id>, Vec<&str>) = (Vec::new(), Vec::new());
        for word in &self.ids {
            let mut candidates = target::candidates(word, self.id_type)?.into_iter();
            let found = candidates.find_map(|id| match collection.contains(&id) {
                Ok(false) => None,
                Ok(true) => Some(Ok(id)),
                Err(e) => Some(Err(e)),
            });
            match found.transpose()? {
                Some(id) => known.push(id),
                None => missing.push(word),
            }
        }
        let deleted = collection.delete(&known)?;
        db.close()?;
        let output = Output::new(format!("deleted {deleted}"), json!({"deleted": deleted, "missing": missing}));
        if missing.is_empty() {
            return Ok(output);
        }
        output.print(json)?;
        Err(Failure::Engine(Error::NotFound(format!("no record {} in {}", missing.join(", "), collection.name()))))
    }
}
