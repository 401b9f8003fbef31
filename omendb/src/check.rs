//! `check`: is what is on disk what the database believes?

use crate::engine::{CollectionState, Engine};
use crate::error::{Error, Result};
use crate::index::derived::Owner;
use crate::index::file;
use crate::index::graph::Keep;
use crate::manifest::{LOG_DIR, Manifest, SEGMENT_DIR, SegmentEntry, read_all};
use crate::segment::reader::Segment;
use crate::segment::tombstones;
use crate::wal::{self, LogKey, log_path, parse_generation};
use crate::write::{columns, sparse};
use serde::Serialize;

/// What a check looked at and what it found wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Files looked at.
    pub files: u64,
    /// Bytes looked at; a check that is not deep looks at lengths, footers and checksums of small files.
    pub bytes: u64,
    /// Live records.
    pub records: u64,
    /// What is wrong, one line a finding. Empty: all is well.
    pub problems: Vec<String>,
}

const MAX_PROBLEMS: usize = 1_000;

impl CheckReport {
    pub(crate) fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(e) => {
                if self.problems.len() < MAX_PROBLEMS {
                    self.problems.push(e.to_string());
                }
                None
            }
        }
    }
}

pub(crate) fn check(engine: &Engine, deep: bool) -> Result<CheckReport> {
    let mut report = CheckReport { problems: engine.damaged(), ..CheckReport::default() };
    // No flush, compaction or deletion of files in between.
    let _turn = engine.maintenance.lock();
    let state = engine.state.lock();
    if !engine.options.read_only {
        let on_disk = Manifest::load(&*engine.storage);
        if let Some(Some((manifest, _))) = report.note(on_disk)
            && manifest != state.manifest
        {
            report.problems.push(format!("the manifest on disk is {}, not {}", manifest.number, state.manifest.number));
        }
    }
    let manifest = state.manifest.clone();
    check_logs(engine, &manifest, &mut report)?;
    drop(state);
    report.files += 1;
    for entry in &manifest.collections {
        for segment in &entry.segments {
            report.files += 1 + u64::from(segment.tombstones.is_some());
            let opened = report.note(Segment::open(&*engine.storage, segment, entry, &engine.uuid));
            report.note(check_tombstones(engine, segment));
            let Some(opened) = opened else { continue };
            report.bytes += segment.bytes;
            if deep && report.note(opened.verify_all()).is_some() {
                report.note(opened.check_structure(&entry.schema, entry.hash_seed));
                let owner = segment.owner(engine.uuid);
                for (field, stride) in entry.schema.strides() {
                    let count = opened.vector_count(field, stride);
                    let read = file::read(&*engine.storage, &Owner { field, ..owner }, count, Keep::Nothing);
                    if let Some(Some((graph, _))) = report.note(read) {
                        report.files += 1;
                        report.bytes += graph.as_bytes().len() as u64;
                    }
                }
                if let Some(Some(bytes)) = report.note(crate::text::file::check(&*engine.storage, &owner)) {
                    report.files += 1;
                    report.bytes += bytes;
                }
                if let Some(Some(columns)) = report.note(columns::read(&*engine.storage, &owner)) {
                    report.files += 1;
                    report.bytes += columns.as_bytes().len() as u64;
                }
                for (field, _) in entry.schema.sparse_fields() {
                    let read = sparse::read(&*engine.storage, &Owner { field: Some(field), ..owner });
                    if let Some(Some(index)) = report.note(read) {
                        report.files += 1;
                        report.bytes += index.payload().len() as u64;
                    }
                }
            }
        }
    }
    for collection in engine.all_collections() {
        report.records += collection.version.load().live_rows();
        if deep {
            let checked = check_ids(&collection);
            report.note(checked);
        }
    }
    report.problems.dedup();
    Ok(report)
}

fn check_tombstones(engine: &Engine, segment: &SegmentEntry) -> Result<()> {
    tombstones::read(&*engine.storage, segment).map(|_| ())
}

/// Reads every log again, without applying it.
fn check_logs(engine: &Engine, manifest: &Manifest, report: &mut CheckReport) -> Result<()> {
    let entries = engine.storage.list(LOG_DIR).map_err(|e| Error::io("list", LOG_DIR, &e))?;
    for entry in entries {
        let Some(generation) = parse_generation(&entry.name).filter(|g| *g >= manifest.log_start) else { continue };
        let path = log_path(generation);
        let key = LogKey { uuid: engine.uuid, generation };
        report.files += 1;
        report.bytes += entry.len;
        let read = read_all(&*engine.storage, &path).and_then(|bytes| {
            let header = wal::read_header(&bytes, &path, &key)?;
            wal::replay(&bytes, &path, &key, &header, |_| Ok(())).map(|_| ())
        });
        report.note(read);
    }
    Ok(())
}

/// Every live row is what the id index gives for its id, and the index holds nothing else.
fn check_ids(collection: &CollectionState) -> Result<()> {
    let bad = |what: String| Err(Error::corrupt(SEGMENT_DIR, 0, format!("collection {:?}: {what}", collection.name)));
    let guard = collection.ids()?;
    let version = collection.version.load_full();
    let Some(ids) = guard.as_ref() else { return Ok(()) };
    let mut rows = 0u64;
    for part in version.parts() {
        for row in part.live_runs().into_iter().flatten() {
            let at = part.location(row);
            let id = part.rows.id(row)?;
            let found = crate::write::commit::find(ids, &version, part.rows.hash(row)?, id)?;
            if found != Some(at) {
                return bad(format!("row {row} of source {} and {found:?} hold one id", at.source));
            }
            rows += 1;
        }
    }
    if rows != ids.len() as u64 {
        return bad(format!("{rows} live rows but {} known ids", ids.len()));
    }
    Ok(())
}
