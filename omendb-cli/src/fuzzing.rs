//! What the fuzz target `imports` runs, kept here so that `cargo test` replays its corpus on any toolchain.

use crate::commands::import::Import;
use crate::failure::{Failure, Result};
use crate::formats::Format;
use omendb::storage::MemStorage;
use omendb::{Error, Id, Options};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// What an input is, by its first byte: the end of a file's name, and the format it is read as.
const KINDS: &[(&str, Option<Format>)] = &[
    ("npy", Some(Format::Npy)),
    ("npz", Some(Format::Npz)),
    ("fvecs", Some(Format::Fvecs)),
    ("bvecs", Some(Format::Bvecs)),
    ("jsonl", Some(Format::Jsonl)),
    ("csv", Some(Format::Csv)),
    ("parquet", Some(Format::Parquet)),
    (FURTHER, Some(Format::Jsonl)),
    ("bin", None),
    ("ivecs", None),
    ("txt", None),
    ("ids", None),
];

/// JSON lines whose records have further fields.
const FURTHER: &str = "fields.jsonl";
/// Files of ids; the next byte says of how many vectors.
const KINDS_OF_IDS: &[&str] = &["ivecs", "txt", "ids"];

/// A file to import, `[kind][file]`: every row is a record that the database takes, or the file is refused as invalid.
///
/// # Panics
/// Where that is not so.
pub fn imports(data: &[u8]) {
    let Some((kind, file)) = data.split_first() else { return };
    let (name, format) = KINDS[usize::from(*kind) % KINDS.len()];
    let dir =
        std::env::temp_dir().join(format!("omendb-fuzz-{}-{:?}", std::process::id(), std::thread::current().id()));
    let outcome = import(&dir, name, format, file);
    if let Err(e) = std::fs::remove_dir_all(&dir) {
        panic!("{}: {e}", dir.display());
    }
    match outcome {
        Ok(()) | Err(Failure::Engine(Error::InvalidInput(_) | Error::LimitExceeded(_))) => {}
        Err(other) => panic!("{name}: a bad file is invalid, and nothing else: {other}"),
    }
}

/// Writes the file into `dir`, which it makes, and imports it.
fn import(dir: &Path, name: &str, format: Option<Format>, bytes: &[u8]) -> Result<()> {
    let put = |name: String, bytes: &[u8]| {
        let path = dir.join(name);
        if let Err(e) = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, bytes)) {
            panic!("{}: {e}", path.display());
        }
        path
    };
    let mut import = Import::default();
    import.format = format;
    if KINDS_OF_IDS.contains(&name) {
        let (rows, bytes) = bytes.split_first().unwrap_or((&0, &[]));
        import.columns.ids = Some(put(format!("ids.{name}"), bytes));
        import.file = put("vectors.bvecs".into(), &[1, 0, 0, 0, 7].repeat(usize::from(*rows)));
    } else {
        import.file = put(format!("file.{name}"), bytes);
    }
    if name == FURTHER {
        import.columns.further = true;
        import.fields.vectors = vec!["title:2".into(), "bits:12:hamming:bits".into()];
        import.fields.sparse = vec!["terms".into()];
    }
    let db = Options::new().background(false).open_on(Arc::new(MemStorage::new()))?;
    let ids: BTreeSet<Id> = import.to_new(&db)?.into_iter().collect();
    let collection = db.collection(&db.collections()[0])?;
    let records = collection.iterate()?.collect::<std::result::Result<Vec<_>, _>>()?;
    assert_eq!(records.into_iter().map(|record| record.id).collect::<BTreeSet<_>>(), ids, "{name}");
    Ok(())
}
