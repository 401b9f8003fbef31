//! Recovery: the newest manifest, its segments, then the log's frames on top. Safe to be interrupted anywhere: until
//! the last step it only reads.

use crate::database::{Options, RecoveryReport};
use crate::engine::{CollectionState, Collections, Opened, State};
use crate::error::{Error, Result};
use crate::idmap::MEMTABLE;
use crate::index::derived::parse_segment;
use crate::manifest::{
    CollectionEntry, FORMAT_MAJOR, LOCK_PATH, LOG_DIR, Manifest, SEGMENT_DIR, SegmentEntry, data_path, manifest_path,
    parse_number, read_all,
};
use crate::memtable::hash_ids;
use crate::segment::reader::Segment;
use crate::segment::tombstones;
use crate::storage::{LockKind, Storage};
use crate::version::{SegmentView, Version};
use crate::wal::{self, Frame, FrameKind, LogKey, log_path, parse_generation};
use crate::write::commit::{Effect, apply, new_memtable};
use crate::write::payload::{collection_of, decode_delete, decode_upsert};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Effects are applied in runs of this many frames, so that a version is published once for all of them.
const APPLY_FRAMES: usize = 512;

/// Opens or creates the database in `storage`.
pub(crate) fn open(storage: &dyn Storage, options: &Options) -> Result<Opened> {
    let start = std::time::Instant::now();
    if !options.read_only && options.create {
        storage.create_dir("").map_err(|e| Error::io("create", storage.describe(), &e))?;
    }
    if (options.read_only || !options.create) && Manifest::load(storage)?.is_none() {
        // Before the lock, which would leave a file in somebody else's directory.
        return Err(no_database(storage));
    }
    let lock = take_lock(storage, options)?;
    let (manifest, uuid) = match Manifest::load(storage)? {
        Some(found) => found,
        None if options.read_only || !options.create => return Err(no_database(storage)),
        None => create(storage, options)?,
    };
    let mut recovery = Recovery {
        storage,
        uuid,
        next_source: MEMTABLE,
        collections: BTreeMap::new(),
        damaged: Vec::new(),
        report: RecoveryReport::default(),
        pending: BTreeMap::new(),
        pending_frames: 0,
    };
    recovery.open_segments(&manifest, options.degraded)?;
    let logs = recovery.replay_logs(&manifest, options.degraded)?;
    if !options.read_only {
        remove_leftovers(storage, &manifest)?;
        make_durable(storage, &logs)?;
    }
    let collections = recovery.finish();
    let mut report = recovery.report;
    report.micros = start.elapsed().as_micros() as u64;
    if report.frames > 0 || report.truncated_bytes > 0 {
        tracing::info!(?report, "recovered");
    }
    let state = State {
        log: None,
        next_generation: logs.next_generation,
        old_logs: logs.old,
        seq: logs.seq,
        durable_seq: logs.seq,
        next_source: recovery.next_source,
        manifest,
    };
    Ok(Opened { uuid, state, collections, recovery: report, lock, damaged: recovery.damaged })
}

fn no_database(storage: &dyn Storage) -> Error {
    Error::NotFound(format!(
        "there is no database at {}: check the path, or open it for writing to make one",
        storage.describe()
    ))
}

fn take_lock(storage: &dyn Storage, options: &Options) -> Result<Box<dyn crate::storage::LockGuard>> {
    let kind = if options.read_only { LockKind::Shared } else { LockKind::Exclusive };
    let note = std::process::id().to_string();
    storage.lock(LOCK_PATH, kind, &note).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => {
            let holder = e.to_string();
            let holder = if holder.trim().parse::<u32>().is_ok() {
                format!("process {}", holder.trim())
            } else {
                "another process".into()
            };
            Error::Locked(format!(
                "{} is open in {holder}: one writer or many readers may have it open; close it there first",
                storage.describe()
            ))
        }
        std::io::ErrorKind::NotFound => no_database(storage),
        _ => Error::io("lock", LOCK_PATH, &e),
    })
}

fn create(storage: &dyn Storage, options: &Options) -> Result<(Manifest, [u8; 16])> {
    for dir in [SEGMENT_DIR, LOG_DIR] {
        storage.create_dir(dir).map_err(|e| Error::io("create", dir, &e))?;
    }
    storage.sync_dir("").map_err(|e| Error::io("sync", storage.describe(), &e))?;
    let mut uuid = [0u8; 16];
    match options.seed {
        Some(seed) => uuid = crate::checksum::xxh3_128(&[&seed.to_le_bytes()]).to_le_bytes(),
        None => getrandom::fill(&mut uuid).map_err(|e| Error::Unusable(format!("no random numbers: {e}")))?,
    }
    let mut manifest = Manifest::new();
    manifest.number = 1;
    // A crash during an earlier creation may have left the temporary file.
    let _ = storage.remove(&format!("{}.tmp", manifest_path(1)));
    manifest.commit(storage, &uuid)?;
    tracing::info!(path = %storage.describe(), format = FORMAT_MAJOR, "created");
    Ok((manifest, uuid))
}

/// What the logs held.
struct Logs {
    /// Generations to keep until the next flush, and their bytes of frames.
    old: Vec<(u64, u64)>,
    /// Logs that were not ended cleanly: their verified frames, to be written anew.
    unsealed: Vec<(LogKey, Vec<u8>, wal::LogEnd)>,
    next_generation: u64,
    seq: u64,
}

struct Recovery<'a> {
    storage: &'a dyn Storage,
    uuid: [u8; 16],
    next_source: u32,
    /// By number.
    collections: BTreeMap<u32, Arc<CollectionState>>,
    damaged: Vec<String>,
    report: RecoveryReport,
    pending: BTreeMap<u32, Vec<(u64, Effect)>>,
    pending_frames: usize,
}

impl Recovery<'_> {
    fn open_segments(&mut self, manifest: &Manifest, degraded: bool) -> Result<()> {
        for entry in &manifest.collections {
            let mut version = Version::new(new_memtable(&mut self.next_source));
            version.seq = manifest.seq;
            let mut damaged = Vec::new();
            for segment in &entry.segments {
                let mut opened = self.open_segment(entry, segment, false);
                if let (Err(e @ Error::Corrupt { .. }), true) = (&opened, degraded) {
                    damaged.push(e.to_string());
                    opened = self.open_segment(entry, segment, true);
                }
                match opened {
                    Ok(view) => version.segments.push(view),
                    Err(Error::Corrupt { .. }) if degraded => {}
                    Err(e) => return Err(e),
                }
            }
            version.segments.sort_by_key(|v| (v.segment.entry.seq, v.segment.entry.id));
            self.damaged.extend(damaged.iter().cloned());
            version.damaged = Arc::new(damaged);
            let state = CollectionState::new(entry.id, &entry.name, entry.schema.clone(), entry.hash_seed, version);
            self.collections.insert(entry.id, Arc::new(state));
        }
        Ok(())
    }

    fn open_segment(&self, collection: &CollectionEntry, entry: &SegmentEntry, tolerant: bool) -> Result<SegmentView> {
        let segment = Segment::open_with(self.storage, entry, collection, &self.uuid, tolerant)?;
        let dead = tombstones::read(self.storage, entry)?;
        Ok(SegmentView { segment: Arc::new(segment), dead: Arc::new(dead) })
    }

    fn replay_logs(&mut self, manifest: &Manifest, degraded: bool) -> Result<Logs> {
        let entries = match self.storage.list(LOG_DIR) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::io("list", LOG_DIR, &e)),
        };
        let mut generations: Vec<u64> = entries.iter().filter_map(|e| parse_generation(&e.name)).collect();
        generations.sort_unstable();
        let newest = generations.last().copied().unwrap_or(0);
        let mut logs = Logs {
            old: Vec::new(),
            unsealed: Vec::new(),
            next_generation: manifest.log_start.max(newest + 1),
            seq: manifest.flushed,
        };
        for generation in generations.into_iter().filter(|g| *g >= manifest.log_start) {
            if let Err(e) = self.replay_log(manifest, generation, &mut logs) {
                match e {
                    Error::Corrupt { .. } if degraded => {
                        self.damaged.push(e.to_string());
                        self.take_whole_frames(manifest, generation, &mut logs)?;
                    }
                    e => return Err(e),
                }
            }
        }
        self.apply_pending()?;
        if !self.damaged.is_empty() {
            self.mark_damaged();
        }
        if logs.seq < manifest.seq {
            let lost = Error::corrupt(
                LOG_DIR,
                0,
                format!("the log ends at commit {}; the manifest knows of commit {}", logs.seq, manifest.seq),
            );
            if !degraded {
                return Err(lost);
            }
            self.damaged.push(lost.to_string());
            self.mark_damaged();
        }
        Ok(logs)
    }

    /// Any collection's records may have been in what is damaged: none of them can answer "not there".
    fn mark_damaged(&self) {
        let damaged = Arc::new(self.damaged.clone());
        for collection in self.collections.values() {
            let mut version = Version::clone(&collection.latest());
            version.damaged = Arc::clone(&damaged);
            collection.publish(version);
        }
    }

    fn replay_log(&mut self, manifest: &Manifest, generation: u64, logs: &mut Logs) -> Result<()> {
        let path = log_path(generation);
        let key = LogKey { uuid: self.uuid, generation };
        let bytes = read_all(self.storage, &path)?;
        let header = wal::read_header(&bytes, &path, &key)?;
        if header.manifest > manifest.number {
            let what = format!("the log was begun under manifest {}, which is not there", header.manifest);
            return Err(Error::corrupt(&path, 48, what));
        }
        if header.first_seq <= logs.seq && wal::whole_frames(&bytes, 0, &key).is_empty() {
            // Its making failed half-way and the log before it went on: it never held a commit.
            return Ok(());
        }
        if header.first_seq != logs.seq + 1 {
            let what = format!("the log starts at commit {}, but commit {} is next", header.first_seq, logs.seq + 1);
            return Err(Error::corrupt(&path, 40, what));
        }
        let next_collection = manifest.next_collection;
        let end = wal::replay(&bytes, &path, &key, &header, |frame| {
            self.take_frame(&frame, next_collection).map_err(|what| Error::corrupt(&path, frame.offset, what))?;
            if self.pending_frames >= APPLY_FRAMES { self.apply_pending() } else { Ok(()) }
        })?;
        if end.torn_bytes > 0 {
            tracing::warn!(%path, bytes = end.torn_bytes, "cut off an unacknowledged tail");
        }
        logs.seq = end.next_seq - 1;
        logs.old.push((generation, end.valid_bytes - wal::FILE_HEADER_BYTES as u64));
        if !end.sealed {
            let mut whole = bytes;
            whole.truncate(end.valid_bytes as usize);
            logs.unsealed.push((key, whole, end));
        }
        self.report.log_bytes += end.valid_bytes;
        self.report.truncated_bytes += end.torn_bytes;
        Ok(())
    }

    /// What is left of a damaged log, for a degraded open.
    fn take_whole_frames(&mut self, manifest: &Manifest, generation: u64, logs: &mut Logs) -> Result<()> {
        self.apply_pending()?;
        let bytes = read_all(self.storage, &log_path(generation))?;
        let key = LogKey { uuid: self.uuid, generation };
        for frame in wal::whole_frames(&bytes, 0, &key) {
            // Frames before the damage are applied already; the same frame again changes nothing.
            if self.take_frame(&frame, manifest.next_collection).is_ok() && frame.kind != FrameKind::Seal {
                logs.seq = logs.seq.max(frame.seq);
            }
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: &Frame<'_>, next_collection: u32) -> std::result::Result<(), &'static str> {
        let id = collection_of(frame.payload).ok_or("the frame names no collection")?;
        self.report.frames += 1;
        let Some(collection) = self.collections.get(&id) else {
            // A deleted collection's frames mean nothing any more.
            return if id < next_collection { Ok(()) } else { Err("the frame names a collection that never was") };
        };
        let effect = match frame.kind {
            FrameKind::Upsert => {
                let block = decode_upsert(frame.payload, &collection.schema, collection.hash_seed)
                    .ok_or("the frame's records do not parse")?;
                self.report.records += block.len() as u64;
                Effect::Write(Box::new(block))
            }
            FrameKind::Delete => {
                let ids = decode_delete(frame.payload).ok_or("the frame's ids do not parse")?;
                let hashes = hash_ids(&ids, collection.hash_seed);
                Effect::Delete { ids, hashes }
            }
            FrameKind::Seal => return Ok(()),
        };
        self.pending.entry(id).or_default().push((frame.seq, effect));
        self.pending_frames += 1;
        Ok(())
    }

    fn apply_pending(&mut self) -> Result<()> {
        self.pending_frames = 0;
        for (id, effects) in std::mem::take(&mut self.pending) {
            if let Some(collection) = self.collections.get(&id) {
                apply(collection, effects, &mut self.next_source, true)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Collections {
        std::mem::take(&mut self.collections).into_values().map(|c| (c.name.clone(), c)).collect()
    }
}

/// Nothing may be acknowledged on top of what recovery read before that is on stable storage itself.
fn make_durable(storage: &dyn Storage, logs: &Logs) -> Result<()> {
    for (key, whole, end) in &logs.unsealed {
        wal::rewrite_sealed(storage, &log_path(key.generation), *key, whole, end)?;
    }
    for dir in [LOG_DIR, SEGMENT_DIR, ""] {
        storage.sync_dir(dir).map_err(|e| Error::io("sync", dir, &e))?;
    }
    Ok(())
}

/// Removes what no manifest names: files of interrupted flushes, compactions, bulk writes and swaps.
fn remove_leftovers(storage: &dyn Storage, manifest: &Manifest) -> Result<()> {
    let named: BTreeSet<String> = manifest
        .collections
        .iter()
        .flat_map(|c| &c.segments)
        .flat_map(|s| [Some(s.data_path()), s.tombstones_path()])
        .flatten()
        .collect();
    let list = |dir: &str| storage.list(dir).map_err(|e| Error::io("list", dir, &e));
    let mut leftovers = Vec::new();
    for entry in list("")? {
        let old = parse_number(&entry.name).is_some_and(|n| n < manifest.number);
        if old || (entry.name.starts_with("MANIFEST-") && entry.name.ends_with(".tmp")) {
            leftovers.push(entry.name);
        }
    }
    for entry in list(SEGMENT_DIR)? {
        let path = format!("{SEGMENT_DIR}/{}", entry.name);
        let derived = parse_segment(&entry.name).is_some_and(|segment| named.contains(&data_path(segment)));
        if !named.contains(&path) && !derived {
            leftovers.push(path);
        }
    }
    for entry in list(LOG_DIR)? {
        if let Some(generation) = parse_generation(&entry.name)
            && generation < manifest.log_start
        {
            leftovers.push(log_path(generation));
        }
        if entry.name.ends_with(".tmp") {
            leftovers.push(format!("{LOG_DIR}/{}", entry.name));
        }
    }
    if !leftovers.is_empty() {
        // A process that was killed in mid-swap leaves a manifest whose name is not durable yet: until it is, a power
        // cut can bring its predecessor back, and what that one names must still be there.
        storage.sync_dir("").map_err(|e| Error::io("sync", storage.describe(), &e))?;
    }
    for path in leftovers {
        match storage.remove(&path) {
            Ok(()) => tracing::info!(%path, "removed a leftover"),
            Err(e) => return Err(Error::io("remove", path, &e)),
        }
    }
    Ok(())
}
