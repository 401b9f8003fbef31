//! A parsed query becomes terms: its words go through the collection's analyser, and prefixes and misspelt words
//! become the terms of the collection that they stand for.

use super::analyzer::{Analyzer, is_cjk};
use super::index::{TextIndex, field, term, terms_of};
use super::parse::{Expr, Occur};
use crate::error::Result;
use std::collections::BTreeMap;
use std::sync::Arc;
use tantivy::query::FuzzyTermQuery;
use tantivy::tokenizer::TextAnalyzer;

/// A prefix stands for this many terms at most: the most frequent ones.
const MAX_PREFIX_TERMS: usize = 1_024;
/// A misspelt word stands for this many terms at most: the nearest, and of those the most frequent.
const MAX_FUZZY_TERMS: usize = 64;

/// A query in terms.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Term(String),
    /// Terms at positions, and how many moves of terms may be between them.
    Phrase(Vec<(usize, String)>, u32),
    /// The best of several terms, each with the share of the score that it gets; together as rare as one term.
    Any(Vec<(String, f32)>),
    All(Vec<(Occur, Node)>),
}

impl Node {
    /// Without what can match nothing; `None` if that is all of it. A group of exclusions alone matches nothing.
    pub(crate) fn simplify(self) -> Option<Node> {
        let Node::All(clauses) = self else {
            let empty = self.terms().next().is_none();
            return (!empty).then_some(self);
        };
        let mut kept = Vec::with_capacity(clauses.len());
        for (occur, node) in clauses {
            match node.simplify() {
                Some(node) => kept.push((occur, node)),
                None if occur == Occur::Must => return None,
                None => {}
            }
        }
        if kept.iter().all(|(occur, _)| *occur == Occur::MustNot) {
            return None;
        }
        match kept.len() {
            1 => kept.pop().map(|(_, node)| node),
            _ => Some(Node::All(kept)),
        }
    }

    /// Calls `f` with every group of terms that is scored as one; `positive` says whether it can add to a score.
    pub(crate) fn for_each_leaf<'a>(&'a self, f: &mut dyn FnMut(&'a Node, bool)) {
        self.visit(true, f);
    }

    fn visit<'a>(&'a self, positive: bool, f: &mut dyn FnMut(&'a Node, bool)) {
        match self {
            Node::All(clauses) => {
                clauses.iter().for_each(|(occur, node)| node.visit(positive && *occur != Occur::MustNot, f));
            }
            leaf => f(leaf, positive),
        }
    }

    /// The terms of a leaf.
    pub(crate) fn terms(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Node::Term(term) => Box::new(std::iter::once(&**term)) as Box<dyn Iterator<Item = &str>>,
            Node::Phrase(terms, _) => Box::new(terms.iter().map(|(_, term)| &**term)),
            Node::Any(terms) => Box::new(terms.iter().map(|(term, _)| &**term)),
            Node::All(_) => Box::new(std::iter::empty()),
        }
    }
}

/// Turns queries into terms.
pub(crate) struct Expander<'a> {
    analyzer: TextAnalyzer,
    /// The same without stemming and with stop words.
    words: TextAnalyzer,
    indexes: &'a [Arc<TextIndex>],
    /// The frequency of a term in the live texts of all indexes.
    frequency: &'a dyn Fn(&str) -> Result<u64>,
    /// Whether no text is dead, so that the frequencies within the indexes are those of live texts.
    all_live: bool,
}

impl<'a> Expander<'a> {
    pub(crate) fn new(
        analyzer: Analyzer,
        indexes: &'a [Arc<TextIndex>],
        frequency: &'a dyn Fn(&str) -> Result<u64>,
        all_live: bool,
    ) -> Self {
        Expander { analyzer: analyzer.build(), words: Analyzer::words(), indexes, frequency, all_live }
    }

    /// `None` where nothing is left of it: stop words and punctuation ask for nothing.
    pub(crate) fn expand(&mut self, expr: &Expr) -> Result<Option<Node>> {
        match expr {
            Expr::Word(word) => self.word(word),
            Expr::Phrase(phrase, slop) => {
                let terms = self.query_terms(phrase);
                Ok(match terms.len() {
                    0 | 1 => self.single(terms.into_iter().next())?,
                    _ => Some(Node::Phrase(terms, *slop)),
                })
            }
            Expr::Prefix(word) => self.prefix(word),
            Expr::Fuzzy(word, edits) => self.fuzzy(word, *edits),
            Expr::Group(clauses) => {
                let mut all = Vec::new();
                for (occur, expr) in clauses {
                    all.extend(self.expand(expr)?.map(|node| (*occur, node)));
                }
                Ok((!all.is_empty()).then_some(Node::All(all)))
            }
        }
    }

    /// The terms of a piece of a query. A CJK run becomes its pairs alone: the single character at its end says nothing
    /// that the pair before does not.
    fn query_terms(&mut self, text: &str) -> Vec<(usize, String)> {
        let mut terms: Vec<(usize, String)> = Vec::new();
        let mut end = usize::MAX;
        self.analyzer.token_stream(text).process(&mut |token| {
            if token.offset_to != end {
                terms.push((token.position, token.text.clone()));
            }
            end = token.offset_to;
        });
        terms
    }

    fn word(&mut self, word: &str) -> Result<Option<Node>> {
        let terms = self.query_terms(word);
        match terms.len() {
            0 | 1 => self.single(terms.into_iter().next()),
            _ => Ok(Some(Node::Phrase(terms, 0))),
        }
    }

    fn single(&mut self, term: Option<(usize, String)>) -> Result<Option<Node>> {
        let Some((_, term)) = term else { return Ok(None) };
        // One CJK character is indexed as the beginning of a pair.
        if term.chars().all(is_cjk) && term.chars().count() == 1 {
            return Ok(Some(Node::Any(self.terms_with_prefix(&term, None)?)));
        }
        Ok(Some(Node::Term(term)))
    }

    fn prefix(&mut self, word: &str) -> Result<Option<Node>> {
        let mut words = terms_of(&mut self.words, word);
        let Some((_, prefix)) = words.pop() else { return Ok(None) };
        // The terms are stems: what is written out in full is searched for as such, too.
        let whole = terms_of(&mut self.analyzer, &prefix).pop().map(|(_, term)| term);
        let terms = Node::Any(self.terms_with_prefix(&prefix, whole)?);
        let mut clauses = Vec::new();
        for (_, word) in words {
            clauses.extend(self.word(&word)?.map(|node| (Occur::Must, node)));
        }
        if clauses.is_empty() {
            return Ok(Some(terms));
        }
        clauses.push((Occur::Must, terms));
        Ok(Some(Node::All(clauses)))
    }

    fn fuzzy(&mut self, word: &str, edits: Option<u8>) -> Result<Option<Node>> {
        let mut nodes = Vec::new();
        for (_, wanted) in self.query_terms(word) {
            let edits = edits.unwrap_or(match wanted.chars().count() {
                0..=2 => 0,
                3..=5 => 1,
                _ => 2,
            });
            nodes.push((Occur::Must, Node::Any(self.terms_like(&wanted, edits)?)));
        }
        Ok(match nodes.len() {
            0 | 1 => nodes.pop().map(|(_, node)| node),
            _ => Some(Node::All(nodes)),
        })
    }

    fn terms_with_prefix(&self, prefix: &str, whole: Option<String>) -> Result<Vec<(String, f32)>> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for index in self.indexes {
            for part in &index.parts {
                let terms = part.reader.inverted_index(field()).map_err(|e| index.failed(e))?;
                let range = terms.terms().range().ge(prefix.as_bytes());
                let mut stream = range.into_stream().map_err(|e| index.failed(e))?;
                while let Some((bytes, info)) = stream.next() {
                    if !bytes.starts_with(prefix.as_bytes()) {
                        break;
                    }
                    *counts.entry(String::from_utf8_lossy(bytes).into_owned()).or_default() += u64::from(info.doc_freq);
                }
            }
        }
        if let Some(whole) = whole {
            counts.entry(whole).or_default();
        }
        let ranked = counts.into_iter().map(|(term, count)| (0, count, term)).collect();
        self.most_frequent(ranked, MAX_PREFIX_TERMS)
    }

    fn terms_like(&self, wanted: &str, edits: u8) -> Result<Vec<(String, f32)>> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let failed = |e: &dyn std::fmt::Display| crate::error::Error::Unusable(format!("fuzzy search: {e}"));
        for index in self.indexes {
            for part in &index.parts {
                let terms = part.reader.inverted_index(field()).map_err(|e| index.failed(e))?;
                let automaton = FuzzyTermQuery::new(term(wanted), edits, true).automaton().map_err(|e| failed(&e))?;
                let mut stream = terms.terms().search(automaton).into_stream().map_err(|e| index.failed(e))?;
                while let Some((bytes, info)) = stream.next() {
                    *counts.entry(String::from_utf8_lossy(bytes).into_owned()).or_default() += u64::from(info.doc_freq);
                }
            }
        }
        let ranked = counts.into_iter().map(|(term, count)| (distance(wanted, &term), count, term)).collect();
        self.most_frequent(ranked, MAX_FUZZY_TERMS)
    }

    /// The first `most` of (edits, frequency, term) that occur in live texts, by edits and frequency. Where texts are
    /// dead the frequencies are counted again, so that the choice does not depend on the layout.
    fn most_frequent(&self, mut ranked: Vec<(usize, u64, String)>, most: usize) -> Result<Vec<(String, f32)>> {
        let mut live = Vec::with_capacity(ranked.len());
        for (edits, count, term) in ranked.drain(..) {
            let count = if self.all_live && count > 0 { count } else { (self.frequency)(&term)? };
            if count > 0 {
                live.push((edits, u64::MAX - count, term));
            }
        }
        live.sort_unstable();
        live.truncate(most);
        Ok(live.into_iter().map(|(edits, _, term)| (term, 1.0 / (1.0 + edits as f32))).collect())
    }
}

/// How many characters must be inserted, left out, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                let swapped: &Vec<usize> = &before;
                best = best.min(swapped[j - 2] + 1);
            }
            row.push(best);
        }
        (before, last) = (last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn edits_are_counted() {
        for (a, b, edits) in [
            ("", "", 0),
            ("a", "", 1),
            ("crash", "crsah", 1),
            ("crash", "clash", 1),
            ("crash", "cash", 1),
            ("ab", "xy", 2),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (edits, edits), "{a} {b}");
        }
    }
}
