//! Searches by text, and by vector and text together: two orders become one.

use crate::collection::{Collection, validate_options};
use crate::distance::Prepared;
use crate::error::{Error, Result};
use crate::idmap::Location;
use crate::ids::IdColumn;
use crate::query::exec::{self, Search, pack, unpack};
use crate::record::{Fuse, Hit, Hits, SearchOptions, Vectors};
use crate::schema::{MAX_K, MAX_TEXT_BYTES};
use crate::text::index::text_of;
use crate::text::search::{Match, TextQuery, Texts};
use crate::text::snippet::snippet;
use crate::validate::check_vectors;
use crate::version::Version;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;

/// Reciprocal rank fusion: how little a rank counts.
const RANK_OFFSET: f32 = 60.0;
/// The least number of records of each order that are fused.
const MIN_DEPTH: usize = 100;
/// Longest snippet, bytes.
const SNIPPET_BYTES: usize = 200;

impl Collection {
    /// The records whose texts answer a query best, by BM25 over all live texts of the collection.
    ///
    /// A query is words, any of which may match; `"phrases"` (`~n`: with up to n moves of words), `prefix*`, `fuzzy~`
    /// (`~1`, `~2`: edits), `+must`, `-must_not`, `AND`, `OR`, `NOT` and parentheses. Every string is a query; words
    /// after the first 1,024 are left out, as are stop words where the collection's [`Analyzer`](crate::Analyzer)
    /// leaves them out. A prefix stands for the 1,024 most frequent terms that begin so, a fuzzy word for 64. A query
    /// of exclusions alone matches nothing.
    ///
    /// Scores and order do not depend on how the records lie in files and memory. Records without text never match.
    /// [`SearchOptions::recall`], `ef` and `fuse` mean nothing here: the answer is exact.
    ///
    /// # Errors
    /// `InvalidInput` and `LimitExceeded` as for [`Collection::search`]; `Corrupt` if a stored text is damaged.
    pub fn search_text(&self, text: &str, options: &SearchOptions) -> Result<Hits> {
        self.readable()?;
        validate(text, options)?;
        if options.max_distance.is_some() {
            return Err(Error::invalid(
                "max_distance was given without a vector; bound a search by text with min_score",
            ));
        }
        let found = self.engine().metrics.search.time(|| {
            self.with_texts(|texts, version| {
                let query = texts.query(text)?;
                let found = self.matches(texts, version, query.as_ref(), options, options.k + options.offset)?;
                let ranked = found.into_iter().map(|found| Ranked {
                    at: found.at,
                    score: found.score,
                    distance: -found.score,
                    vector_score: None,
                    text_score: Some(found.score),
                });
                self.hits(version, ranked.collect(), true, query.as_ref(), options)
            })
        });
        self.noted(found)
    }

    /// The best records by vector and text together: two searches under one filter, fused as
    /// [`SearchOptions::fuse`] says. Each is asked for at least 100 records, and for twice as many as are wanted.
    ///
    /// A hit need not match the text: near ones by vector are found, too. Of every hit both scores are exact, and
    /// `text_score` is `None` if its text does not match. `min_score` is of the fused score.
    ///
    /// # Errors
    /// As of [`Collection::search`] and [`Collection::search_text`]; `InvalidInput` for an `alpha` out of 0 to 1.
    pub fn search_hybrid<'v>(
        &self,
        vector: impl Into<Vectors<'v>>,
        text: &str,
        options: &SearchOptions,
    ) -> Result<Hits> {
        self.readable()?;
        validate(text, options)?;
        if let Fuse::Weighted { alpha } = options.fuse
            && !(0.0..=1.0).contains(&alpha)
        {
            return Err(Error::invalid(format!(
                "alpha = {alpha} was given; it may be 0 (text alone) to 1 (vector alone)"
            )));
        }
        let mut vector = vector.into();
        check_vectors(&mut vector, &self.state.schema, Some(1), &IdColumn::default())?;
        let found = self
            .engine()
            .metrics
            .search
            .time(|| self.with_texts(|texts, version| self.fused(texts, version, &vector, text, options)));
        self.noted(found)
    }

    fn fused(
        &self,
        texts: &Texts<'_>,
        version: &Version,
        vector: &Vectors<'_>,
        text: &str,
        options: &SearchOptions,
    ) -> Result<Hits> {
        let depth = (2 * (options.k + options.offset)).clamp(MIN_DEPTH, MAX_K);
        let deep = SearchOptions { k: depth, offset: 0, min_score: None, ..options.clone() };
        let search = Search::new(&self.state, version, &deep);
        let mut nearest = search.candidates(vector, 0..1, None)?;
        let mut near = nearest.candidates.pop().unwrap_or_default();
        search.cut(&mut near)?;
        let exhausted = nearest.whole && near.len() < depth;
        near.truncate(depth);
        let query = texts.query(text)?;
        let told = self.matches(texts, version, query.as_ref(), options, depth)?;
        let mut found = Candidates::default();
        for (rank, candidate) in near.iter().enumerate() {
            found.entry(unpack(candidate.row)).near = Some((rank, candidate.key));
        }
        for (rank, matched) in told.iter().enumerate() {
            found.entry(matched.at).told = Some((rank, matched.score));
        }
        let prepared = Prepared::new(&self.state.schema, vector, 0);
        let mut records = found.into_sorted();
        self.complete(texts, version, &prepared, query.as_ref(), &mut records)?;
        if let Some(radius) = options.max_distance {
            records.retain(|record| record.distance <= radius);
        }
        fuse(&mut records, options.fuse, |distance| self.state.schema.metric.score(distance));
        let ranked = records.iter().map(|record| Ranked {
            at: record.at,
            score: record.fused,
            distance: record.distance,
            vector_score: Some(self.state.schema.metric.score(record.distance)),
            text_score: record.text_score,
        });
        self.hits(version, ranked.collect(), exhausted, query.as_ref(), options)
    }

    /// The `wanted` best matches of a query that are not excluded.
    fn matches(
        &self,
        texts: &Texts<'_>,
        version: &Version,
        query: Option<&TextQuery>,
        options: &SearchOptions,
        wanted: usize,
    ) -> Result<Vec<Match>> {
        let Some(query) = query else { return Ok(Vec::new()) };
        let found = texts.best(query, options.filter.as_ref(), wanted + options.exclude.len())?;
        let excluded: HashSet<Vec<u8>> = options.exclude.iter().map(|id| id.as_ref().encode()).collect();
        let mut kept = Vec::with_capacity(found.len());
        for found in found {
            let (source, row) = version.source(found.at).ok_or_else(lost)?;
            if excluded.is_empty() || !excluded.contains(source.id(row)?) {
                kept.push(found);
            }
        }
        kept.truncate(wanted);
        Ok(kept)
    }

    /// Fills in the distances and text scores that the two searches did not give.
    fn complete(
        &self,
        texts: &Texts<'_>,
        version: &Version,
        vector: &Prepared,
        query: Option<&TextQuery>,
        records: &mut [Fused],
    ) -> Result<()> {
        for record in records.iter_mut() {
            record.distance = match record.near {
                Some((_, distance)) => distance,
                None => {
                    let (source, row) = version.source(record.at).ok_or_else(lost)?;
                    vector.distance(source.vectors(row, 1)?)
                }
            };
            record.text_score = record.told.map(|(_, score)| score);
        }
        let Some(query) = query else { return Ok(()) };
        let unknown = |record: &&mut Fused| record.told.is_none();
        let places: Vec<Location> = records.iter_mut().filter(unknown).map(|record| record.at).collect();
        let scores = texts.scores(query, &places)?;
        records.iter_mut().filter(unknown).zip(scores).for_each(|(record, score)| record.text_score = score);
        Ok(())
    }

    /// Runs a search with the text index of every part at hand. An index whose file turns out to be damaged is made
    /// again from the stored text, and the search begins anew.
    fn with_texts<T>(&self, search: impl Fn(&Texts<'_>, &Version) -> Result<T>) -> Result<T> {
        let version = self.state.version.load_full();
        loop {
            let (mut parts, mut indexes) = (Vec::new(), Vec::new());
            for part in version.parts() {
                match self.engine().text_index(&self.state, part.rows, part.segment) {
                    Ok(Some(index)) => {
                        parts.push(part);
                        indexes.push(index);
                    }
                    Ok(None) => {}
                    // A degraded version answers from what is whole; its hits say that they may not be complete.
                    Err(Error::Corrupt { .. }) if !version.damaged.is_empty() => {}
                    Err(e) => return Err(e),
                }
            }
            let texts = Texts { parts, indexes, analyzer: self.state.schema.analyzer };
            match search(&texts, &version) {
                Err(e @ Error::Corrupt { .. }) => {
                    if !self.rebuild_damaged(&texts, &e) {
                        return Err(e);
                    }
                }
                result => return result,
            }
        }
    }

    /// Gives up the text index that an error is about; false if it is about something else.
    fn rebuild_damaged(&self, texts: &Texts<'_>, error: &Error) -> bool {
        let Error::Corrupt { file, .. } = error else { return false };
        for (part, index) in texts.parts.iter().zip(&texts.indexes) {
            if let Some(slot) = part.rows.text_slot()
                && index.path() == file
                && !slot.distrusted.swap(true, Ordering::AcqRel)
            {
                tracing::warn!(%error, "a text index is damaged and is made again");
                self.engine().note_damage(error);
                slot.clear();
                return true;
            }
        }
        false
    }

    /// The hits of a ranking, which holds all matches if `exhausted` and it is shorter than what is wanted.
    fn hits(
        &self,
        version: &Version,
        ranked: Vec<Ranked>,
        exhausted: bool,
        query: Option<&TextQuery>,
        options: &SearchOptions,
    ) -> Result<Hits> {
        let terms = if options.include.snippet { query.map(TextQuery::terms) } else { None };
        let good = |record: &&Ranked| options.min_score.is_none_or(|least| record.score >= least);
        let chosen = ranked.iter().filter(good).skip(options.offset).take(options.k);
        let hits =
            chosen.map(|record| self.hit(version, record, terms.as_ref(), options)).collect::<Result<Vec<_>>>()?;
        Ok(Hits { complete: exhausted && version.damaged.is_empty() && hits.len() < options.k, hits })
    }

    fn hit(
        &self,
        version: &Version,
        record: &Ranked,
        terms: Option<&HashSet<String>>,
        options: &SearchOptions,
    ) -> Result<Hit> {
        let (source, row) = version.source(record.at).ok_or_else(lost)?;
        let fields = exec::fields(&self.state, source, row, options.include)?;
        let text = if terms.is_some() && record.text_score.is_some() { text_of(source, row)? } else { None };
        let shown = terms.zip(text);
        Ok(Hit {
            id: fields.id,
            distance: record.distance,
            score: record.score,
            vector_score: record.vector_score,
            text_score: record.text_score,
            field_scores: BTreeMap::new(),
            vector: fields.vector,
            metadata: fields.metadata,
            text: fields.text,
            snippet: shown.map(|(terms, text)| snippet(self.state.schema.analyzer, terms, text, SNIPPET_BYTES)),
            vectors: fields.vectors,
            sparse: fields.sparse,
        })
    }
}

fn lost() -> Error {
    Error::Unusable("a record is not in the version it was found in".into())
}

fn validate(text: &str, options: &SearchOptions) -> Result<()> {
    validate_options(options)?;
    if options.mmr.is_some() {
        return Err(Error::invalid("mmr was given with a text; it goes with a search by vector alone"));
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(Error::LimitExceeded(format!(
            "a query of {} bytes was given; the limit is {MAX_TEXT_BYTES}: search for fewer words",
            text.len()
        )));
    }
    Ok(())
}

/// A record in its place among the hits.
struct Ranked {
    at: Location,
    score: f32,
    distance: f32,
    vector_score: Option<f32>,
    text_score: Option<f32>,
}

/// A record that one search or both found.
#[derive(Debug, Clone)]
struct Fused {
    at: Location,
    /// Rank from 0 and distance in the order by vector.
    near: Option<(usize, f32)>,
    /// Rank from 0 and score in the order by text.
    told: Option<(usize, f32)>,
    distance: f32,
    text_score: Option<f32>,
    fused: f32,
}

#[derive(Default)]
struct Candidates(HashMap<u64, Fused>);

impl Candidates {
    fn entry(&mut self, at: Location) -> &mut Fused {
        let new = || Fused { at, near: None, told: None, distance: 0.0, text_score: None, fused: 0.0 };
        self.0.entry(pack(at)).or_insert_with(new)
    }

    /// By place.
    fn into_sorted(self) -> Vec<Fused> {
        let mut records: Vec<Fused> = self.0.into_values().collect();
        records.sort_unstable_by_key(|record| pack(record.at));
        records
    }
}

/// Scores records by both orders and sorts them, best first; of equal scores the nearer one comes first.
fn fuse(records: &mut [Fused], how: Fuse, score: impl Fn(f32) -> f32) {
    match how {
        Fuse::Rrf => {
            let share = |place: Option<(usize, f32)>| {
                place.map_or(0.0, |(rank, _)| (RANK_OFFSET + 1.0) / (RANK_OFFSET + 1.0 + rank as f32))
            };
            records.iter_mut().for_each(|record| record.fused = (share(record.near) + share(record.told)) / 2.0);
        }
        Fuse::Weighted { alpha } => {
            let near = || records.iter().filter_map(|record| record.near).map(|(_, distance)| score(distance));
            let (worst, best) = (near().fold(f32::INFINITY, f32::min), near().fold(f32::NEG_INFINITY, f32::max));
            let most = records.iter().filter_map(|record| record.text_score).fold(0.0, f32::max);
            for record in records.iter_mut() {
                let near = (score(record.distance) - worst) / (best - worst);
                // All candidates by vector are equally near, or there is none.
                let near = if near.is_finite() { near.clamp(0.0, 1.0) } else { f32::from(record.near.is_some()) };
                let told = record.text_score.map_or(0.0, |score| score / most);
                record.fused = alpha * near + (1.0 - alpha) * told;
            }
        }
    }
    records.sort_by(|a, b| b.fused.total_cmp(&a.fused).then(a.distance.total_cmp(&b.distance)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(row: u32, near: Option<(usize, f32)>, told: Option<(usize, f32)>) -> Fused {
        let distance = near.map_or(9.0, |(_, distance)| distance);
        let text_score = told.map(|(_, score)| score);
        Fused { at: Location { source: 0, row }, near, told, distance, text_score, fused: 0.0 }
    }

    fn order(records: &[Fused]) -> Vec<(u32, f32)> {
        records.iter().map(|r| (r.at.row, (r.fused * 1000.0).round() / 1000.0)).collect()
    }

    #[test]
    fn ranks_are_fused() {
        let mut records = [
            record(0, Some((0, 0.1)), None),
            record(1, Some((1, 0.2)), Some((1, 3.0))),
            record(2, None, Some((0, 5.0))),
        ];
        fuse(&mut records, Fuse::Rrf, |d| 1.0 - d);
        assert_eq!(order(&records), [(1, 0.984), (0, 0.5), (2, 0.5)]);
    }

    #[test]
    fn weighted_scores_are_fused() {
        let records = [
            record(0, Some((0, 0.0)), None),
            record(1, Some((1, 0.5)), Some((1, 2.5))),
            record(2, Some((2, 1.0)), Some((0, 5.0))),
        ];
        for (alpha, expected) in [
            (1.0, [(0, 1.0), (1, 0.5), (2, 0.0)]),
            (0.0, [(2, 1.0), (1, 0.5), (0, 0.0)]),
            (0.75, [(0, 0.75), (1, 0.5), (2, 0.25)]),
        ] {
            let mut records = records.clone();
            fuse(&mut records, Fuse::Weighted { alpha }, |d| 1.0 - d);
            assert_eq!(order(&records), expected, "{alpha}");
        }
        let mut alone = [record(0, Some((0, 0.3)), None)];
        fuse(&mut alone, Fuse::Weighted { alpha: 0.5 }, |d| 1.0 - d);
        assert_eq!(order(&alone), [(0, 0.5)]);
    }
}
