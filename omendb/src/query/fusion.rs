//! Several searches at once, by vectors, a text and sparse vectors: how do their orders become one?

use crate::collection::Collection;
use crate::distance::Prepared;
use crate::error::{Error, Result};
use crate::idmap::Location;
use crate::ids::IdColumn;
use crate::query::exec::{Search, pack, source, stored_vector, unpack};
use crate::query::hybrid::{Ranked, validate};
use crate::record::{Fuse, Hits, SearchOptions, Vectors};
use crate::schema::{MAX_K, Schema, in_field};
use crate::sparse::{Sparse, SparseQuery, stored};
use crate::text::search::{TextQuery, Texts};
use crate::validate::check_vectors;
use crate::version::Version;
use std::collections::{BTreeMap, HashMap};

/// Reciprocal rank fusion: how little a rank counts.
const RANK_OFFSET: f32 = 60.0;
/// The least number of records of each order that are fused.
const MIN_DEPTH: usize = 100;

/// What to search by, in one search: any of a vector, vectors and sparse vectors of further fields, and a text.
#[derive(Debug, Clone, Default)]
pub struct Query<'a> {
    vector: Option<Vectors<'a>>,
    vectors: Vec<(String, Vectors<'a>)>,
    text: Option<&'a str>,
    sparse: Vec<(String, Sparse)>,
}

impl<'a> Query<'a> {
    /// A query of nothing, to be added to.
    pub fn new() -> Self {
        Query::default()
    }

    /// By a vector: of the records' own, or of the field that [`SearchOptions::using`] names.
    pub fn vector(mut self, vector: impl Into<Vectors<'a>>) -> Self {
        self.vector = Some(vector.into());
        self
    }

    /// By the vectors of a further field, too.
    pub fn vector_in(mut self, field: impl Into<String>, vector: impl Into<Vectors<'a>>) -> Self {
        self.vectors.push((field.into(), vector.into()));
        self
    }

    /// By the texts, as [`Collection::search_text`].
    pub fn text(mut self, text: &'a str) -> Self {
        self.text = Some(text);
        self
    }

    /// By the sparse vectors of a field, too, as [`Collection::search_sparse`].
    pub fn sparse(mut self, field: impl Into<String>, query: Sparse) -> Self {
        self.sparse.push((field.into(), query));
        self
    }
}

/// One of the things to search by.
enum Part<'a> {
    Vector { name: Option<String>, field: Option<usize>, schema: &'a Schema, vector: Vectors<'a> },
    Text(&'a str),
    Sparse { name: String, field: usize, query: Sparse },
}

impl Part<'_> {
    /// The field's name, if it is a further one.
    fn field(&self) -> Option<&str> {
        match self {
            Part::Vector { name, .. } => name.as_deref(),
            Part::Text(_) => None,
            Part::Sparse { name, .. } => Some(name),
        }
    }

    /// The score that a key stands for.
    fn score(&self, key: f32) -> f32 {
        match self {
            Part::Vector { schema, .. } => schema.metric.score(key),
            Part::Text(_) | Part::Sparse { .. } => -key,
        }
    }
}

/// What one search found: places and keys (a distance, or a negative score), best first.
struct Order {
    found: Vec<(Location, f32)>,
    /// Whether it would have found any other record that there is to find.
    exhausted: bool,
    /// The query of a search by text, if anything can match it.
    text: Option<TextQuery>,
}

impl Collection {
    /// The best records by vector and text together: [`Collection::search_fused`] with these two.
    ///
    /// # Errors
    /// As of [`Collection::search_fused`].
    pub fn search_hybrid<'v>(
        &self,
        vector: impl Into<Vectors<'v>>,
        text: &str,
        options: &SearchOptions,
    ) -> Result<Hits> {
        self.search_fused(Query::new().vector(vector).text(text), options)
    }

    /// The best records by several things together: one search for each, under one filter, fused as
    /// [`SearchOptions::fuse`] says. Each is asked for at least 100 records, and for twice as many as are wanted.
    ///
    /// A hit need not be found by all of them. All scores of a hit are exact; one that has no vector, no text that
    /// matches, or nothing in common with a sparse query has no score there. `min_score` is of the fused score,
    /// `max_distance` of [`Query::vector`].
    ///
    /// ```
    /// # use omendb::{Batch, Database, Metric, Query, Schema, SearchOptions, Sparse};
    /// # let db = Database::in_memory()?;
    /// let docs = db.create_collection("docs", Schema::new(1, Metric::L2).with_sparse("terms"))?;
    /// let terms = [Sparse::new([(3, 0.5)])?, Sparse::new([(3, 2.0), (9, 1.0)])?];
    /// let batch = Batch::new(["a", "b"].into_iter().collect(), vec![0.0, 1.0]);
    /// docs.upsert(batch.with_sparse("terms", terms.iter().map(Some)).with_text([Some("crash safe"), None]))?;
    /// let query = Query::new().vector(&[0.0]).text("safe").sparse("terms", Sparse::new([(3, 1.0)])?);
    /// let hits = docs.search_fused(query, &SearchOptions::new(2))?;
    /// assert_eq!(hits[0].id, "a".into());
    /// assert_eq!((hits[0].text_score.is_some(), hits[0].field_scores["terms"]), (true, 0.5));
    /// # Ok::<(), omendb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Collection::search`], [`Collection::search_text`] and [`Collection::search_sparse`]; `InvalidInput` for a
    /// query of nothing, a field that comes twice, or an `alpha` out of 0 to 1.
    pub fn search_fused(&self, query: Query<'_>, options: &SearchOptions) -> Result<Hits> {
        self.readable()?;
        validate(query.text.unwrap_or_default(), options)?;
        if let Fuse::Weighted { alpha } = options.fuse
            && !(0.0..=1.0).contains(&alpha)
        {
            return Err(Error::invalid(format!(
                "alpha = {alpha} was given; it may be 0 (text and sparse vectors alone) to 1 (vectors alone)"
            )));
        }
        if options.max_distance.is_some() && query.vector.is_none() {
            return Err(Error::invalid("max_distance was given without a vector; bound the search with min_score"));
        }
        let by_text = query.text.is_some();
        let parts = self.parts(query, options)?;
        let found = self.engine().metrics.search.time(|| match by_text {
            true => self.with_texts(options.filter.as_ref(), |texts, version| {
                self.fused(Some(texts), version, &parts, options)
            }),
            false => self.fused(None, &self.version_for(options.filter.as_ref()), &parts, options),
        });
        self.noted(found)
    }

    /// What a query asks for, checked: [`Query::vector`] first, if there is one.
    fn parts<'q>(&'q self, query: Query<'q>, options: &SearchOptions) -> Result<Vec<Part<'q>>> {
        let mut parts: Vec<Part<'q>> = Vec::new();
        let own = query.vector.map(|vector| (options.using.clone(), vector));
        let further = query.vectors.into_iter().map(|(name, vector)| (Some(name), vector));
        for (name, mut vector) in own.into_iter().chain(further) {
            let (field, schema) = self.state.vectors_of(name.as_deref())?;
            let checked = check_vectors(&mut vector, schema, Some(1), &IdColumn::default());
            checked.map_err(|e| name.as_deref().map_or(e.clone(), |name| in_field(e, name)))?;
            parts.push(Part::Vector { name, field, schema, vector });
        }
        parts.extend(query.text.map(Part::Text));
        for (name, query) in query.sparse {
            parts.push(Part::Sparse { field: self.schema().sparse_field(&name)?, name, query });
        }
        for (at, part) in parts.iter().enumerate() {
            if let Some(name) = part.field()
                && parts[..at].iter().any(|other| other.field() == Some(name))
            {
                return Err(Error::invalid(format!("field {name:?} was given twice; search by it once")));
            }
        }
        match parts.is_empty() {
            true => Err(Error::invalid("nothing to search by was given; give a vector, a text or a sparse vector")),
            false => Ok(parts),
        }
    }

    fn fused(
        &self,
        texts: Option<&Texts<'_>>,
        version: &Version,
        parts: &[Part<'_>],
        options: &SearchOptions,
    ) -> Result<Hits> {
        let orders = parts.iter().enumerate().map(|(at, part)| {
            let (within, using) = (options.max_distance.filter(|_| at == 0), part.field().map(str::to_owned));
            let k = (2 * (options.k + options.offset)).clamp(MIN_DEPTH, MAX_K);
            let deep = SearchOptions { k, offset: 0, min_score: None, max_distance: within, using, ..options.clone() };
            self.order(texts, version, part, &deep)
        });
        let orders = orders.collect::<Result<Vec<Order>>>()?;
        let mut records = Candidates::default();
        for (at, order) in orders.iter().enumerate() {
            for (rank, (place, key)) in order.found.iter().enumerate() {
                let standing = &mut records.entry(*place, parts.len()).standings[at];
                (standing.rank, standing.key) = (Some(rank), Some(*key));
            }
        }
        let mut records = records.into_sorted();
        for (at, (part, order)) in parts.iter().zip(&orders).enumerate() {
            complete(texts, version, part, order, at, &mut records)?;
        }
        if let Some(radius) = options.max_distance {
            records.retain(|record| record.standings[0].key.is_some_and(|distance| distance <= radius));
        }
        fuse(&mut records, parts, options.fuse);
        let ranked = records.iter().map(|record| ranked(record, parts)).collect();
        // Every record has a vector of its own: a search by it that found all of them leaves none out.
        let by_own = matches!(parts[0], Part::Vector { field: None, .. }) && orders[0].exhausted;
        let exhausted = by_own || orders.iter().all(|order| order.exhausted);
        let text = orders.iter().find_map(|order| order.text.as_ref());
        self.hits(version, ranked, exhausted, text, options)
    }

    /// The best `options.k` records by one part.
    fn order(
        &self,
        texts: Option<&Texts<'_>>,
        version: &Version,
        part: &Part<'_>,
        options: &SearchOptions,
    ) -> Result<Order> {
        let (mut found, whole) = match part {
            Part::Vector { vector, .. } => {
                let search = Search::new(&self.state, version, options)?;
                let mut nearest = search.candidates(vector, 0..1, None)?;
                let mut near = nearest.candidates.pop().unwrap_or_default();
                search.cut(&mut near)?;
                (near, nearest.whole)
            }
            Part::Sparse { field, query, .. } => {
                let mut best = self.sparse_candidates(version, *field, query, options, options.k, None)?;
                (best.candidates.pop().unwrap_or_default(), best.whole)
            }
            Part::Text(text) => {
                let text = texts.map_or(Ok(None), |texts| texts.query(text))?;
                let told = match texts {
                    Some(texts) => self.matches(texts, version, text.as_ref(), options, options.k)?,
                    None => Vec::new(),
                };
                let found: Vec<_> = told.iter().map(|found| (found.at, -found.score)).collect();
                return Ok(Order { exhausted: found.len() < options.k, found, text });
            }
        };
        let exhausted = whole && found.len() < options.k;
        found.truncate(options.k);
        let found = found.iter().map(|candidate| (unpack(candidate.row), candidate.key)).collect();
        Ok(Order { found, exhausted, text: None })
    }
}

/// Fills in the keys of the records that a part's own search did not find.
fn complete(
    texts: Option<&Texts<'_>>,
    version: &Version,
    part: &Part<'_>,
    order: &Order,
    at: usize,
    records: &mut [Fused],
) -> Result<()> {
    let mut unknown: Vec<&mut Fused> = records.iter_mut().filter(|record| record.standings[at].key.is_none()).collect();
    match part {
        Part::Vector { field, schema, vector, .. } => {
            let prepared = Prepared::new(schema, vector, 0);
            for record in unknown {
                let (source, row) = source(version, pack(record.at))?;
                let vector = stored_vector(source, *field, row, schema.stride())?;
                record.standings[at].key = vector.map(|vector| prepared.distance(vector));
            }
        }
        Part::Sparse { field, query, .. } => {
            let query = SparseQuery::new(query);
            for record in unknown {
                let (source, row) = source(version, pack(record.at))?;
                let score = stored(source.field(*field, row)?, row)?.map(|value| query.score(value));
                record.standings[at].key = score.filter(|score| *score != 0.0).map(|score| -score);
            }
        }
        Part::Text(_) => {
            let Some((texts, query)) = texts.zip(order.text.as_ref()) else { return Ok(()) };
            let places: Vec<Location> = unknown.iter().map(|record| record.at).collect();
            let scores = texts.scores(query, &places)?;
            let fill = |(record, score): (&mut &mut Fused, Option<f32>)| record.standings[at].key = score.map(|s| -s);
            unknown.iter_mut().zip(scores).for_each(fill);
        }
    }
    Ok(())
}

/// Where a record stands in one of the orders.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// From 0, if that search found it.
    rank: Option<usize>,
    /// A distance or a negative score, if it has one there.
    key: Option<f32>,
}

/// A record that any of the searches found.
#[derive(Debug, Clone)]
struct Fused {
    at: Location,
    /// In the order of the parts.
    standings: Vec<Standing>,
    score: f32,
}

#[derive(Default)]
struct Candidates(HashMap<u64, Fused>);

impl Candidates {
    fn entry(&mut self, at: Location, parts: usize) -> &mut Fused {
        let new = || Fused { at, standings: vec![Standing::default(); parts], score: 0.0 };
        self.0.entry(pack(at)).or_insert_with(new)
    }

    /// By place.
    fn into_sorted(self) -> Vec<Fused> {
        let mut records: Vec<Fused> = self.0.into_values().collect();
        records.sort_unstable_by_key(|record| pack(record.at));
        records
    }
}

/// Scores records by all orders and sorts them, best first; of equal scores, by the keys in the first order.
fn fuse(records: &mut [Fused], parts: &[Part<'_>], how: Fuse) {
    match how {
        Fuse::Rrf => {
            let share = |standing: &Standing| {
                standing.rank.map_or(0.0, |rank| (RANK_OFFSET + 1.0) / (RANK_OFFSET + 1.0 + rank as f32))
            };
            for record in records.iter_mut() {
                record.score = record.standings.iter().map(share).sum::<f32>() / parts.len() as f32;
            }
        }
        Fuse::Adaptive => {
            let spreads: Vec<Option<Spread>> =
                parts.iter().enumerate().map(|(at, part)| Spread::of(records, at, part)).collect();
            let sum: f32 = spreads.iter().flatten().map(Spread::weight).sum();
            for record in records.iter_mut() {
                let share = |(spread, standing): (&Option<Spread>, &Standing)| {
                    let (spread, key) = (spread.as_ref()?, standing.key?);
                    let weight = if sum > 0.0 { spread.weight() / sum } else { 1.0 / parts.len() as f32 };
                    Some(weight * spread.share(key))
                };
                record.score = spreads.iter().zip(&record.standings).filter_map(share).sum();
            }
        }
        Fuse::Weighted { alpha } => {
            let vectors = parts.iter().filter(|part| matches!(part, Part::Vector { .. })).count();
            let others = parts.len() - vectors;
            for (at, part) in parts.iter().enumerate() {
                let by_vector = matches!(part, Part::Vector { .. });
                let weight = match (by_vector, vectors, others) {
                    (true, n, 0) | (false, 0, n) => 1.0 / n as f32,
                    (true, n, _) => alpha / n as f32,
                    (false, _, n) => (1.0 - alpha) / n as f32,
                };
                let scores: Vec<f32> = scaled(records, at, part, by_vector);
                records.iter_mut().zip(scores).for_each(|(record, score)| record.score += weight * score);
            }
        }
    }
    let first = |record: &Fused| record.standings[0].key.unwrap_or(f32::INFINITY);
    records.sort_by(|a, b| b.score.total_cmp(&a.score).then(first(a).total_cmp(&first(b))));
}

/// How far apart the best records of one order are.
///
/// Plain ranks say nothing of it: where the best of one order stands out and the other order has a hundred that are
/// about as good, both count the same. So the rank here is a difference of keys, in a unit that gives the 61st record
/// the rank 60, and an order counts by the square of how far its best stands out from that one.
#[derive(Debug, Clone, Copy)]
struct Spread {
    /// The keys of the best record and of the 61st.
    best: f32,
    far: f32,
}

impl Spread {
    fn of(records: &[Fused], at: usize, part: &Part<'_>) -> Option<Spread> {
        let standings = || records.iter().map(|record| &record.standings[at]);
        let key_of = |rank: usize| standings().find(|s| s.rank == Some(rank)).and_then(|s| s.key);
        let last = || standings().filter(|s| s.rank.is_some()).filter_map(|s| s.key).fold(f32::NEG_INFINITY, f32::max);
        // Behind the last match by words come the records without one.
        let end = || if matches!(part, Part::Vector { .. }) { last() } else { 0.0 };
        Some(Spread { best: key_of(0)?, far: key_of(RANK_OFFSET as usize).unwrap_or_else(end) })
    }

    /// 1 at the best, falling with the rank.
    fn share(&self, key: f32) -> f32 {
        let rank = RANK_OFFSET * (key - self.best) / (self.far - self.best);
        let rank = if rank.is_nan() { 0.0 } else { rank.max(0.0) };
        (RANK_OFFSET + 1.0) / (RANK_OFFSET + 1.0 + rank)
    }

    fn weight(&self) -> f32 {
        let most = self.best.abs().max(self.far.abs());
        if most > 0.0 { ((self.far - self.best) / most).powi(2) } else { 0.0 }
    }
}

/// Each record's score by one part, scaled to 0 to 1: the best is 1; 0 is the worst that a search by vector found, or
/// of other searches no match.
fn scaled(records: &[Fused], at: usize, part: &Part<'_>, by_vector: bool) -> Vec<f32> {
    let score = |record: &Fused| record.standings[at].key.map(|key| part.score(key));
    let found = || records.iter().filter(|record| record.standings[at].rank.is_some()).filter_map(score);
    let worst = found().fold(f32::INFINITY, f32::min);
    let best = found().fold(f32::NEG_INFINITY, f32::max);
    let most = records.iter().filter_map(score).fold(0.0, f32::max);
    let scale = |record: &Fused| match score(record) {
        Some(score) if by_vector => {
            let scaled = (score - worst) / (best - worst);
            // All that were found are equally near, or there is none.
            if scaled.is_finite() { scaled.clamp(0.0, 1.0) } else { f32::from(record.standings[at].rank.is_some()) }
        }
        Some(score) if most > 0.0 => (score / most).max(0.0),
        _ => 0.0,
    };
    records.iter().map(scale).collect()
}

/// A record's place among the hits.
fn ranked(record: &Fused, parts: &[Part<'_>]) -> Ranked {
    let (mut vector_score, mut text_score, mut field_scores) = (None, None, BTreeMap::new());
    for (part, standing) in parts.iter().zip(&record.standings) {
        let score = standing.key.map(|key| part.score(key));
        match (part, part.field()) {
            (_, Some(name)) => drop(score.map(|score| field_scores.insert(name.to_owned(), score))),
            (Part::Text(_), None) => text_score = score,
            (_, None) => vector_score = score,
        }
    }
    let own = matches!(parts[0], Part::Vector { .. }).then_some(record.standings[0].key).flatten();
    Ranked {
        at: record.at,
        score: record.score,
        distance: own.unwrap_or(-record.score),
        vector_score,
        text_score,
        field_scores,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Metric;

    fn record(row: u32, near: Option<(usize, f32)>, told: Option<(usize, f32)>) -> Fused {
        let near = Standing { rank: near.map(|n| n.0), key: Some(near.map_or(9.0, |n| n.1)) };
        let told = Standing { rank: told.map(|t| t.0), key: told.map(|t| -t.1) };
        Fused { at: Location { source: 0, row }, standings: vec![near, told], score: 0.0 }
    }

    fn order(mut records: Vec<Fused>, how: Fuse) -> Vec<(u32, f32)> {
        let schema = Schema::new(1, Metric::Cosine);
        let vector = Part::Vector { name: None, field: None, schema: &schema, vector: vec![1.0].into() };
        fuse(&mut records, &[vector, Part::Text("")], how);
        records.iter().map(|r| (r.at.row, (r.score * 1000.0).round() / 1000.0)).collect()
    }

    #[test]
    fn ranks_are_fused() {
        let records = vec![
            record(0, Some((0, 0.1)), None),
            record(1, Some((1, 0.2)), Some((1, 3.0))),
            record(2, None, Some((0, 5.0))),
        ];
        assert_eq!(order(records, Fuse::Rrf), [(1, 0.984), (0, 0.5), (2, 0.5)]);
    }

    #[test]
    fn the_order_whose_best_stands_out_decides() {
        let records = vec![
            record(0, Some((0, 0.1)), None),
            record(1, Some((1, 0.2)), Some((1, 3.0))),
            record(2, Some((2, 0.9)), Some((0, 5.0))),
        ];
        // Weights of (8 / 9)^2 and 1; ranks of 60 * 0.1 / 0.8 and 60 * 2 / 5 for the record in the middle.
        let alpha = (64.0 / 81.0) / (64.0 / 81.0 + 1.0f32);
        let share = |rank: f32| 61.0 / (61.0 + rank);
        let mut expected = [
            (0, alpha),
            (1, alpha * share(7.5) + (1.0 - alpha) * share(24.0)),
            (2, alpha * share(60.0) + (1.0 - alpha)),
        ];
        expected.sort_by(|a, b| b.1.total_cmp(&a.1));
        let expected = expected.map(|(row, score)| (row, (score * 1000.0).round() / 1000.0));
        assert_eq!(order(records, Fuse::Adaptive), expected);

        // A hundred records about as near as each other, and one text that says it all.
        let told = |row| (row == 70).then_some((0, 9.0));
        let alike = (0..100).map(|row| record(row, Some((row as usize, 0.5 + row as f32 * 1e-4)), told(row))).collect();
        let fused = order(alike, Fuse::Adaptive);
        assert!(fused[0].0 == 70 && fused[0].1 > 0.99 && fused[1].1 < 0.01, "{fused:?}");
    }

    #[test]
    fn orders_without_differences_do_no_harm() {
        assert_eq!(order(Vec::new(), Fuse::Adaptive), []);
        for distance in [0.0, 0.5] {
            let alike = vec![record(0, Some((0, distance)), None), record(1, Some((1, distance)), None)];
            assert_eq!(order(alike, Fuse::Adaptive).iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0, 1]);
        }
    }

    #[test]
    fn weighted_scores_are_fused() {
        let records = vec![
            record(0, Some((0, 0.0)), None),
            record(1, Some((1, 0.5)), Some((1, 2.5))),
            record(2, Some((2, 1.0)), Some((0, 5.0))),
        ];
        for (alpha, expected) in [
            (1.0, [(0, 1.0), (1, 0.5), (2, 0.0)]),
            (0.0, [(2, 1.0), (1, 0.5), (0, 0.0)]),
            (0.75, [(0, 0.75), (1, 0.5), (2, 0.25)]),
        ] {
            assert_eq!(order(records.clone(), Fuse::Weighted { alpha }), expected, "{alpha}");
        }
        let alone = vec![record(0, Some((0, 0.3)), None)];
        assert_eq!(order(alone, Fuse::Weighted { alpha: 0.5 }), [(0, 0.5)]);
    }
}
