//! The verbs of a collection.

use crate::database::Handle;
use crate::engine::{CollectionState, Engine};
use crate::error::{Error, Result};
use crate::filter::{Field, Filter};
use crate::idmap::distinct_by_shard;
use crate::ids::{Id, IdColumn, IdRef};
use crate::index::file::Stage;
use crate::memtable::{Block, hash_ids};
use crate::metrics::CollectionStats;
use crate::query::exec::{self, Search};
use crate::query::explain::{Explanation, Trace};
use crate::query::group::{self, Groups};
use crate::query::measure::{self, RecallReport};
use crate::record::{Batch, Hits, PRESENT, Patch, Record, SearchOptions, Vector, Vectors, encode_metadata, show_id};
use crate::schema::{
    MAX_BATCH_BYTES, MAX_BATCH_ROWS, MAX_K, MAX_MMR_K, MAX_MMR_POOL, MAX_TEXT_BYTES, Quantization, Schema, in_field,
};
use crate::segment::RowSource;
use crate::segment::reader::Graph;
use crate::sparse::Sparse;
use crate::validate::check_vectors;
use crate::version::Version;
use crate::write::commit::{Change, Op, alive, find};
use crate::write::index::MIN_ROWS;
use crate::write::text::{text_indexed_rows, text_memory};
use parking_lot::RwLockReadGuard;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// A collection of records: id, vector, metadata, text. Cheap to clone; all clones and threads may use it at once.
///
/// A search or an iteration sees one consistent version of the collection and never waits for writes, flushes or
/// compactions. Looking an id up may wait for the short change of the id index that ends each of them.
#[derive(Debug, Clone)]
pub struct Collection {
    pub(crate) handle: Arc<Handle>,
    pub(crate) state: Arc<CollectionState>,
}

impl Collection {
    pub(crate) fn engine(&self) -> &Engine {
        &self.handle.0
    }

    pub(crate) fn readable(&self) -> Result<()> {
        self.engine().usable()?;
        alive(&self.state)
    }

    /// Refuses what cannot be written; while the result lives, the handle does not close.
    fn writable(&self) -> Result<RwLockReadGuard<'_, ()>> {
        let active = self.engine().enter()?;
        self.engine().writable()?;
        alive(&self.state)?;
        Ok(active)
    }

    /// The records as of now; for a filter, what is on disk for it is taken into use first.
    pub(crate) fn version_for(&self, filter: Option<&Filter>) -> Arc<Version> {
        let version = self.state.version.load_full();
        if filter.is_some() {
            self.engine().open_columns(&version);
        }
        version
    }

    /// Remembers damage for `stats` on its way to the caller.
    pub(crate) fn noted<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|e| self.engine().note_damage(e))
    }

    /// The collection's name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The collection's schema.
    pub fn schema(&self) -> &Schema {
        &self.state.schema
    }

    /// Writes records, replacing those whose ids are known; returns how many were written.
    ///
    /// When it returns `Ok`, the whole batch is as durable as the database's [`Durability`](crate::Durability) says.
    /// A batch of a few MiB or more is written once, straight into a segment, in every mode.
    ///
    /// # Errors
    /// `InvalidInput` and `LimitExceeded` name the record at fault; nothing of the batch is applied.
    pub fn upsert(&self, batch: Batch<'_>) -> Result<usize> {
        self.write(batch, false)
    }

    /// As [`Collection::upsert`], but refuses the whole batch with `AlreadyExists` if any id is known.
    pub fn add(&self, batch: Batch<'_>) -> Result<usize> {
        self.write(batch, true)
    }

    fn write(&self, mut batch: Batch<'_>, add: bool) -> Result<usize> {
        let _active = self.writable()?;
        batch.validate(&self.state.schema)?;
        if batch.is_empty() {
            return Ok(0);
        }
        let engine = self.engine();
        let written = engine.metrics.write.time(|| {
            let hashes = hash_ids(&batch.ids, self.state.hash_seed);
            let bytes = batch.byte_len() as u64;
            if bytes >= engine.options.bulk_threshold() {
                return engine.write_bulk(&self.state, &batch, hashes, add);
            }
            distinct_by_shard(&batch.ids, &hashes)?;
            engine.admit(bytes + 1024, batch.len() as u64)?;
            let block = Block::from_batch(&batch, self.state.schema.stride(), hashes);
            engine.submit(&self.state, Op::write(self.state.id, block, add))
        });
        self.noted(written)
    }

    /// Changes parts of one record.
    ///
    /// # Errors
    /// `NotFound` if the id is unknown; `InvalidInput` and `LimitExceeded` as for [`Collection::upsert`].
    pub fn update<'a>(&self, id: impl Into<IdRef<'a>>, patch: Patch<'_>) -> Result<()> {
        let _active = self.writable()?;
        let id = id.into();
        id.validate()?;
        let change = self.validate_patch(id, patch)?;
        let encoded = id.encode();
        let hash = crate::checksum::id_hash(&encoded, self.state.hash_seed);
        let engine = self.engine();
        let bytes = self.state.schema.stride()
            + [&change.metadata, &change.text].into_iter().flatten().map(Vec::len).sum::<usize>()
            + change.fields.iter().map(|(_, value)| value.len()).sum::<usize>();
        let updated = engine.metrics.write.time(|| {
            engine.admit(bytes as u64 + 1024, 1)?;
            engine.submit(&self.state, Op::Update { id: encoded, hash, change })
        });
        self.noted(updated).map(|_| ())
    }

    fn validate_patch(&self, id: IdRef<'_>, patch: Patch<'_>) -> Result<Change> {
        let vector = match patch.vector {
            Some(mut vector) => {
                check_vectors(&mut vector, &self.state.schema, Some(1), &std::iter::once(id).collect())?;
                Some(vector.as_le_bytes().into_owned())
            }
            None => None,
        };
        let metadata = match patch.metadata {
            Some(Value::Null) => Some(Vec::new()),
            Some(value) => Some(present(&encode_metadata(&value, 0)?)),
            None => None,
        };
        let text = match patch.text {
            Some(Some(text)) if text.len() > MAX_TEXT_BYTES => {
                return Err(Error::LimitExceeded(format!(
                    "a text of {} bytes was given; the limit is {MAX_TEXT_BYTES}: split it into passages",
                    text.len()
                )));
            }
            Some(Some(text)) => Some(present(text.as_bytes())),
            Some(None) => Some(Vec::new()),
            None => None,
        };
        let mut fields = Vec::new();
        for (name, vector) in patch.vectors {
            let (number, schema) = (self.state.schema.vector_field(&name)?, self.state.vectors_of(Some(&name))?.1);
            let stored = match vector {
                Some(mut vector) => {
                    check_vectors(&mut vector, schema, Some(1), &std::iter::once(id).collect())
                        .map_err(|e| in_field(e, &name))?;
                    vector.as_le_bytes().into_owned()
                }
                None => Vec::new(),
            };
            fields.push((number, stored));
        }
        for (name, value) in patch.sparse {
            let stored = value.as_ref().map(Sparse::encode).unwrap_or_default();
            fields.push((self.state.schema.sparse_field(&name)?, stored));
        }
        Ok(Change { vector, metadata, text, fields })
    }

    /// Deletes records by id; returns how many existed. Works even when the device is full.
    pub fn delete<'a, I: Into<IdRef<'a>>>(&self, ids: impl IntoIterator<Item = I>) -> Result<usize> {
        let _active = self.writable()?;
        let mut column = IdColumn::default();
        let mut seen = std::collections::HashSet::new();
        for id in ids {
            let id = id.into();
            id.validate()?;
            let encoded = id.encode();
            if !seen.contains(&encoded) {
                column.push(id);
                seen.insert(encoded);
            }
        }
        if column.len() > MAX_BATCH_ROWS || column.bytes.len() > MAX_BATCH_BYTES {
            return Err(Error::LimitExceeded(format!(
                "{} ids to delete were given; the limit is {MAX_BATCH_ROWS}: split them",
                column.len()
            )));
        }
        if column.is_empty() {
            return Ok(0);
        }
        self.submit_delete(column, None)
    }

    fn submit_delete(&self, ids: IdColumn, filter: Option<Filter>) -> Result<usize> {
        let hashes = hash_ids(&ids, self.state.hash_seed);
        let engine = self.engine();
        let deleted = engine.metrics.write.time(|| engine.submit(&self.state, Op::Delete { ids, hashes, filter }));
        self.noted(deleted)
    }

    /// The record of an id, if there is one.
    pub fn get<'a>(&self, id: impl Into<IdRef<'a>>) -> Result<Option<Record>> {
        self.readable()?;
        let found = self.with_record(id.into(), |source, row| exec::record(&self.state, source, row));
        self.noted(found)
    }

    /// The records of several ids, in their order.
    pub fn get_many<'a, I: Into<IdRef<'a>>>(&self, ids: impl IntoIterator<Item = I>) -> Result<Vec<Option<Record>>> {
        ids.into_iter().map(|id| self.get(id)).collect()
    }

    /// Whether there is a record of this id.
    pub fn contains<'a>(&self, id: impl Into<IdRef<'a>>) -> Result<bool> {
        self.readable()?;
        let found = self.with_record(id.into(), |_, _| Ok(()));
        Ok(self.noted(found)?.is_some())
    }

    fn with_record<T>(&self, id: IdRef<'_>, read: impl FnOnce(&dyn RowSource, u32) -> Result<T>) -> Result<Option<T>> {
        id.validate()?;
        let encoded = id.encode();
        let hash = crate::checksum::id_hash(&encoded, self.state.hash_seed);
        let (version, at) = {
            let guard = self.state.ids()?;
            let version = self.state.version.load_full();
            let at = guard.as_ref().map_or(Ok(None), |ids| find(ids, &version, hash, &encoded))?;
            (version, at)
        };
        match at.and_then(|at| version.source(at)) {
            Some((source, row)) => read(source, row).map(Some),
            None => {
                // With damaged segments left out, an id that is not found may have been in one of them.
                match version.damaged.first() {
                    Some(damage) => Err(Error::corrupt(
                        "segments",
                        0,
                        format!("id {} is not in what is readable, and part is damaged ({damage})", show_id(Some(id))),
                    )),
                    None => Ok(None),
                }
            }
        }
    }

    /// Number of records.
    pub fn count(&self) -> Result<u64> {
        self.readable()?;
        Ok(self.state.version.load().live_rows())
    }

    /// Number of records whose metadata passes a filter.
    pub fn count_matching(&self, filter: &Filter) -> Result<u64> {
        self.readable()?;
        let version = self.version_for(Some(filter));
        let counted = version.parts().map(|part| part.live_matching(filter).map(|rows| rows.len())).sum();
        self.noted(counted)
    }

    /// Deletes the records whose metadata passes a filter, and still does when the deletion is committed; returns how
    /// many. Records written meanwhile are left alone.
    pub fn delete_matching(&self, filter: &Filter) -> Result<usize> {
        let _active = self.writable()?;
        let version = self.version_for(Some(filter));
        let mut deleted = 0;
        for part in version.parts() {
            let rows: Vec<u32> = self.noted(part.live_matching(filter))?.rows.iter().collect();
            for rows in rows.chunks(DELETE_ROWS) {
                let mut ids = IdColumn::default();
                for row in rows {
                    ids.bytes.extend_from_slice(self.noted(part.rows.id(*row))?);
                    ids.ends.push(ids.bytes.len() as u32);
                }
                deleted += self.submit_delete(ids, Some(filter.clone()))?;
            }
        }
        Ok(deleted)
    }

    /// Every record of one consistent view, in storage order. Writes made meanwhile are not seen.
    pub fn iterate(&self) -> Result<Records> {
        self.records(None)
    }

    /// As [`Collection::iterate`], the records whose metadata passes a filter.
    pub fn iterate_matching(&self, filter: &Filter) -> Result<Records> {
        self.records(Some(filter.clone()))
    }

    fn records(&self, filter: Option<Filter>) -> Result<Records> {
        self.readable()?;
        Ok(Records {
            collection: self.clone(),
            version: self.version_for(filter.as_ref()),
            filter,
            part: 0,
            rows: Vec::new().into_iter(),
        })
    }

    /// The nearest records to one vector: exactly where segments have no graph yet or `recall` is 1, else with the
    /// recall asked for. [`SearchOptions::using`] names the field whose vectors are searched instead of the records'
    /// own; records without it are passed over.
    ///
    /// # Errors
    /// `InvalidInput` for a vector that does not fit the schema or `k = 0`; `LimitExceeded` for `k + offset` over
    /// [`MAX_K`]; `Corrupt` if data that the answer needs is damaged.
    pub fn search<'v>(&self, vector: impl Into<Vectors<'v>>, options: &SearchOptions) -> Result<Hits> {
        self.readable()?;
        let mut vector = vector.into();
        self.validate_search(&mut vector, Some(1), options)?;
        let found = self.engine().metrics.search.time(|| {
            let version = self.version_for(options.filter.as_ref());
            Search::new(&self.state, &version, options)?.run(&vector, 0..1)
        });
        let mut found = self.noted(found)?;
        Ok(found.pop().unwrap_or_default())
    }

    /// The nearest records to a record, itself left out.
    ///
    /// # Errors
    /// `NotFound` if there is no such record; else as [`Collection::search`].
    pub fn search_like<'a>(&self, id: impl Into<IdRef<'a>>, options: &SearchOptions) -> Result<Hits> {
        let (vector, options) = self.like(id.into(), options)?;
        self.search(&vector, &options)
    }

    /// A record's vector, and the options with the record left out.
    fn like(&self, id: IdRef<'_>, options: &SearchOptions) -> Result<(Vector, SearchOptions)> {
        let record = self.get(id)?.ok_or_else(|| {
            Error::NotFound(format!("no record {} in {}; give the id of a record", show_id(Some(id)), self.name()))
        })?;
        let mut options = options.clone();
        let vector = match &options.using {
            None => record.vector,
            Some(name) => {
                self.state.vectors_of(Some(name))?;
                let lacking =
                    || Error::NotFound(format!("record {} has no {name:?} to search with", show_id(Some(id))));
                record.vectors.get(name).cloned().ok_or_else(lacking)?
            }
        };
        options.exclude.push(record.id);
        Ok((vector, options))
    }

    /// The `options.k` values of a field whose records lie nearest to a vector, with the `per_group` nearest records
    /// of each.
    ///
    /// `field` is a path such as `author.name`. Its value is a string, a number or a boolean; equal is what a filter
    /// finds equal. Records without it, or with null, a list or an object there, are in no group.
    ///
    /// ```
    /// # use omendb::{Batch, Database, Metric, Schema, SearchOptions};
    /// # use serde_json::json;
    /// # let db = Database::in_memory()?;
    /// # let docs = db.create_collection("docs", Schema::new(1, Metric::L2))?;
    /// let authors = ["ann", "ann", "ann", "bob"].map(|name| json!({"author": name}));
    /// let batch = Batch::new((0..4u64).collect(), vec![0.0, 1.0, 2.0, 3.0]);
    /// docs.upsert(batch.with_metadata(authors.iter().map(Some))?)?;
    /// let found = docs.search_groups(&[0.0], "author", 2, &SearchOptions::new(2))?;
    /// assert_eq!((found.groups[0].value.as_str(), found.groups[0].hits.len()), (Some("ann"), 2));
    /// assert_eq!((found.groups[1].value.as_str(), found.groups[1].hits.len()), (Some("bob"), 1));
    /// # Ok::<(), omendb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for a malformed field, `per_group = 0`, or an `offset` or `mmr`, which have no meaning here;
    /// `LimitExceeded` for `k * per_group` over [`MAX_K`]; else as [`Collection::search`].
    pub fn search_groups<'v>(
        &self,
        vector: impl Into<Vectors<'v>>,
        field: &str,
        per_group: usize,
        options: &SearchOptions,
    ) -> Result<Groups> {
        self.readable()?;
        let mut vector = vector.into();
        self.validate_search(&mut vector, Some(1), options)?;
        let field = Field::parse(field)?;
        if per_group == 0 {
            return Err(Error::invalid("per_group = 0 was given; ask for at least one record of each group"));
        }
        if options.offset > 0 || options.mmr.is_some() {
            return Err(Error::invalid("offset or mmr was given to a search for groups; leave them out"));
        }
        if options.k.checked_mul(per_group).is_none_or(|wanted| wanted > MAX_K) {
            return Err(Error::LimitExceeded(format!(
                "{} groups of {per_group} records were asked for; together they may hold {MAX_K}",
                options.k
            )));
        }
        let found = self.engine().metrics.search.time(|| {
            let version = self.version_for(options.filter.as_ref());
            group::search(&Search::new(&self.state, &version, options)?, &vector, &field, per_group)
        });
        self.noted(found)
    }

    /// Searches, and tells how: the plan of each part of the data, what it cost, and the recall to expect.
    ///
    /// # Errors
    /// As [`Collection::search`].
    pub fn explain<'v>(&self, vector: impl Into<Vectors<'v>>, options: &SearchOptions) -> Result<Explanation> {
        self.readable()?;
        let mut vector = vector.into();
        self.validate_search(&mut vector, Some(1), options)?;
        let version = self.version_for(options.filter.as_ref());
        let (start, mut trace) = (Instant::now(), Trace::default());
        let search = Search::new(&self.state, &version, options)?;
        let hits = self.noted(search.run_traced(&vector, &mut trace))?;
        Ok(trace.finish(hits, start.elapsed()))
    }

    /// Measures the recall of searches against exact search, with `sample` stored records as queries, each of which
    /// the search is blind to. Of `options`, `k`, `recall`, `ef` and `filter` count. Takes an exact scan of the
    /// collection for each 16 queries.
    ///
    /// # Errors
    /// `InvalidInput` for `sample = 0`; else as [`Collection::search`].
    pub fn recall(&self, sample: usize, options: &SearchOptions) -> Result<RecallReport> {
        self.readable()?;
        validate_options(options)?;
        if sample == 0 {
            return Err(Error::invalid("sample = 0 was given; measure with at least one record"));
        }
        let version = self.version_for(options.filter.as_ref());
        self.noted(measure::recall(&self.state, &version, sample, options))
    }

    /// The nearest records to each of several vectors (row-major), on `threads` threads (0: one a core).
    /// All queries see the same version.
    ///
    /// # Errors
    /// As [`Collection::search`].
    pub fn search_batch<'v>(
        &self,
        vectors: impl Into<Vectors<'v>>,
        options: &SearchOptions,
        threads: usize,
    ) -> Result<Vec<Hits>> {
        self.readable()?;
        let mut vectors = vectors.into();
        self.validate_search(&mut vectors, None, options)?;
        let per_row = self.state.vectors_of(options.using.as_deref())?.1.elements_per_row();
        let rows = vectors.elements() / per_row;
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let version = self.version_for(options.filter.as_ref());
        // Small groups share each read of memory and spread evenly over the threads.
        let group = rows.div_ceil(threads.max(1)).clamp(1, BATCH_QUERIES);
        let groups: Vec<_> = (0..rows).step_by(group).map(|start| start..(start + group).min(rows)).collect();
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Vec<Hits>)>> {
            let mut done = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(range) = groups.get(i) else { return Ok(done) };
                let engine = self.engine();
                let found = engine
                    .metrics
                    .search
                    .time(|| Search::new(&self.state, &version, options)?.run(&vectors, range.clone()))?;
                done.push((i, found));
            }
        };
        let done = std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..threads.min(groups.len())).map(|_| scope.spawn(work)).collect();
            let mut done = vec![work()];
            done.extend(
                helpers
                    .into_iter()
                    .map(|h| h.join().unwrap_or_else(|_| Err(Error::Unusable("a search thread panicked".into())))),
            );
            done.into_iter().collect::<Result<Vec<_>>>()
        });
        let mut done: Vec<_> = self.noted(done)?.into_iter().flatten().collect();
        done.sort_unstable_by_key(|(i, _)| *i);
        Ok(done.into_iter().flat_map(|(_, hits)| hits).collect())
    }

    fn validate_search(&self, vectors: &mut Vectors<'_>, rows: Option<usize>, options: &SearchOptions) -> Result<()> {
        validate_options(options)?;
        let (_, schema) = self.state.vectors_of(options.using.as_deref())?;
        let checked = check_vectors(vectors, schema, rows, &IdColumn::default());
        checked.map_err(|e| options.using.as_ref().map_or(e.clone(), |name| in_field(e, name)))
    }

    /// Moves everything written so far into segments; when it returns, it is durable there, in every mode.
    pub fn flush(&self) -> Result<()> {
        let _active = self.writable()?;
        self.engine().flush()
    }

    /// Rewrites the collection so that nothing deleted or replaced is left in its files.
    pub fn compact(&self) -> Result<()> {
        let _active = self.writable()?;
        self.noted(self.engine().compact_fully(&self.state))
    }

    /// Waits until background flushes, compactions and first graphs have nothing left to do.
    pub fn wait_idle(&self) -> Result<()> {
        self.readable()?;
        if self.engine().options.read_only { Ok(()) } else { self.engine().wait_idle() }
    }

    /// Flushes, and waits until every segment that wants a graph has one; with `settled`, the careful one.
    /// Progress shows in the statistics.
    pub fn wait_indexed(&self, settled: bool) -> Result<()> {
        let _active = self.writable()?;
        self.engine().flush()?;
        self.engine().wait_indexed(settled)
    }

    /// What the collection holds.
    pub fn stats(&self) -> CollectionStats {
        collection_stats(&self.state)
    }
}

/// Refuses what no search can take.
pub(crate) fn validate_options(options: &SearchOptions) -> Result<()> {
    if options.k == 0 {
        return Err(Error::invalid("k = 0 was given; ask for at least one hit"));
    }
    if options.k.checked_add(options.offset).is_none_or(|wanted| wanted > MAX_K) {
        return Err(Error::LimitExceeded(format!(
            "k = {} with offset = {} was given; together they may be {MAX_K}: use iterate to read everything",
            options.k, options.offset
        )));
    }
    if !(0.5..=1.0).contains(&options.recall) {
        return Err(Error::invalid(format!(
            "recall = {} was given; it may be 0.5 to 1, where 1 is exact",
            options.recall
        )));
    }
    if options.ef.is_some_and(|ef| ef == 0 || ef > MAX_K) {
        return Err(Error::invalid(format!("ef = {} was given; it may be 1 to {MAX_K}", options.ef.unwrap_or(0))));
    }
    if options.min_score.is_some_and(f32::is_nan) {
        return Err(Error::invalid("min_score is NaN; give a number"));
    }
    if options.max_distance.is_some_and(f32::is_nan) {
        return Err(Error::invalid("max_distance is NaN; give a distance"));
    }
    if options.exclude.len() > MAX_K {
        return Err(Error::LimitExceeded(format!(
            "{} ids to exclude were given; the limit is {MAX_K}: use a filter",
            options.exclude.len()
        )));
    }
    if let Some(mmr) = options.mmr {
        if !(0.0..=1.0).contains(&mmr.lambda) {
            return Err(Error::invalid(format!("mmr with lambda = {} was given; it may be 0 to 1", mmr.lambda)));
        }
        let (chosen, pool) = (options.k + options.offset, mmr.pool(options.k + options.offset));
        if chosen > MAX_MMR_K || pool > MAX_MMR_POOL {
            return Err(Error::LimitExceeded(format!(
                "mmr was to choose {chosen} hits of {pool}; it chooses at most {MAX_MMR_K} of {MAX_MMR_POOL}"
            )));
        }
    }
    options.exclude.iter().try_for_each(|id| id.as_ref().validate())
}

/// Most records of one commit of a deletion by filter.
const DELETE_ROWS: usize = 100_000;
/// Most queries that share one pass over the data.
const BATCH_QUERIES: usize = 16;

pub(crate) fn collection_stats(state: &CollectionState) -> CollectionStats {
    let version = state.version.load();
    let memtables = &version.memtables;
    let graphs = |which: &dyn Fn(&Graph) -> bool| -> u64 {
        let with = version.segments.iter().filter(|v| v.segment.graph(None).is_some_and(|g| which(&g)));
        with.map(|v| u64::from(v.segment.rows())).sum()
    };
    CollectionStats {
        name: state.name.clone(),
        dim: state.schema.dim,
        metric: state.schema.metric.name().into(),
        element: state.schema.element.name().into(),
        records: version.live_rows(),
        deleted: version.segments.iter().map(|v| v.dead.len()).sum(),
        segments: version.segments.len() as u64,
        indexed_rows: graphs(&|_| true),
        unindexed_rows: version
            .segments
            .iter()
            .filter(|v| v.segment.graph(None).is_none() && v.segment.rows() >= MIN_ROWS)
            .filter(|_| state.schema.codes() != Quantization::None)
            .map(|v| u64::from(v.segment.rows()))
            .sum(),
        settled_rows: graphs(&|g| g.stage == Stage::Settled),
        graph_bytes: version.segments.iter().flat_map(|v| v.segment.graphs()).map(|g| g.bytes).sum(),
        filter_columns_bytes: version.segments.iter().map(|v| v.segment.columns_memory()).sum(),
        text_indexed_rows: text_indexed_rows(&version),
        text_index_bytes: text_memory(state),
        memtable_records: memtables.iter().map(|m| u64::from(m.rows()) - m.dead.len()).sum(),
        memtable_bytes: version.memtable_bytes(),
        id_index_bytes: state.id_memory.load(Ordering::Relaxed),
    }
}

fn present(value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(value.len() + 1);
    stored.push(PRESENT);
    stored.extend_from_slice(value);
    stored
}
/// Reads the records of one view, one after the other. Made by [`Collection::iterate`].
#[derive(Debug)]
pub struct Records {
    collection: Collection,
    version: Arc<Version>,
    filter: Option<Filter>,
    part: usize,
    rows: std::vec::IntoIter<u32>,
}

impl Records {
    fn read(&self, part: usize, row: u32) -> Result<Record> {
        match self.version.parts().nth(part) {
            Some(part) => exec::record(&self.collection.state, part.rows, row),
            None => Err(Error::Unusable("the iterator ran past its view".into())),
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        loop {
            if let Some(row) = self.rows.next() {
                if let Err(e) = self.collection.engine().usable() {
                    self.part = usize::MAX;
                    self.rows = Vec::new().into_iter();
                    return Some(Err(e));
                }
                let record = self.read(self.part - 1, row);
                return Some(self.collection.noted(record));
            }
            let part = self.version.parts().nth(self.part)?;
            let rows = match &self.filter {
                None => Ok(part.live_runs().into_iter().flatten().collect()),
                Some(filter) => part.live_matching(filter).map(|found| found.rows.iter().collect::<Vec<_>>()),
            };
            self.part = self.part.saturating_add(1);
            match self.collection.noted(rows) {
                Ok(rows) => self.rows = rows.into_iter(),
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

/// For callers that hold owned ids.
impl Collection {
    /// As [`Collection::get_many`], for owned ids.
    pub fn get_ids(&self, ids: &[Id]) -> Result<Vec<Option<Record>>> {
        self.get_many(ids.iter().map(Id::as_ref))
    }
}
