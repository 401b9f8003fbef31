//! Which texts answer a query best? BM25 with the statistics of the whole collection, so that the answer does not
//! depend on how its records lie in segments and memtables.
//!
//! `tantivy` finds candidates index by index, passing over what cannot be among the best. It adds up the scores of a
//! query's terms in an order that depends on the index, so where that can round differently the candidates are scored
//! again, in the order of the query.

use super::analyzer::Analyzer;
use super::exclude::Excluded;
use super::expand::{Expander, Node};
use super::index::{TextIndex, Totals, index_schema, term};
use super::parse::{Occur, parse};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::idmap::Location;
use crate::version::Part;
use roaring::RoaringBitmap;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use tantivy::index::SegmentReader;
use tantivy::query::{
    Bm25StatisticsProvider, BooleanWeight, BoostWeight, DisjunctionMaxCombiner, EnableScoring, PhraseQuery, Query,
    Scorer, SumCombiner, TermQuery, Weight,
};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{Index, ReloadPolicy, Searcher, Term};

/// Two ways of adding up one record's score differ by less than this share of it.
const ROUNDING: f32 = 1e-4;

/// The texts of one version of a collection.
pub(crate) struct Texts<'a> {
    pub(crate) parts: Vec<Part<'a>>,
    /// The index of each part.
    pub(crate) indexes: Vec<Arc<TextIndex>>,
    pub(crate) analyzer: Analyzer,
}

/// A record found, and its score: higher is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Match {
    pub(crate) score: f32,
    /// Orders equal scores in one way, whatever the layout: the hash of the record's id.
    pub(crate) tie: u64,
    pub(crate) at: Location,
}

impl Match {
    fn is_before(&self, other: &Match) -> std::cmp::Ordering {
        other.score.total_cmp(&self.score).then(self.tie.cmp(&other.tie))
    }
}

/// A query and the statistics that its scores follow from.
pub(crate) struct TextQuery {
    node: Node,
    totals: Totals,
    frequencies: HashMap<Term, u64>,
}

impl Bm25StatisticsProvider for TextQuery {
    fn total_num_tokens(&self, _field: Field) -> tantivy::Result<u64> {
        Ok(self.totals.terms)
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        Ok(self.totals.texts)
    }

    fn doc_freq(&self, term: &Term) -> tantivy::Result<u64> {
        Ok(self.frequencies.get(term).copied().unwrap_or(0))
    }
}

/// The statistics of a term that stands for several.
struct Blended<'a> {
    query: &'a TextQuery,
    frequency: u64,
}

impl Bm25StatisticsProvider for Blended<'_> {
    fn total_num_tokens(&self, field: Field) -> tantivy::Result<u64> {
        self.query.total_num_tokens(field)
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        self.query.total_num_docs()
    }

    fn doc_freq(&self, _term: &Term) -> tantivy::Result<u64> {
        Ok(self.frequency)
    }
}

/// A query as something that `tantivy` runs.
enum Plan {
    Leaf(Box<dyn Weight>),
    Any(Vec<Box<dyn Weight>>),
    All(Vec<(Occur, Plan)>),
}

/// A plan at work on one part of an index.
enum Cursor {
    Leaf(Box<dyn Scorer>),
    Any(Vec<Box<dyn Scorer>>),
    All(Vec<(Occur, Cursor)>),
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::Unusable(format!("text search: {e}"))
}

/// `tantivy` asks for a searcher wherever scores are wanted, and reads no more of it than the schema.
fn searcher() -> Result<&'static Searcher> {
    static SEARCHER: OnceLock<std::result::Result<Searcher, String>> = OnceLock::new();
    let made = SEARCHER.get_or_init(|| {
        let reader = Index::create_in_ram(index_schema()).reader_builder().reload_policy(ReloadPolicy::Manual);
        reader.try_into().map(|reader| reader.searcher()).map_err(|e| e.to_string())
    });
    made.as_ref().map_err(failed)
}

impl Texts<'_> {
    /// Reads a query; `None` if nothing can match it.
    pub(crate) fn query(&self, text: &str) -> Result<Option<TextQuery>> {
        let frequency = |text: &str| self.frequency(&term(text));
        let all_live = self.parts.iter().all(Part::all_live);
        let mut expander = Expander::new(self.analyzer, &self.indexes, &frequency, all_live);
        let Some(node) = expander.expand(&parse(text))?.and_then(Node::simplify) else { return Ok(None) };
        let mut totals = Totals::default();
        for (part, index) in self.parts.iter().zip(&self.indexes) {
            let live = index.live_totals(part.dead_count(), part.dead_rows(0..part.rows.rows()));
            totals.texts += live.texts;
            totals.terms += live.terms;
        }
        let mut terms = HashSet::new();
        node.for_each_leaf(&mut |leaf, _| terms.extend(leaf.terms().map(term)));
        let count = |term: Term| self.frequency(&term).map(|count| (term, count));
        let frequencies: HashMap<Term, u64> = terms.into_iter().map(count).collect::<Result<_>>()?;
        // Without a single live occurrence there is no average to score by.
        let found = frequencies.values().any(|count| *count > 0);
        Ok(found.then_some(TextQuery { node, totals, frequencies }))
    }

    /// In how many live texts a term occurs.
    fn frequency(&self, term: &Term) -> Result<u64> {
        let of = |(part, index): (&Part<'_>, &Arc<TextIndex>)| {
            index.live_frequency(term, |rows: Range<u32>| part.dead_rows(rows))
        };
        self.parts.iter().zip(&self.indexes).map(of).sum()
    }

    /// The `k` best live records that pass the filter, best first; all of them if there are fewer.
    pub(crate) fn best(&self, query: &TextQuery, filter: Option<&Filter>, k: usize) -> Result<Vec<Match>> {
        let plan = query.plan(&query.node)?;
        let weight = query.weight(&query.node)?;
        let mut best = Best::new(k, query.sums() <= 2);
        for (part, index) in self.parts.iter().zip(&self.indexes) {
            let matching = filter.map(|filter| part.live_matching(filter)).transpose()?;
            for piece in &index.parts {
                let rows = piece.first..piece.first + piece.reader.max_doc();
                let matching = matching.as_ref().map(|all| all.rows.range(rows.clone()).map(|row| row - rows.start));
                let matching: Option<RoaringBitmap> = matching.map(|rows| rows.collect());
                let piece = Piece { part, index, first: piece.first, reader: &piece.reader };
                match matching {
                    Some(few) if query.seeks_pay(few.len(), self.rows(), piece.reader) => {
                        piece.score_each(&plan, few.iter(), |found| best.push(found))?;
                    }
                    matching => piece.search(&*weight, matching.as_ref(), &mut best)?,
                }
            }
        }
        let mut found = best.finish();
        if query.sums() > 2 {
            found.sort_unstable_by_key(|found| (found.at.source, found.at.row));
            let scores = self.scores(query, &found.iter().map(|found| found.at).collect::<Vec<_>>())?;
            found.iter_mut().zip(scores).for_each(|(found, score)| found.score = score.unwrap_or(found.score));
        }
        found.sort_unstable_by(Match::is_before);
        found.truncate(k);
        Ok(found)
    }

    fn rows(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.rows.rows())).sum()
    }

    /// The score of each of these records, `None` where the query does not match. They must be in ascending order.
    pub(crate) fn scores(&self, query: &TextQuery, records: &[Location]) -> Result<Vec<Option<f32>>> {
        let plan = query.plan(&query.node)?;
        let mut scores = vec![None; records.len()];
        for (part, index) in self.parts.iter().zip(&self.indexes) {
            for piece in &index.parts {
                let start = part.location(piece.first);
                let end = start.row.saturating_add(piece.reader.max_doc());
                let from = records.partition_point(|at| (at.source, at.row) < (start.source, start.row));
                let to = records.partition_point(|at| (at.source, at.row) < (start.source, end));
                if from == to {
                    continue;
                }
                let mut cursor = plan.open(&piece.reader).map_err(|e| index.failed(e))?;
                for i in from..to {
                    scores[i] = cursor.score(records[i].row - start.row);
                }
            }
        }
        Ok(scores)
    }
}

impl TextQuery {
    /// The terms that a match may have, for showing where it matches.
    pub(crate) fn terms(&self) -> HashSet<String> {
        let mut terms = HashSet::new();
        self.node.for_each_leaf(&mut |leaf, positive| {
            if positive {
                terms.extend(leaf.terms().map(str::to_owned));
            }
        });
        terms
    }

    /// How many scores a record's score may be the sum of.
    fn sums(&self) -> usize {
        let mut sums = 0;
        self.node.for_each_leaf(&mut |_, positive| sums += usize::from(positive));
        sums
    }

    /// Whether looking `few` rows up is cheaper than reading the terms' postings.
    fn seeks_pay(&self, few: u64, all_rows: u64, reader: &SegmentReader) -> bool {
        let postings: u64 = self.frequencies.values().sum();
        few * 8 * self.frequencies.len() as u64 <= postings * u64::from(reader.max_doc()) / all_rows.max(1)
    }

    fn term_weight(&self, text: &str, statistics: &dyn Bm25StatisticsProvider) -> Result<Box<dyn Weight>> {
        let scoring = EnableScoring::enabled_from_statistics_provider(statistics, searcher()?);
        TermQuery::new(term(text), IndexRecordOption::WithFreqs).weight(scoring).map_err(failed)
    }

    fn leaf(&self, node: &Node) -> Result<Vec<Box<dyn Weight>>> {
        match node {
            Node::Term(text) => Ok(vec![self.term_weight(text, self)?]),
            Node::Phrase(terms, slop) => {
                let first = terms.first().map_or(0, |(position, _)| *position);
                let terms = terms.iter().map(|(position, text)| (position - first, term(text))).collect();
                let scoring = EnableScoring::enabled_from_statistics_provider(self, searcher()?);
                let phrase = PhraseQuery::new_with_offset_and_slop(terms, *slop);
                Ok(vec![phrase.weight(scoring).map_err(failed)?])
            }
            Node::Any(terms) => {
                let counts = terms.iter().filter_map(|(text, _)| self.frequencies.get(&term(text)));
                let blended = Blended { query: self, frequency: counts.sum::<u64>().min(self.totals.texts) };
                let weight = |(text, share): &(String, f32)| -> Result<Box<dyn Weight>> {
                    let weight = self.term_weight(text, &blended)?;
                    Ok(if *share == 1.0 { weight } else { Box::new(BoostWeight::new(weight, *share)) })
                };
                terms.iter().map(weight).collect()
            }
            Node::All(_) => Ok(Vec::new()),
        }
    }

    fn plan(&self, node: &Node) -> Result<Plan> {
        Ok(match node {
            Node::All(clauses) => {
                let plan = |(occur, node): &(Occur, Node)| Ok((*occur, self.plan(node)?));
                Plan::All(clauses.iter().map(plan).collect::<Result<_>>()?)
            }
            leaf => {
                let mut weights = self.leaf(leaf)?;
                match weights.pop() {
                    Some(only) if weights.is_empty() => Plan::Leaf(only),
                    last => Plan::Any(weights.into_iter().chain(last).collect()),
                }
            }
        })
    }

    /// The same for finding candidates.
    fn weight(&self, node: &Node) -> Result<Box<dyn Weight>> {
        use tantivy::query::Occur as Clause;
        if let Node::All(clauses) = node {
            let mut weights = Vec::with_capacity(clauses.len());
            for (occur, node) in clauses {
                let weight = self.weight(node)?;
                let clause: (Clause, Box<dyn Weight>) = match occur {
                    Occur::Should => (Clause::Should, weight),
                    Occur::Must => (Clause::Must, weight),
                    Occur::MustNot => (Clause::MustNot, Box::new(Excluded(weight))),
                };
                weights.push(clause);
            }
            let least = usize::from(weights.iter().all(|(occur, _)| *occur != Clause::Must));
            let sum = Box::new(SumCombiner::default);
            return Ok(Box::new(BooleanWeight::with_minimum_number_should_match(weights, least, true, sum)));
        }
        let mut weights = self.leaf(node)?;
        match weights.pop() {
            Some(only) if weights.is_empty() => Ok(only),
            last => {
                let weights = weights.into_iter().chain(last).map(|weight| (Clause::Should, weight)).collect();
                let best = Box::new(DisjunctionMaxCombiner::default);
                Ok(Box::new(BooleanWeight::with_minimum_number_should_match(weights, 1, true, best)))
            }
        }
    }
}

impl Plan {
    fn open(&self, reader: &SegmentReader) -> tantivy::Result<Cursor> {
        Ok(match self {
            Plan::Leaf(weight) => Cursor::Leaf(weight.scorer(reader, 1.0)?),
            Plan::Any(weights) => {
                Cursor::Any(weights.iter().map(|weight| weight.scorer(reader, 1.0)).collect::<tantivy::Result<_>>()?)
            }
            Plan::All(clauses) => {
                let open = |(occur, plan): &(Occur, Plan)| Ok((*occur, plan.open(reader)?));
                Cursor::All(clauses.iter().map(open).collect::<tantivy::Result<_>>()?)
            }
        })
    }
}

/// The score at one document, if the scorer has it. Documents must be asked for in ascending order.
fn score_at(scorer: &mut dyn Scorer, document: u32) -> Option<f32> {
    let at = if scorer.doc() < document { scorer.seek(document) } else { scorer.doc() };
    (at == document).then(|| scorer.score())
}

impl Cursor {
    /// The score at one document, if the query matches. Documents must be asked for in ascending order.
    fn score(&mut self, document: u32) -> Option<f32> {
        match self {
            Cursor::Leaf(scorer) => score_at(&mut **scorer, document),
            Cursor::Any(scorers) => {
                scorers.iter_mut().filter_map(|scorer| score_at(&mut **scorer, document)).reduce(f32::max)
            }
            Cursor::All(clauses) => {
                let (mut sum, mut matches) = (0.0, clauses.iter().any(|(occur, _)| *occur == Occur::Must));
                for (occur, clause) in clauses {
                    match (occur, clause.score(document)) {
                        (Occur::Must, None) | (Occur::MustNot, Some(_)) => return None,
                        (Occur::Must | Occur::Should, Some(score)) => {
                            sum += score;
                            matches = true;
                        }
                        (Occur::Should | Occur::MustNot, None) => {}
                    }
                }
                matches.then_some(sum)
            }
        }
    }
}

/// One piece of the index of a part.
struct Piece<'a> {
    part: &'a Part<'a>,
    index: &'a TextIndex,
    first: u32,
    reader: &'a SegmentReader,
}

impl Piece<'_> {
    fn found(&self, document: u32, score: f32) -> Result<Match> {
        let row = self.first + document;
        Ok(Match { score, tie: self.part.rows.hash(row)?, at: self.part.location(row) })
    }

    /// Scores these documents, in ascending order.
    fn score_each(&self, plan: &Plan, documents: impl Iterator<Item = u32>, mut push: impl FnMut(Match)) -> Result<()> {
        let mut cursor = plan.open(self.reader).map_err(|e| self.index.failed(e))?;
        for document in documents {
            if let Some(score) = cursor.score(document) {
                push(self.found(document, score)?);
            }
        }
        Ok(())
    }

    fn search(&self, weight: &dyn Weight, matching: Option<&RoaringBitmap>, best: &mut Best) -> Result<()> {
        let all_live = self.part.all_live();
        let passes = |document: u32| match matching {
            Some(matching) => matching.contains(document),
            None => all_live || self.part.is_live(self.first + document),
        };
        let start = best.threshold();
        let mut failure = None;
        let mut offer = |document: u32, score: f32| {
            if passes(document) {
                match self.found(document, score) {
                    Ok(found) => best.push(found),
                    Err(e) => {
                        failure.get_or_insert(e);
                        return f32::INFINITY;
                    }
                }
            }
            best.threshold()
        };
        weight.for_each_pruning(start, self.reader, &mut offer).map_err(|e| self.index.failed(e))?;
        failure.map_or(Ok(()), Err)
    }
}

/// The best matches so far.
struct Best {
    k: usize,
    /// Whether scores are final; else those close to the worst of the best may turn out to be better.
    exact: bool,
    found: Vec<Match>,
    bound: Option<Match>,
    /// How many to gather before the best are chosen again.
    room: usize,
}

impl Best {
    fn new(k: usize, exact: bool) -> Self {
        Best { k, exact, found: Vec::new(), bound: None, room: 2 * k + 64 }
    }

    /// Only scores above this can be among the best.
    fn threshold(&self) -> f32 {
        match self.bound {
            None => f32::MIN,
            Some(bound) if self.exact => bound.score.next_down(),
            Some(bound) => bound.score * (1.0 - ROUNDING),
        }
    }

    fn push(&mut self, found: Match) {
        if self.exact && self.bound.is_some_and(|bound| bound.is_before(&found).is_lt()) {
            return;
        }
        self.found.push(found);
        if self.found.len() >= self.room {
            self.select();
        }
    }

    fn select(&mut self) {
        if self.k == 0 || self.found.len() <= self.k {
            return;
        }
        let (_, worst, _) = self.found.select_nth_unstable_by(self.k - 1, Match::is_before);
        self.bound = Some(*worst);
        if self.exact {
            self.found.truncate(self.k);
        } else {
            let threshold = self.threshold();
            self.found.retain(|found| found.score > threshold);
        }
        self.room = 2 * self.found.len() + 64;
    }

    fn finish(mut self) -> Vec<Match> {
        self.select();
        self.found
    }
}
