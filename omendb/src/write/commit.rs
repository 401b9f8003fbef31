//! Group commit: writers queue up; the first one in leads, writes every waiting batch as frames of the log, syncs
//! once, and only then lets readers see them.

use crate::database::Durability;
use crate::engine::{CollectionState, Engine, State};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::idmap::{IdMap, Location, MEMTABLE};
use crate::ids::IdColumn;
use crate::memtable::{Block, Memtable};
use crate::version::Version;
use crate::wal::{Draft, LogWriter, SMALL_CHUNK};
use crate::write::bulk::Bulk;
use crate::write::payload::encode_upsert;
use crate::write::stage::Staged;
use parking_lot::Mutex;
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
    /// Writes or replaces; with `add`, refused whole if any id is known. The writer's own thread has encoded it.
    Write { block: Box<Block>, frame: Draft, add: bool },
    /// Refused if the id is unknown.
    Update { id: Vec<u8>, hash: u64, change: Change },
    /// Unknown ids are passed over.
    Delete { ids: IdColumn, hashes: Vec<u64>, filter: Option<Filter> },
    /// Records that stand in a segment file already.
    Bulk(Box<Bulk>),
}

impl Op {
    pub(crate) fn write(collection: u32, block: Block, add: bool) -> Op {
        Op::Write { frame: encode_upsert(collection, &block), block: Box::new(block), add }
    }

    /// Whether its outcome depends on earlier writes of its group.
    fn looks_back(&self) -> bool {
        !matches!(self, Op::Write { add: false, .. })
    }
}

/// One writer's place in the queue.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) collection: Arc<CollectionState>,
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
    pub(super) fn answer(&self, result: Result<usize>) {
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

/// Most groups that one writer commits in a row, its own among them.
const GROUPS_LED: usize = 4;

/// The writers that wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct CommitQueue {
    pending: Mutex<Pending>,
}

/// The one writer who commits for all, and the group under way. However it ends, every writer of the group is woken,
/// and somebody leads while anybody waits.
struct Lead<'a> {
    engine: &'a Engine,
    group: Vec<Arc<Ticket>>,
}

impl Lead<'_> {
    /// Begins a group of all who wait; false where nobody does.
    fn gather(&mut self) -> bool {
        self.group = std::mem::take(&mut self.engine.queue.pending.lock().tickets);
        !self.group.is_empty()
    }

    /// Ends the group.
    fn wake(&mut self) {
        for ticket in self.group.drain(..) {
            let mut turn = ticket.turn.lock();
            if !matches!(*turn, Turn::Answered(_)) {
                *turn = Turn::Answered(Err(self.engine.poison("a commit was abandoned half-way")));
            }
            drop(turn);
            ticket.writer.unpark();
        }
    }
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
        self.wake();
    }
}

/// What applying a frame does to a collection.
pub(crate) enum Effect {
    Write(Box<Block>),
    Delete { ids: IdColumn, hashes: Vec<u64> },
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
        self.lead();
        ticket.wait().unwrap_or_else(|| Err(Error::Unusable("a commit ended without an outcome".into())))
    }

    /// Commits what waits, and what comes meanwhile, up to a limit: a writer that has to be woken first would begin
    /// later than this one can.
    fn lead(&self) {
        let mut lead = Lead { engine: self, group: Vec::new() };
        for _ in 0..GROUPS_LED {
            if !lead.gather() {
                return;
            }
            self.commit_group(&lead.group);
            self.after_commit();
            lead.wake();
        }
    }

    fn commit_group(&self, group: &[Arc<Ticket>]) {
        let mut state = self.state.lock();
        let looks_back = |ticket: &Arc<Ticket>| ticket.op.lock().as_ref().is_some_and(Op::looks_back);
        let track = group.len() > 1 && group.iter().any(looks_back);
        let mut staged = Staged::new(track);
        for ticket in group {
            let Some(op) = ticket.op.lock().take() else { continue };
            let refused = self.writable().and_then(|()| alive(&ticket.collection));
            match (refused, op) {
                (Err(e), _) => ticket.answer(Err(e)),
                (Ok(()), Op::Bulk(bulk)) => {
                    self.commit_staged(&mut state, std::mem::replace(&mut staged, Staged::new(track)));
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

    fn log_frames(&self, state: &mut State, frames: &[Draft], deletes: bool) -> Result<()> {
        self.not_poisoned()?;
        self.ensure_log(state, deletes)?;
        let (first, durable) = (state.seq + 1, state.durable_seq);
        let Some(log) = state.log.as_mut() else {
            return Err(Error::Unusable("the log is not open".into()));
        };
        let bytes = frames.iter().map(Draft::frame_bytes).sum();
        log.prepare(bytes, deletes).map_err(|e| self.poison_if_indeterminate(e))?;
        for (frame, seq) in frames.iter().zip(first..) {
            log.push(frame, seq, durable);
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
    let mut version = Version::clone(&collection.latest());
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
    if let Some(memtable) = version.memtables.last_mut() {
        memtable.merge();
    }
    collection.id_memory.store(ids.memory(), Ordering::Relaxed);
    collection.publish(version);
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

/// A fresh, empty memtable.
pub(crate) fn new_memtable(next_source: &mut u32) -> Memtable {
    let source = *next_source;
    *next_source += 1;
    Memtable::new(source)
}
