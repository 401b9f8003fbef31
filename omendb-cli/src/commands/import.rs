//! `import`: a file of vectors into a collection, block by block; killed at any moment, the same command goes on.

use super::cursor::Cursor;
use super::progress::Progress;
use crate::failure::{Failure, Result, invalid};
use crate::formats::fields::{FieldOptions, add_to_batch};
use crate::formats::{self, Block, Columns, Format, Source, check_finite};
use crate::output::{Output, count, rate};
use crate::target;
use omendb::{Analyzer, Batch, Collection, Database, Element, Error, Id, Metric, Schema, Vectors};
use serde_json::json;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Import a file of vectors: npy, npz, fvecs, bvecs, jsonl, csv or parquet
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
Examples:
  omendb import library.omen vectors.npy                          rows are numbered from 0
  omendb import library.omen vectors.npy --ids names.txt -c docs
  omendb import library.omen docs.jsonl                           {\"id\": \"a\", \"vector\": [..], \"text\": \"..\", \
      \"year\": 2020}
  omendb import library.omen docs.parquet --vector-column embedding --metadata-columns lang,year
  omendb import library.omen docs.csv --vector-column 'v*' --metric l2
  omendb import library.omen hashes.npy --element bits --metric hamming
  omendb import library.omen docs.csv --dry-run                   only read and check the file

The collection is made from the file's dimensions and type if there is none of that name, with the further fields that
--vectors and --sparse declare; a JSON line holds them under \"fields\": {\"title\": [..], \"terms\": {\"12\": 0.5}}. Records whose ids are
known are replaced; of rows with the same id the last one counts. Killed at any moment, the same command
goes on where it stopped; run again after it is done, it imports the file again, which changes nothing. A file that
is not whole is refused with the place of the damage;
the blocks before it stay imported, the block with it is not.")]
pub struct Import {
    /// Directory of the database; made if there is none
    db: PathBuf,
    /// The file; jsonl and csv may be gzipped
    pub file: PathBuf,
    /// Collection [default: the file's name without its extension]
    #[arg(short, long, value_name = "NAME")]
    collection: Option<String>,
    /// Format [default: by the file's first bytes, then its extension]
    #[arg(long)]
    pub format: Option<Format>,
    /// Metric of a new collection: cosine, l2, dot or hamming [default: cosine]
    #[arg(long)]
    metric: Option<Metric>,
    /// Element type of a new collection: f32, f16, i8, u8 or bits [default: the file's]
    #[arg(long)]
    element: Option<Element>,
    /// How texts of a new collection become terms: a language, or plain [default: english]
    #[arg(long)]
    analyzer: Option<Analyzer>,
    /// Dimensions, for bits only: where they are no multiple of 8 [default: 8 a byte]
    #[arg(long)]
    dim: Option<usize>,
    /// Start from the first row even if an earlier run was cut short
    #[arg(long)]
    restart: bool,
    /// Read and check the whole file; open no database
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub fields: FieldOptions,
    #[command(flatten)]
    pub columns: Columns,
}

impl Import {
    /// Imports the file.
    pub fn run(&self, json: bool) -> Result<Output> {
        let mut source = formats::open(&self.file, self.format, &self.columns)?;
        let name = self.collection_name()?;
        let existing_database = !self.dry_run && target::is_database(&self.db);
        let db = if existing_database { Some(target::write(&self.db)?) } else { None };
        let existing = match db.as_ref().map(|db| db.collection(&name)) {
            Some(Err(Error::NotFound(_))) | None => None,
            Some(found) => Some(found?),
        };
        let schema = match &existing {
            Some(collection) => self.fitting(&*source, collection)?,
            None => self.fields.add_to(self.schema(&*source)?)?,
        };
        schema.validate()?;
        let columns = Columns { further: !schema.fields.is_empty(), ..self.columns.clone() };
        if columns.further {
            source = formats::open(&self.file, self.format, &columns)?;
        }
        // The first block is read before anything is made, so that a bad file leaves nothing behind.
        let mut first = source.next_block()?;
        if let Some(block) = &mut first {
            prepare(&self.file, 0, &schema, block)?;
        }
        if self.dry_run {
            return self.dry_run(source, &schema, first, json);
        }
        let db = db.map_or_else(|| target::write_or_create(&self.db), Ok)?;
        let known = existing.is_some();
        let collection = existing.map_or_else(|| db.create_collection(&name, schema.clone()), Ok)?;
        let options = format!("{:?} {:?} {:?}", self.format, self.columns, self.dim);
        let cursor = Cursor::new(&self.file, &name, &options)?;
        let done = if known && !self.restart { cursor.rows(&db, &collection)? } else { 0 };
        if done > 0 {
            source = formats::open(&self.file, self.format, &columns)?;
            source.skip(done)?;
            first = None;
        }
        if source.numbered() && known && done == 0 && !json && collection.count()? > 0 {
            eprintln!(
                "note: the file has no ids, so its rows are numbered from {}; records of those ids are replaced \
                    (--first-id N to add behind them)",
                self.columns.first_id
            );
        }
        let mut run = Run { import: self, db: &db, collection: &collection, cursor, rows: done };
        let seconds = run.blocks(source, first, json)?.as_secs_f64();
        let rows = run.rows;
        run.cursor.finish(&db)?;
        let records = collection.count()?;
        db.close()?;
        Ok(self.report(&name, &schema, rows, done, records, seconds))
    }

    /// Imports the file into a new collection of a database, in one go. Returns the ids of all rows.
    pub fn to_new(&self, db: &Database) -> Result<Vec<Id>> {
        let mut source = formats::open(&self.file, self.format, &self.columns)?;
        let schema = self.fields.add_to(self.schema(&*source)?)?;
        let collection = db.create_collection(&self.collection_name()?, schema)?;
        let mut ids = Vec::new();
        while let Some(block) = source.next_block()? {
            let first_row = ids.len() as u64;
            ids.extend_from_slice(&block.ids);
            write_block(&self.file, first_row, &collection, block)?;
        }
        Ok(ids)
    }

    fn report(&self, name: &str, schema: &Schema, rows: u64, done: u64, records: u64, seconds: f64) -> Output {
        let rate = rate(rows - done, std::time::Duration::from_secs_f64(seconds));
        let fewer = if records < rows { ", fewer than rows: of rows with the same id the last one counts" } else { "" };
        let resumed = if done > 0 { format!(", going on from row {}", count(done)) } else { String::new() };
        let text = format!(
            "imported {} rows of {} into {name} ({} dimensions, {}, {}){resumed}: {seconds:.2} s, {} rows/s\n{name} \
                holds {} records{fewer}",
            count(rows - done),
            self.file.display(),
            schema.dim,
            schema.metric.name(),
            schema.element.name(),
            count(rate),
            count(records)
        );
        let json = json!({
            "collection": name, "rows": rows, "resumed_from": done, "records": records, "dim": schema.dim,
            "metric": schema.metric.name(), "element": schema.element.name(),
            "seconds": seconds, "rows_per_second": rate,
        });
        Output::new(text, json)
    }

    /// The schema that the file and the options make.
    fn schema(&self, source: &dyn Source) -> Result<Schema> {
        let exported = source.schema();
        let element = self.element.or_else(|| exported.as_ref().map(|s| s.element)).unwrap_or_else(|| source.element());
        let usual = if element == Element::Bits { Metric::Hamming } else { Metric::Cosine };
        let metric = self.metric.or_else(|| exported.as_ref().map(|s| s.metric)).unwrap_or(usual);
        let dim = match (element, source.element()) {
            (Element::Bits, Element::Bits) => self.dim.unwrap_or(source.dim()),
            (Element::Bits, _) => self.dim.unwrap_or(source.dim() * 8),
            _ => source.dim(),
        };
        let analyzer = self.analyzer.or_else(|| exported.as_ref().map(|s| s.analyzer)).unwrap_or_default();
        let schema = Schema::new(dim, metric).with_element(element).with_analyzer(analyzer);
        schema.validate().map_err(Failure::from).map_err(|e| e.at(self.file.display()))?;
        if element == Element::Bits && dim.div_ceil(8) != source.dim() && source.element() != Element::Bits {
            return Err(invalid(format!(
                "{}: {} bytes a vector hold no {dim} bits; give --dim {} to {}",
                self.file.display(),
                source.dim(),
                source.dim() * 8 - 7,
                source.dim() * 8
            )));
        }
        Ok(schema)
    }

    /// The schema of a collection that exists, if file and options agree with it.
    fn fitting(&self, source: &dyn Source, collection: &Collection) -> Result<Schema> {
        let has = collection.schema().clone();
        let differs = |what: &str, given: &str, has: &str| {
            Err(invalid(format!(
                "{}: {what} {given}, but the collection {} has {has}; name another collection, or leave the option out",
                self.file.display(),
                collection.name()
            )))
        };
        let per_row = match (has.element, source.element()) {
            (Element::Bits, Element::Bits) => has.dim,
            (Element::Bits, _) => has.dim.div_ceil(8),
            _ => has.dim,
        };
        if source.dim() != per_row {
            return differs("dimensions", &source.dim().to_string(), &per_row.to_string());
        }
        match (self.metric, self.element, self.dim) {
            (Some(metric), ..) if metric != has.metric => differs("metric", metric.name(), has.metric.name()),
            (_, Some(element), _) if element != has.element => {
                differs("element type", element.name(), has.element.name())
            }
            (.., Some(dim)) if dim != has.dim => differs("dimensions", &dim.to_string(), &has.dim.to_string()),
            _ => match self.analyzer {
                Some(analyzer) if analyzer != has.analyzer => {
                    differs("analyzer", &analyzer.to_string(), &has.analyzer.to_string())
                }
                _ => Ok(has),
            },
        }
    }

    fn collection_name(&self) -> Result<String> {
        if let Some(name) = &self.collection {
            return Ok(name.clone());
        }
        let name = self.file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        match name.split('.').next() {
            Some(stem) if !stem.is_empty() => Ok(stem.to_owned()),
            _ => Err(Failure::Usage(
                "the file's name makes no name for a collection; give one with --collection".to_owned(),
            )),
        }
    }

    fn dry_run(
        &self,
        mut source: Box<dyn Source>,
        schema: &Schema,
        first: Option<Block>,
        json: bool,
    ) -> Result<Output> {
        let mut progress = Progress::start("reading", source.progress().1, 0, json);
        let (mut rows, mut block, mut with_text, mut with_metadata) = (0, first, 0usize, 0usize);
        while let Some(mut b) = block {
            prepare(&self.file, rows, schema, &mut b)?;
            with_text += b.text.iter().flatten().flatten().count();
            with_metadata += b.metadata.iter().flatten().flatten().count();
            rows += b.rows() as u64;
            progress.update(source.progress().0, rows);
            block = source.next_block()?;
        }
        progress.finish();
        let text = format!(
            "{}: {} rows of {} dimensions, {}; {} with metadata, {} with text; nothing was imported",
            self.file.display(),
            count(rows),
            schema.dim,
            schema.element.name(),
            count(with_metadata as u64),
            count(with_text as u64)
        );
        let json = json!({
            "rows": rows, "dim": schema.dim, "element": schema.element.name(), "metric": schema.metric.name(),
            "with_metadata": with_metadata, "with_text": with_text, "dry_run": true,
        });
        Ok(Output::new(text, json))
    }
}

/// Checks a block and, for bits, gives its bytes their meaning. `first_row` is the number of its first row.
fn prepare(path: &Path, first_row: u64, schema: &Schema, block: &mut Block) -> Result<()> {
    let per_row = block.vectors.elements() / block.rows().max(1);
    check_finite(path, first_row, per_row, &block.vectors)?;
    if schema.element != Element::Bits {
        return Ok(());
    }
    let bytes = match &mut block.vectors {
        Vectors::Bits(bytes) | Vectors::U8(bytes) => std::mem::take(bytes),
        // JSON and CSV know only numbers.
        Vectors::F32(numbers) => {
            let byte = |(i, x): (usize, &f32)| {
                Some(*x as u8)
                    .filter(|b| f32::from(*b) == *x)
                    .ok_or_else(|| not_bits(path, &format!("row {}: {x}", first_row + (i / per_row) as u64)))
            };
            Cow::Owned(numbers.iter().enumerate().map(byte).collect::<Result<Vec<u8>>>()?)
        }
        other => return Err(not_bits(path, &format!("elements of type {}", other.element().name()))),
    };
    block.vectors = Vectors::Bits(bytes);
    Ok(())
}

fn not_bits(path: &Path, what: &str) -> Failure {
    invalid(format!(
        "{}: {what} given; bits are read from bytes (uint8), eight to each, least significant first: \
            np.packbits(array, axis=1, bitorder='little')",
        path.display()
    ))
}

/// An import under way.
struct Run<'a> {
    import: &'a Import,
    db: &'a Database,
    collection: &'a Collection,
    cursor: Cursor,
    rows: u64,
}

impl Run<'_> {
    fn blocks(&mut self, mut source: Box<dyn Source>, first: Option<Block>, json: bool) -> Result<std::time::Duration> {
        let mut progress = Progress::start("importing", source.progress().1, self.rows, json);
        let mut block = match first {
            Some(block) => Some(block),
            None => source.next_block()?,
        };
        while let Some(b) = block {
            self.apply(b)?;
            progress.update(source.progress().0, self.rows);
            block = source.next_block()?;
        }
        Ok(progress.finish())
    }

    /// Writes one block, and then the cursor behind it.
    fn apply(&mut self, block: Block) -> Result<()> {
        let rows = block.rows() as u64;
        let Some(last) = block.ids.last().cloned() else { return Ok(()) };
        write_block(&self.import.file, self.rows, self.collection, block)?;
        self.rows += rows;
        self.cursor.advance(self.db, self.rows, &last)
    }
}

/// Writes one block, which is not empty. `first_row` is the number of its first row.
fn write_block(file: &Path, first_row: u64, collection: &Collection, mut block: Block) -> Result<()> {
    prepare(file, first_row, collection.schema(), &mut block)?;
    let rows = block.rows();
    let place = format!("{}: rows {first_row} to {}", file.display(), first_row + rows as u64 - 1);
    block.keep_last_of_each_id(block.vectors.elements() / rows);
    let mut batch = Batch::new(block.ids.iter().collect(), block.vectors);
    if let Some(metadata) = &block.metadata {
        let with = batch.with_metadata(metadata.iter().map(Option::as_ref));
        batch = with.map_err(Failure::from).map_err(|e| e.at(&place))?;
    }
    if let Some(text) = &block.text {
        batch = batch.with_text(text.iter().map(Option::as_deref));
    }
    if let Some(fields) = &block.fields {
        batch = add_to_batch(batch, fields, collection.schema()).map_err(|e| e.at(&place))?;
    }
    collection.upsert(batch).map_err(Failure::from).map_err(|e| e.at(&place))?;
    Ok(())
}
