//! Which piece of a text shows best why it was found?

use super::analyzer::Analyzer;
use std::collections::HashSet;
use std::ops::Range;

/// A piece of a text that holds terms of the query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snippet {
    /// The piece: a run of whole words of the text.
    pub text: String,
    /// Where it starts in the text, bytes.
    pub start: usize,
    /// The words of `text` that match, as ranges of bytes, ascending.
    pub highlights: Vec<Range<usize>>,
}

impl Snippet {
    /// The piece with each match between `before` and `after`.
    pub fn marked(&self, before: &str, after: &str) -> String {
        self.marked_with(before, after, str::to_owned)
    }

    /// The piece as HTML, escaped, with each match between `<b>` and `</b>`.
    pub fn to_html(&self) -> String {
        let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        self.marked_with("<b>", "</b>", escape)
    }

    fn marked_with(&self, before: &str, after: &str, show: impl Fn(&str) -> String) -> String {
        let mut out = String::new();
        let mut at = 0;
        for range in &self.highlights {
            out += &show(&self.text[at..range.start]);
            out += before;
            out += &show(&self.text[range.clone()]);
            out += after;
            at = range.end;
        }
        out + &show(&self.text[at..])
    }
}

/// The piece of at most `most` bytes (or one word) with the most different matching terms, the first of equals; the
/// beginning of the text if nothing matches.
pub(crate) fn snippet(analyzer: Analyzer, terms: &HashSet<String>, text: &str, most: usize) -> Snippet {
    // Words as ranges of bytes; a matching one with its term.
    let mut words: Vec<(Range<usize>, Option<String>)> = Vec::new();
    analyzer.build().token_stream(text).process(&mut |token| {
        let hit = terms.contains(&token.text).then(|| token.text.clone());
        words.push((token.offset_from..token.offset_to, hit));
    });
    let matches: Vec<usize> = (0..words.len()).filter(|i| words[*i].1.is_some()).collect();
    // The best window starts at a match.
    let mut best = (0, 0, 0..0);
    for (i, first) in matches.iter().enumerate() {
        let from = words[*first].0.start;
        let within = matches[i..].iter().take_while(|m| words[**m].0.end <= from + most).count().max(1);
        let window = &matches[i..i + within];
        let different: HashSet<_> = window.iter().map(|m| &words[*m].1).collect();
        if (different.len(), within) > (best.0, best.1) {
            best = (different.len(), within, *first..window[within - 1] + 1);
        }
    }
    let chosen = best.2;
    if chosen.is_empty() {
        let end = words.iter().map(|(range, _)| range.end).take_while(|end| *end <= most).last().unwrap_or(0);
        let start = words.first().map_or(0, |(range, _)| range.start).min(end);
        return Snippet { text: text[start..end].to_owned(), start, highlights: Vec::new() };
    }
    // What is left of the room goes to words before and after it.
    let (mut from, mut to) = (chosen.start, chosen.end);
    let length = |from: usize, to: usize| words[to - 1].0.end - words[from].0.start;
    loop {
        let before = from > 0 && length(from - 1, to) <= most;
        if before {
            from -= 1;
        }
        let after = to < words.len() && length(from, to + 1) <= most;
        if after {
            to += 1;
        }
        if !before && !after {
            break;
        }
    }
    let range = words[from].0.start..words[to - 1].0.end;
    let mut highlights: Vec<Range<usize>> = Vec::new();
    for (word, _) in words[from..to].iter().filter(|(_, hit)| hit.is_some()) {
        let word = word.start - range.start..(word.end.min(range.end)) - range.start;
        match highlights.last_mut() {
            // Pairs of CJK characters overlap.
            Some(last) if word.start <= last.end => last.end = last.end.max(word.end),
            _ => highlights.push(word),
        }
    }
    Snippet { text: text[range.clone()].to_owned(), start: range.start, highlights }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(analyzer: &str, terms: &[&str], text: &str, most: usize) -> String {
        let terms = terms.iter().map(|t| (*t).to_owned()).collect();
        snippet(analyzer.parse().unwrap(), &terms, text, most).marked("[", "]")
    }

    #[test]
    fn the_piece_with_most_terms_is_shown() {
        let text = "Disks are cheap. Crash-safe storage that keeps records is not: records need care & storage.";
        let piece = show("english", &["crash", "storag"], text, 40);
        assert_eq!(piece, "are cheap. [Crash]-safe [storage] that keeps");
        assert_eq!(show("english", &["nothing"], text, 20), "Disks are cheap");
        assert_eq!(show("english", &["care"], text, 1_000), text[..text.len() - 1].replace("care", "[care]"));
        assert_eq!(show("english", &["x"], "", 20), "");
        assert_eq!(show("cjk", &["東京", "京大"], "私は東京大学に", 60), "私は[東京大]学に");
    }

    #[test]
    fn html_is_escaped() {
        let piece = snippet(Analyzer::default(), &["b".to_owned()].into(), "a < b & c", 60);
        assert_eq!(piece.to_html(), "a &lt; <b>b</b> &amp; c");
    }

    proptest! {
        #[test]
        fn any_text_gives_a_piece_of_it(text in "\\PC{0,60}|[a東京 .é]{0,80}", most in 0usize..40) {
            let terms = ["a", "東京", "é"].map(str::to_owned).into();
            let piece = snippet(Analyzer::PLAIN, &terms, &text, most);
            prop_assert_eq!(&text[piece.start..piece.start + piece.text.len()], &*piece.text);
            piece.marked("[", "]");
        }
    }
}
