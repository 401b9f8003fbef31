//! Group commit: writers queue up; the first one in leads, writes every waiting batch as frames of the log, syncs
//! once, and only then lets readers see them.

use crate::database::Durability;
use crate::engine::{CollectionState, Engine, State};
use crate::error::{Error, Result};
use crate::fields::FieldColumns;
use crate::filter::Filter;
use crate::filter::cache::FilterCache;
use crate::idmap::{IdMap, Location, MEMTABLE};
use crate::ids::IdColumn;
use crate::memtable::{Block, Memtable};
use crate::record::{BlobColumn, show_id};
use crate::segment::decode_metadata;
use crate::text::index::TextSlot;
use crate::version::Version;
use crate::wal::{FrameKind, LogWriter, SMALL_CHUNK};
use crate::write::bulk::Bulk;
use crate::write::payload::{encode_delete, encode_upsert};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Thread;

/// A validated change of one record; `None` keeps what is there.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) vector: Option<Vec<u8>>,
    /// As stored: empty removes it.
    pub(crate) metadata: Option<Vec<u8>>,
    /// As stored: empty removes it.
    pub(crate) text: Option<Vec<u8>>,
    /// Of further fields, by their numbers, as stored: empty removes one.
    pub(crate) fields: Vec<(usize, Vec<u8>)>,
}

/// One write, validated and owned.
#[derive(Debug)]
pub(crate) enum Op {
    /// Writes or replaces.
    Upsert(Block),
    /// Refused whole if any id is known.
    Add(Block),
    /// Refused if the id is unknown.
    Update { id: Vec<u8>, hash: u64, change: Change },
    /// Unknown ids are passed over.
    Delete { ids: IdColumn, hashes: Vec<u64>, filter: Option<Filter> },
    /// Records that stand in a segment file already.
    Bulk(Box<Bulk>),
}

/// One writer's place in the queue.
#[derive(Debug)]
struct Ticket {
    collection: Arc<CollectionState>,
    op: Mutex<Option<Op>>,
    turn: Mutex<Turn>,
    writer: Thread,
}

#[derive(Debug)]
enum Turn {
    Wait,
    /// The writer is the one to commit the next group.
    Lead,
    Answered(Result<usize>),
}

impl Ticket {
    /// The writer learns of it when the group is done.
    fn answer(&self, result: Result<usize>) {
        *self.turn.lock() = Turn::Answered(result);
    }

    /// Waits for the answer; `None` if the writer is to lead.
    fn wait(&self) -> Option<Result<usize>> {
        loop {
            match std::mem::replace(&mut *self.turn.lock(), Turn::Wait) {
                Turn::Wait => {}
                Turn::Lead => return None,
                Turn::Answered(result) => return Some(result),
            }
            std::thread::park();
        }
    }
}

#[derive(Debug, Default)]
struct Pending {
    tickets: Vec<Arc<Ticket>>,
    led: bool,
}

/// The writers that wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct CommitQueue {
    pending: Mutex<Pending>,
}

/// A group under way. When it ends, however it does, the next one begins and every writer of this one is woken.
struct Lead<'a> {
    engine: &'a Engine,
    group: Vec<Arc<Ticket>>,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut pending = self.engine.queue.pending.lock();
        let next = pending.tickets.first().cloned();
        pending.led = next.is_some();
        drop(pending);
        if let Some(next) = next {
            *next.turn.lock() = Turn::Lead;
            next.writer.unpark();
        }
        for ticket in &self.group {
            let mut turn = ticket.turn.lock();
            if !matches!(*turn, Turn::Answered(_)) {
                *turn = Turn::Answered(Err(self.engine.poison("a commit was abandoned half-way")));
            }
            drop(turn);
            ticket.writer.unpark();
        }
    }
}

/// What applying a frame does to a collection.
pub(crate) enum Effect {
    Write(Box<Block>),
    Delete { ids: IdColumn, hashes: Vec<u64> },
}

/// Where an id stands, as seen by the later writes of a group.
enum Overlay {
    Row { effect: usize, row: u32 },
    Deleted,
}

/// The writes of a group that wait for the log.
#[derive(Default)]
struct Staged {
    frames: Vec<(FrameKind, Vec<u8>)>,
    effects: Vec<(Arc<CollectionState>, Effect)>,
    /// Who waits, and what to answer on success.
    tickets: Vec<(Arc<Ticket>, usize)>,
    overlay: HashMap<(u32, Vec<u8>), Overlay>,
    /// Later writes of the group look at earlier ones.
    track: bool,
}

impl Engine {
    /// Hands in one write and waits for its outcome: the number of records written or deleted.
    pub(crate) fn submit(&self, collection: &Arc<CollectionState>, op: Op) -> Result<usize> {
        let ticket = Arc::new(Ticket {
            collection: Arc::clone(collection),
            op: Mutex::new(Some(op)),
            turn: Mutex::new(Turn::Wait),
            writer: std::thread::current(),
        });
        let mut pending = self.queue.pending.lock();
        pending.tickets.push(Arc::clone(&ticket));
        let led = std::mem::replace(&mut pending.led, true);
        drop(pending);
        if led {
            if let Some(result) = ticket.wait() {
                return result;
            }
            // The writers of the group before are just being woken: those that write again at once join this one.
            std::thread::yield_now();
        }
        let group = std::mem::take(&mut self.queue.pending.lock().tickets);
        let lead = Lead { engine: self, group };
        self.commit_group(&lead.group);
        self.after_commit();
        drop(lead);
        ticket.wait().unwrap_or_else(|| Err(Error::Unusable("a commit ended without an outcome".into())))
    }

    fn commit_group(&self, group: &[Arc<Ticket>]) {
        let mut state = self.state.lock();
        let mut staged = Staged { track: group.len() > 1, ..Staged::default() };
        for ticket in group {
            let Some(op) = ticket.op.lock().take() else { continue };
            let refused = self.writable().and_then(|()| alive(&ticket.collection));
            match (refused, op) {
                (Err(e), _) => ticket.answer(Err(e)),
                (Ok(()), Op::Bulk(bulk)) => {
                    self.commit_staged(&mut state, std::mem::take(&mut staged));
                    staged.track = true;
                    let result = self.commit_bulk(&mut state, &ticket.collection, *bulk);
                    ticket.answer(result);
                }
                (Ok(()), op) => {
                    if let Err(e) = staged.add(ticket, op) {
                        self.note_damage(&e);
                        ticket.answer(Err(e));
                    }
                }
            }
        }
        self.commit_staged(&mut state, staged);
    }

    /// Logs, syncs and applies what is staged, and answers everyone who waits for it.
    fn commit_staged(&self, state: &mut State, staged: Staged) {
        let mut staged = staged;
        if staged.frames.is_empty() {
            return;
        }
        let mut outcome = self.log_frames(state, &staged.frames, false);
        if let Err(e @ Error::DiskFull(_)) = &outcome {
            // Deletes must still work: they go alone, into space that was set aside for them.
            staged = staged.only_deletes(e);
            if staged.frames.is_empty() {
                return;
            }
            outcome = self.log_frames(state, &staged.frames, true);
        }
        let applied = outcome.and_then(|()| {
            let seq = state.seq + staged.frames.len() as u64;
            state.seq = seq;
            if self.options.durability == Durability::Commit {
                state.durable_seq = seq;
            }
            self.apply_all(state, staged.effects, seq)
        });
        for (ticket, count) in &staged.tickets {
            ticket.answer(applied.clone().map(|()| *count));
        }
    }

    fn log_frames(&self, state: &mut State, frames: &[(FrameKind, Vec<u8>)], deletes: bool) -> Result<()> {
        self.not_poisoned()?;
        self.ensure_log(state, deletes)?;
        let (first, durable) = (state.seq + 1, state.durable_seq);
        let Some(log) = state.log.as_mut() else {
            return Err(Error::Unusable("the log is not open".into()));
        };
        let bytes = frames.iter().map(|(_, payload)| LogWriter::frame_bytes(payload.len())).sum();
        log.prepare(bytes, deletes).map_err(|e| self.poison_if_indeterminate(e))?;
        for ((kind, payload), seq) in frames.iter().zip(first..) {
            log.push(*kind, seq, durable, payload);
        }
        let written = log.write().and_then(|()| match self.options.durability {
            Durability::Commit if crate::mutant::active("ack-before-sync") => Ok(()),
            Durability::Commit => self.metrics.fsync.time(|| log.sync()),
            _ => Ok(()),
        });
        if crate::mutant::active("ignore-failed-sync") {
            return Ok(());
        }
        written.map_err(|e| self.poison(&format!("write to the log: {e}")))?;
        self.log_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn ensure_log(&self, state: &mut State, deletes: bool) -> Result<()> {
        if state.log.is_none() {
            state.log = Some(self.new_log(state, deletes)?);
        }
        Ok(())
    }

    /// A log for the commits from now on; where the device is nearly full, if `small_will_do`, one of the least size.
    pub(crate) fn new_log(&self, state: &mut State, small_will_do: bool) -> Result<LogWriter> {
        let mut create = |chunk: u64| {
            let key = crate::wal::LogKey { uuid: self.uuid, generation: state.next_generation };
            // A failed attempt may leave its name behind; the number is not used again.
            state.next_generation += 1;
            LogWriter::create(&*self.storage, key, state.seq + 1, state.manifest.number, chunk)
        };
        let chunk = self.options.log_chunk();
        match create(chunk) {
            Err(Error::DiskFull(_)) if small_will_do => Ok(create(chunk.min(SMALL_CHUNK))?.with_chunk(chunk)),
            made => made,
        }
    }

    /// Applies effects that are in the log, collection by collection.
    fn apply_all(&self, state: &mut State, effects: Vec<(Arc<CollectionState>, Effect)>, seq: u64) -> Result<()> {
        let mut rest = effects;
        while let Some((collection, _)) = rest.first() {
            let collection = Arc::clone(collection);
            let (mine, others) = rest.into_iter().partition(|(c, _)| c.id == collection.id);
            rest = others;
            let mine: Vec<(u64, Effect)> = mine.into_iter().map(|(_, effect): (_, Effect)| (seq, effect)).collect();
            apply(&collection, mine, &mut state.next_source, false)?;
        }
        Ok(())
    }
}

pub(crate) fn alive(collection: &CollectionState) -> Result<()> {
    if collection.dropped.load(Ordering::Acquire) {
        return Err(deleted(collection));
    }
    Ok(())
}

pub(crate) fn deleted(collection: &CollectionState) -> Error {
    Error::NotFound(format!("collection {:?} was deleted", collection.name))
}

/// Applies effects in order and publishes the new version.
///
/// With `replay`, an effect carries its frame's seq, and a record that stands in a segment at least as new is left
/// alone: a bulk write replaced it after the frame was written.
pub(crate) fn apply(
    collection: &CollectionState,
    effects: Vec<(u64, Effect)>,
    next_source: &mut u32,
    replay: bool,
) -> Result<()> {
    let mut guard = collection.ids_mut()?;
    let Some(ids) = guard.as_mut() else { return Ok(()) };
    let mut version = Version::clone(&collection.version.load());
    for (seq, effect) in effects {
        version.seq = version.seq.max(seq);
        match effect {
            Effect::Write(block) => apply_write(ids, &mut version, *block, seq, next_source, replay)?,
            Effect::Delete { ids: column, hashes } => {
                for (row, hash) in hashes.iter().enumerate() {
                    if let Some(at) = find(ids, &version, *hash, column.encoded(row))?
                        && !(replay && is_newer(&version, at, seq))
                    {
                        version.kill(at);
                        ids.remove(*hash, at);
                    }
                }
            }
        }
    }
    collection.id_memory.store(ids.memory(), Ordering::Relaxed);
    collection.version.store(Arc::new(version));
    Ok(())
}

fn apply_write(
    ids: &mut IdMap,
    version: &mut Version,
    block: Block,
    seq: u64,
    next_source: &mut u32,
    replay: bool,
) -> Result<()> {
    let rows = block.len();
    // The rows' old places are looked up before the block is in the version: its own rows are not old places.
    let mut old = Vec::with_capacity(rows);
    for row in 0..rows {
        old.push(find(ids, version, block.hashes[row], block.ids.encoded(row))?);
    }
    let hashes = block.hashes.clone();
    let source = *next_source;
    if version.memtables.is_empty() {
        *next_source += 1;
    }
    let first = version.push(block, source);
    for (row, (hash, old)) in hashes.into_iter().zip(old).enumerate() {
        let at = Location { source: first.source, row: first.row + row as u32 };
        match old {
            Some(old) if replay && is_newer(version, old, seq) => version.kill(at),
            Some(old) => {
                version.kill(old);
                ids.relocate(hash, old, at);
            }
            None => ids.insert(hash, at),
        }
    }
    Ok(())
}

/// Whether a location lies in a segment that holds commits after `seq`.
fn is_newer(version: &Version, at: Location, seq: u64) -> bool {
    at.source & MEMTABLE == 0 && version.segment(at.source).is_some_and(|v| v.segment.entry.seq >= seq)
}

/// Where an id stands. An unreadable candidate is an error, never a miss.
pub(crate) fn find(ids: &IdMap, version: &Version, hash: u64, encoded: &[u8]) -> Result<Option<Location>> {
    let mut failure = None;
    let found = ids.find(hash, |at| match version.has_id(at, encoded) {
        Ok(same) => same,
        Err(e) => {
            failure = Some(e);
            false
        }
    });
    match (found, failure) {
        (Some(at), _) => Ok(Some(at)),
        (None, Some(e)) => Err(e),
        (None, None) => Ok(None),
    }
}

impl Staged {
    /// Resolves one write against the state and the writes before it; nothing is logged if it is refused.
    fn add(&mut self, ticket: &Arc<Ticket>, op: Op) -> Result<()> {
        let collection = &ticket.collection;
        match op {
            Op::Upsert(block) => {
                // Finds damage in the ids now, when refusing is still possible.
                self.known(collection, &block, false)?;
                self.write(ticket, block, None)
            }
            Op::Add(block) => {
                if let Some(row) = self.known(collection, &block, true)? {
                    return Err(already_exists(&block.ids, row));
                }
                self.write(ticket, block, None)
            }
            Op::Update { id, hash, change } => {
                let block = self.updated(collection, &id, hash, &change)?;
                self.write(ticket, block, Some(1))
            }
            Op::Delete { ids, hashes, filter } => self.delete(ticket, &ids, &hashes, filter.as_ref()),
            Op::Bulk(_) => Ok(()),
        }
    }

    fn write(&mut self, ticket: &Arc<Ticket>, block: Block, count: Option<usize>) -> Result<()> {
        let collection = &ticket.collection;
        let effect = self.effects.len();
        if self.track {
            for row in 0..block.len() {
                let key = (collection.id, block.ids.encoded(row).to_vec());
                self.overlay.insert(key, Overlay::Row { effect, row: row as u32 });
            }
        }
        self.frames.push((FrameKind::Upsert, encode_upsert(collection.id, &block)));
        self.tickets.push((Arc::clone(ticket), count.unwrap_or(block.len())));
        self.effects.push((Arc::clone(collection), Effect::Write(Box::new(block))));
        Ok(())
    }

    /// What the earlier writes of the group say of an id: known, deleted, or nothing.
    fn overlaid(&self, collection: &CollectionState, id: &[u8]) -> Option<bool> {
        if self.overlay.is_empty() {
            return None;
        }
        self.overlay.get(&(collection.id, id.to_vec())).map(|o| matches!(o, Overlay::Row { .. }))
    }

    /// The first row whose id is known (if `stop`); every candidate is read.
    fn known(&self, collection: &CollectionState, block: &Block, stop: bool) -> Result<Option<usize>> {
        let guard = collection.ids()?;
        let Some(ids) = guard.as_ref() else { return Ok(None) };
        let version = collection.version.load();
        for row in 0..block.len() {
            let id = block.ids.encoded(row);
            let found = find(ids, &version, block.hashes[row], id)?.is_some();
            if stop && self.overlaid(collection, id).unwrap_or(found) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// The whole record after an update.
    fn updated(&self, collection: &CollectionState, id: &[u8], hash: u64, change: &Change) -> Result<Block> {
        let unknown = || {
            Error::NotFound(format!(
                "id {} in collection {:?}: update changes existing records, upsert makes new ones",
                show_id(crate::ids::decode(id)),
                collection.name
            ))
        };
        let merge = |source: &dyn crate::segment::RowSource, row: u32| -> Result<Block> {
            let vector = match &change.vector {
                Some(vector) => vector.clone(),
                None => source.vectors(row, 1)?.to_vec(),
            };
            let blob = |new: &Option<Vec<u8>>, old: Result<&[u8]>| -> Result<Option<BlobColumn>> {
                let mut column = BlobColumn::default();
                match new {
                    Some(new) => column.push_stored(new),
                    None => column.push_stored(old?),
                }
                Ok((!column.bytes.is_empty()).then_some(column))
            };
            let mut fields = FieldColumns::default();
            for field in 0..collection.schema.fields.len() {
                let new = change.fields.iter().find(|(number, _)| *number == field).map(|(_, value)| value.clone());
                if let Some(column) = blob(&new, source.field(field, row))? {
                    fields.set(field, column);
                }
            }
            Ok(Block {
                start: 0,
                hashes: vec![hash],
                ids: IdColumn { bytes: id.to_vec(), ends: vec![id.len() as u32] },
                stride: vector.len(),
                vectors: vector,
                metadata: blob(&change.metadata, source.metadata(row))?,
                text: blob(&change.text, source.text(row))?,
                fields,
                text_slot: TextSlot::default(),
                filters: FilterCache::default(),
            })
        };
        match self.overlay.get(&(collection.id, id.to_vec())) {
            Some(Overlay::Deleted) => return Err(unknown()),
            Some(Overlay::Row { effect, row }) => {
                if let Some((_, Effect::Write(block))) = self.effects.get(*effect) {
                    return merge(&**block, *row);
                }
            }
            None => {}
        }
        let guard = collection.ids()?;
        let version = collection.version.load();
        let at = guard.as_ref().map_or(Ok(None), |ids| find(ids, &version, hash, id))?;
        match at.and_then(|at| version.source(at)) {
            Some((source, row)) => merge(source, row),
            None => Err(unknown()),
        }
    }

    fn delete(&mut self, ticket: &Arc<Ticket>, ids: &IdColumn, hashes: &[u64], filter: Option<&Filter>) -> Result<()> {
        let collection = &ticket.collection;
        let mut present = IdColumn::default();
        let mut present_hashes = Vec::new();
        {
            let guard = collection.ids()?;
            let version = collection.version.load();
            let Some(map) = guard.as_ref() else { return Ok(()) };
            for (row, hash) in hashes.iter().enumerate() {
                let id = ids.encoded(row);
                let at = find(map, &version, *hash, id)?;
                if let Some(filter) = filter {
                    // The record may have changed since the filter chose it.
                    let source = at.and_then(|at| version.source(at));
                    let Some((source, row)) = source.filter(|_| self.overlaid(collection, id).is_none()) else {
                        continue;
                    };
                    if !filter.matches(decode_metadata(source.metadata(row)?)?.as_ref()) {
                        continue;
                    }
                }
                if self.overlaid(collection, id).unwrap_or(at.is_some()) {
                    present.bytes.extend_from_slice(id);
                    present.ends.push(present.bytes.len() as u32);
                    present_hashes.push(*hash);
                }
            }
        }
        if present.is_empty() {
            ticket.answer(Ok(0));
            return Ok(());
        }
        if self.track {
            for row in 0..present.len() {
                self.overlay.insert((collection.id, present.encoded(row).to_vec()), Overlay::Deleted);
            }
        }
        self.frames.push((FrameKind::Delete, encode_delete(collection.id, &present)));
        self.tickets.push((Arc::clone(ticket), present.len()));
        self.effects.push((Arc::clone(collection), Effect::Delete { ids: present, hashes: present_hashes }));
        Ok(())
    }

    /// Answers everything but the deletes with `error` and stages the deletes anew, against what is stored.
    fn only_deletes(self, error: &Error) -> Staged {
        let mut kept = Staged { track: true, ..Staged::default() };
        for ((ticket, _), (_, effect)) in self.tickets.into_iter().zip(self.effects) {
            let result = match effect {
                Effect::Write(_) => Err(error.clone()),
                Effect::Delete { ids, hashes } => kept.delete(&ticket, &ids, &hashes, None),
            };
            if let Err(e) = result {
                ticket.answer(Err(e));
            }
        }
        kept
    }
}

pub(crate) fn already_exists(ids: &IdColumn, row: usize) -> Error {
    Error::AlreadyExists(format!(
        "id {} is known: add refuses known ids, upsert replaces them; nothing of the batch was written",
        show_id(ids.get(row))
    ))
}

/// A fresh, empty memtable.
pub(crate) fn new_memtable(next_source: &mut u32) -> Memtable {
    let source = *next_source;
    *next_source += 1;
    Memtable::new(source)
}
