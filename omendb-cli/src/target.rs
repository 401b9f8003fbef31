//! What a command works on: the database, the collection in it, the ids on the command line.

use crate::failure::{Failure, Result, invalid};
use crate::formats::IdType;
use omendb::{Collection, Database, Error, Filter, Id, Options, Record};
use std::path::{Path, PathBuf};

/// Where `import` keeps its progress. Hidden from lists; gone when the import is complete.
pub const IMPORTS: &str = "_imports";

/// Opens an existing database for reading; any number of processes may do so at once.
pub fn read(path: &Path) -> Result<Database> {
    exists(path)?;
    Ok(Options::new().create(false).read_only(true).open(path)?)
}

/// Opens an existing database for writing.
pub fn write(path: &Path) -> Result<Database> {
    exists(path)?;
    Ok(Options::new().create(false).open(path)?)
}

/// Opens a database for writing, making it if there is none.
pub fn write_or_create(path: &Path) -> Result<Database> {
    Ok(Options::new().create(true).open(path)?)
}

/// Whether there is a database, or what is left of one: asked before opening, which would leave a lock file behind
/// in a directory of something else.
pub fn is_database(path: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(path) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("MANIFEST-") || name == "segments" || name == "wal"
    })
}

fn exists(path: &Path) -> Result<()> {
    if is_database(path) {
        return Ok(());
    }
    let what = if path.exists() { "there is something else" } else { "there is nothing" };
    Err(Failure::Engine(Error::NotFound(format!(
        "no database at {}: {what}; check the path, or make one with `omendb create` or `omendb import`",
        path.display()
    ))))
}

/// The collections a user sees.
pub fn collections(db: &Database) -> Vec<String> {
    db.collections().into_iter().filter(|name| name != IMPORTS).collect()
}

/// The database and the collection of a command.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// Directory of the database
    pub db: PathBuf,
    /// Collection; may be left out where the database has exactly one
    #[arg(short, long, value_name = "NAME")]
    pub collection: Option<String>,
}

impl Target {
    /// The collection that is named, or the only one.
    pub fn collection(&self, db: &Database) -> Result<Collection> {
        if let Some(name) = &self.collection {
            return Ok(db.collection(name)?);
        }
        let names = collections(db);
        match &names[..] {
            [only] => Ok(db.collection(only)?),
            [] => Err(Failure::Engine(Error::NotFound(format!(
                "the database {} has no collection; make one with `omendb create` or `omendb import`",
                self.db.display()
            )))),
            _ => Err(Failure::Usage(format!(
                "the database {} has {} collections ({}); say which with --collection",
                self.db.display(),
                names.len(),
                names.join(", ")
            ))),
        }
    }
}

/// The ids that a word on the command line may mean, the likelier first.
pub fn candidates(word: &str, id_type: Option<IdType>) -> Result<Vec<Id>> {
    let integer = word.parse::<u64>().ok();
    Ok(match (id_type, integer) {
        (Some(IdType::Int), Some(n)) => vec![Id::U64(n)],
        (Some(IdType::Int), None) => {
            return Err(invalid(format!("{word:?} is no unsigned 64-bit integer; leave out --id-type int")));
        }
        (None, Some(n)) => vec![Id::U64(n), Id::from(word)],
        _ => vec![Id::from(word)],
    })
}

/// The record that a word on the command line means.
pub fn find(collection: &Collection, word: &str, id_type: Option<IdType>) -> Result<Option<Record>> {
    for id in candidates(word, id_type)? {
        if let Some(record) = collection.get(&id)? {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// A filter on the command line: a JSON object, or an SQL-style condition.
pub fn filter(text: &str) -> Result<Filter> {
    if !text.trim_start().starts_with('{') {
        return Ok(Filter::from_sql(text)?);
    }
    let value = serde_json::from_str(text).map_err(|e| {
        invalid(format!(
            "--filter: {e}; give a JSON object such as {{\"lang\": \"en\"}}, or a condition such as lang = 'en'"
        ))
    })?;
    Ok(Filter::from_json(&value)?)
}
