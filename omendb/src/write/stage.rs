//! What a group of writes will do: each is resolved against the state and the writes before it, and logged only if it
//! is not refused.

use crate::engine::CollectionState;
use crate::error::{Error, Result};
use crate::fields::FieldColumns;
use crate::filter::Filter;
use crate::ids::IdColumn;
use crate::memtable::Block;
use crate::record::{BlobColumn, show_id};
use crate::segment::decode_metadata;
use crate::wal::Draft;
use crate::write::commit::{Change, Effect, Op, Ticket, find};
use crate::write::payload::{encode_delete, encode_upsert};
use std::collections::HashMap;
use std::sync::Arc;

/// Where an id stands, as seen by the later writes of a group.
enum Overlay {
    Row { effect: usize, row: u32 },
    Deleted,
}

/// The writes of a group that wait for the log.
#[derive(Default)]
pub(super) struct Staged {
    pub(super) frames: Vec<Draft>,
    pub(super) effects: Vec<(Arc<CollectionState>, Effect)>,
    /// Who waits, and what to answer on success.
    pub(super) tickets: Vec<(Arc<Ticket>, usize)>,
    overlay: HashMap<(u32, Vec<u8>), Overlay>,
    /// Later writes of the group look at earlier ones.
    track: bool,
}

impl Staged {
    /// With `track`, writes that look at earlier ones of their group may come.
    pub(super) fn new(track: bool) -> Staged {
        Staged { track, ..Staged::default() }
    }

    /// Resolves one write against the state and the writes before it; nothing is logged if it is refused.
    pub(super) fn add(&mut self, ticket: &Arc<Ticket>, op: Op) -> Result<()> {
        let collection = &ticket.collection;
        match op {
            Op::Write { block, frame, add } => {
                // Finds damage in the ids now, when refusing is still possible.
                if let Some(row) = self.known(collection, &block, add)? {
                    return Err(already_exists(&block.ids, row));
                }
                self.write(ticket, block, frame);
            }
            Op::Update { id, hash, change } => {
                let block = self.updated(collection, &id, hash, &change)?;
                let frame = encode_upsert(collection.id, &block);
                self.write(ticket, Box::new(block), frame);
            }
            Op::Delete { ids, hashes, filter } => self.delete(ticket, &ids, &hashes, filter.as_ref())?,
            Op::Bulk(_) => {}
        }
        Ok(())
    }

    fn write(&mut self, ticket: &Arc<Ticket>, block: Box<Block>, frame: Draft) {
        let collection = &ticket.collection;
        let effect = self.effects.len();
        if self.track {
            for row in 0..block.len() {
                let key = (collection.id, block.ids.encoded(row).to_vec());
                self.overlay.insert(key, Overlay::Row { effect, row: row as u32 });
            }
        }
        self.frames.push(frame);
        self.tickets.push((Arc::clone(ticket), block.len()));
        self.effects.push((Arc::clone(collection), Effect::Write(block)));
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
        let version = collection.latest();
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
                ..Block::default()
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
        let version = collection.latest();
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
            let version = collection.latest();
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
        self.frames.push(encode_delete(collection.id, &present));
        self.tickets.push((Arc::clone(ticket), present.len()));
        self.effects.push((Arc::clone(collection), Effect::Delete { ids: present, hashes: present_hashes }));
        Ok(())
    }

    /// Answers everything but the deletes with `error` and stages the deletes anew, against what is stored.
    pub(super) fn only_deletes(self, error: &Error) -> Staged {
        let mut kept = Staged::new(true);
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
