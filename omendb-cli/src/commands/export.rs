//! `export`: a collection into a file that `import` reads back exactly.

use super::export_parquet::{ParquetExport, Written};
use super::progress::Progress;
use crate::failure::{Failure, Result, invalid, io};
use crate::formats::fields::options_of;
use crate::output::{self, Output, bytes, count, record_json};
use crate::target::{self, Target};
use omendb::{Collection, Element, Metric, Records};
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Write a collection to a jsonl or parquet file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  omendb export library.omen docs.parquet -c docs
  omendb export library.omen docs.jsonl
  omendb export library.omen nouns.jsonl --filter \"pos = 'noun'\"
  omendb export library.omen - | head -1        JSON lines on standard output

The columns are id, vector, metadata (as JSON) and text. `omendb import` reads the file back exactly; JSON lines do not
tell metric and element type, so give --metric and --element if they are not cosine and f32.")]
pub struct Export {
    #[command(flatten)]
    target: Target,
    /// The file, ending in .jsonl or .parquet; `-` for JSON lines on standard output
    file: PathBuf,
    /// Only records whose metadata passes: an SQL-style condition or a JSON object
    #[arg(long, value_name = "CONDITION")]
    filter: Option<String>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

impl Export {
    /// Writes one consistent view of the collection.
    pub fn run(&self, json: bool) -> Result<Output> {
        let db = target::read(&self.target.db)?;
        let collection = self.target.collection(&db)?;
        if self.file == Path::new("-") {
            let rows = self.jsonl(&collection, std::io::stdout().lock(), true)?;
            return Ok(Output::new("", json!({"rows": rows})));
        }
        let parquet = match self.file.extension().and_then(|e| e.to_str()) {
            Some("parquet" | "pq") => true,
            Some("jsonl" | "ndjson") => false,
            _ => return Err(invalid(format!("{}: the name must end in .jsonl or .parquet", self.file.display()))),
        };
        if parquet && !collection.schema().fields.is_empty() {
            return Err(invalid(format!(
                "{}: a parquet file does not hold the further fields of {}; export to a .jsonl file",
                self.file.display(),
                collection.name()
            )));
        }
        if self.file.exists() && !self.force {
            return Err(Failure::Engine(omendb::Error::AlreadyExists(format!(
                "{}; name another file, or replace it with --force",
                self.file.display()
            ))));
        }
        // Written under another name first, so that a file of the right name is a whole one.
        let mut partial = self.file.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let written = if parquet {
            self.parquet(&collection, &partial, json)
        } else {
            self.jsonl_file(&collection, &partial, json)
        };
        let rows = match written.and_then(|rows| publish(&partial, &self.file).map(|()| rows)) {
            Ok(rows) => rows,
            Err(e) => {
                // The failure that counts is the one that is told; a file left over is named `.partial`.
                drop(std::fs::remove_file(&partial));
                return Err(e);
            }
        };
        self.report(&collection, rows, parquet)
    }

    fn report(&self, collection: &Collection, rows: u64, parquet: bool) -> Result<Output> {
        let size = std::fs::metadata(&self.file).map_err(|e| io("read", &self.file, &e))?.len();
        let schema = collection.schema();
        let mut options = format!("-c {}", collection.name());
        if !parquet {
            if schema.metric != Metric::Cosine {
                options.push_str(&format!(" --metric {}", schema.metric.name()));
            }
            if schema.element != Element::F32 {
                options.push_str(&format!(" --element {}", schema.element.name()));
            }
            if schema.element == Element::Bits {
                options.push_str(&format!(" --dim {}", schema.dim));
            }
            options.push_str(&options_of(schema));
        }
        let text = format!(
            "exported {} records of {} to {} ({})\nread it back with: omendb import NEW.omen {} {options}",
            count(rows),
            collection.name(),
            self.file.display(),
            bytes(size),
            self.file.display()
        );
        Ok(Output::new(text, json!({"rows": rows, "bytes": size, "file": self.file, "collection": collection.name()})))
    }

    fn jsonl_file(&self, collection: &Collection, path: &Path, silent: bool) -> Result<u64> {
        let file = File::create(path).map_err(|e| io("create", path, &e))?;
        self.jsonl(collection, BufWriter::with_capacity(1 << 20, file), silent).map_err(|e| match e {
            Failure::OutputClosed => invalid(format!("{}: the file was closed while it was written", path.display())),
            other => other,
        })
    }

    fn jsonl(&self, collection: &Collection, mut out: impl Write, silent: bool) -> Result<u64> {
        let mut progress = Progress::start("exporting", collection.count()?, 0, silent);
        let mut rows = 0;
        for record in self.records(collection)? {
            writeln!(out, "{}", record_json(&record?)).map_err(|e| self.write_failure(&e))?;
            rows += 1;
            if rows % 1000 == 0 {
                progress.update(rows, rows);
            }
        }
        out.flush().map_err(|e| self.write_failure(&e))?;
        progress.finish();
        Ok(rows)
    }

    /// The records to export.
    fn records(&self, collection: &Collection) -> Result<Records> {
        Ok(match &self.filter {
            Some(filter) => collection.iterate_matching(&target::filter(filter)?)?,
            None => collection.iterate()?,
        })
    }

    fn write_failure(&self, error: &std::io::Error) -> Failure {
        if self.file == Path::new("-") { output::stdout_failure(error) } else { io("write", &self.file, error) }
    }

    fn parquet(&self, collection: &Collection, path: &Path, silent: bool) -> Result<u64> {
        // Most collections have ids of one kind, and a plain column of them; only one with both is written anew with
        // two columns.
        match ParquetExport::write(collection, self.records(collection)?, path, false, silent)? {
            Written::Rows(rows) => Ok(rows),
            Written::MixedIds => match ParquetExport::write(collection, self.records(collection)?, path, true, silent)?
            {
                Written::Rows(rows) => Ok(rows),
                Written::MixedIds => {
                    Err(invalid(format!("{}: the ids changed while they were written; try again", path.display())))
                }
            },
        }
    }
}

/// Makes the file durable under its own name.
fn publish(partial: &Path, path: &Path) -> Result<()> {
    File::open(partial).and_then(|f| f.sync_all()).map_err(|e| io("sync", partial, &e))?;
    std::fs::rename(partial, path).map_err(|e| io("rename", path, &e))
}
