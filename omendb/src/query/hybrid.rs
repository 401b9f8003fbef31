//! Searches by text: how are hits by text made?

use crate::collection::{Collection, validate_options};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::idmap::Location;
use crate::query::exec;
use crate::record::{Hit, Hits, SearchOptions};
use crate::schema::MAX_TEXT_BYTES;
use crate::text::index::text_of;
use crate::text::search::{Match, TextQuery, Texts};
use crate::text::snippet::snippet;
use crate::version::Version;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;

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
            self.with_texts(options.filter.as_ref(), |texts, version| {
                let query = texts.query(text)?;
                let found = self.matches(texts, version, query.as_ref(), options, options.k + options.offset)?;
                let ranked = found.into_iter().map(|found| Ranked {
                    at: found.at,
                    score: found.score,
                    distance: -found.score,
                    vector_score: None,
                    text_score: Some(found.score),
                    field_scores: BTreeMap::new(),
                });
                self.hits(version, ranked.collect(), true, query.as_ref(), options)
            })
        });
        self.noted(found)
    }

    /// The `wanted` best matches of a query that are not excluded.
    pub(crate) fn matches(
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

    /// Runs a search with the text index of every part at hand. An index whose file turns out to be damaged is made
    /// again from the stored text, and the search begins anew.
    pub(crate) fn with_texts<T>(
        &self,
        filter: Option<&Filter>,
        search: impl Fn(&Texts<'_>, &Version) -> Result<T>,
    ) -> Result<T> {
        let version = self.version_for(filter);
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
    pub(crate) fn hits(
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
            field_scores: record.field_scores.clone(),
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

/// Refuses what no search by text can take.
pub(crate) fn validate(text: &str, options: &SearchOptions) -> Result<()> {
    validate_options(options)?;
    if options.mmr.is_some() {
        return Err(Error::invalid(
            "mmr was given with a text or a sparse vector; it goes with a search by one vector alone",
        ));
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
pub(crate) struct Ranked {
    pub(crate) at: Location,
    pub(crate) score: f32,
    pub(crate) distance: f32,
    pub(crate) vector_score: Option<f32>,
    pub(crate) text_score: Option<f32>,
    pub(crate) field_scores: BTreeMap<String, f32>,
}
