//! Which terms does a text consist of?

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tantivy::tokenizer::{
    LowerCaser, RemoveLongFilter, Stemmer, StopWordFilter, TextAnalyzer, Token, TokenFilter, TokenStream, Tokenizer,
};

/// Longer terms are left out, bytes.
const MAX_TERM_BYTES: usize = 255;

/// How a collection's texts, and queries for them, are turned into terms. Fixed when the collection is created.
///
/// Text is cut into words (runs of letters and digits of any script) and lower-cased; the words are reduced to their
/// stems in `language`. Chinese, Japanese and Korean runs become overlapping pairs of characters in every analyser.
///
/// Written as a name: a language (`english`, the default), `plain` for no stemming (also `cjk`), each with `-stop`
/// appended to leave out the language's stop words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Analyzer {
    /// The language whose stems are used; `None` keeps words as they are.
    pub language: Option<Language>,
    /// Whether the language's stop words are left out, in texts and in queries.
    pub drop_stop_words: bool,
}

impl Default for Analyzer {
    /// English stems, stop words kept.
    fn default() -> Self {
        Analyzer { language: Some(Language::English), drop_stop_words: false }
    }
}

impl Analyzer {
    /// Words as they are, lower-cased.
    pub const PLAIN: Analyzer = Analyzer { language: None, drop_stop_words: false };

    /// Stems of one language, stop words kept.
    pub fn new(language: Language) -> Self {
        Analyzer { language: Some(language), drop_stop_words: false }
    }

    /// Refuses stop words of a language that has no list of them.
    pub(crate) fn validate(&self) -> Result<()> {
        let list = || self.language.and_then(|language| StopWordFilter::new(language.stems()));
        if self.drop_stop_words && list().is_none() {
            return Err(Error::invalid(format!(
                "there is no list of stop words for analyzer {self}; leave out `-stop`"
            )));
        }
        Ok(())
    }

    /// The words of a text, lower-cased, without stemming and with all stop words.
    pub(crate) fn words() -> TextAnalyzer {
        TextAnalyzer::builder(Words::default())
            .filter(RemoveLongFilter::limit(MAX_TERM_BYTES))
            .filter(LowerCaser)
            .build()
    }

    pub(crate) fn build(&self) -> TextAnalyzer {
        self.build_counting(Arc::default())
    }

    /// The same, adding the number of terms to `count`.
    pub(crate) fn build_counting(&self, count: Arc<AtomicU32>) -> TextAnalyzer {
        let words =
            TextAnalyzer::builder(Words::default()).filter(RemoveLongFilter::limit(MAX_TERM_BYTES)).filter(LowerCaser);
        let Some(language) = self.language.map(Language::stems) else { return words.filter(Count(count)).build() };
        match StopWordFilter::new(language).filter(|_| self.drop_stop_words) {
            Some(stop) => words.filter(stop).filter(Stemmer::new(language)).filter(Count(count)).build(),
            None => words.filter(Stemmer::new(language)).filter(Count(count)).build(),
        }
    }
}

impl std::fmt::Display for Analyzer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.language.map_or("plain", Language::name))?;
        f.write_str(if self.drop_stop_words { "-stop" } else { "" })
    }
}

impl From<Analyzer> for String {
    fn from(analyzer: Analyzer) -> String {
        analyzer.to_string()
    }
}

impl TryFrom<String> for Analyzer {
    type Error = Error;
    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl std::str::FromStr for Analyzer {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let lower = s.to_ascii_lowercase();
        let (name, drop_stop_words) = lower.strip_suffix("-stop").map_or((&*lower, false), |name| (name, true));
        let language = match name {
            "plain" | "cjk" => None,
            _ => Some(LANGUAGES.into_iter().find(|l| l.name() == name).ok_or_else(|| {
                let names = LANGUAGES.map(Language::name).join(", ");
                Error::invalid(format!("analyzer {s:?} is not known; use plain, cjk or a language: {names}"))
            })?),
        };
        let analyzer = Analyzer { language, drop_stop_words };
        analyzer.validate()?;
        Ok(analyzer)
    }
}

macro_rules! languages {
    ($($language:ident $name:literal),* $(,)?) => {
        /// The languages whose words can be reduced to stems.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Language { $($language),* }

        const LANGUAGES: [Language; [$($name),*].len()] = [$(Language::$language),*];

        impl Language {
            /// The name users write, such as `english`.
            pub fn name(self) -> &'static str {
                match self { $(Language::$language => $name),* }
            }

            fn stems(self) -> tantivy::tokenizer::Language {
                match self { $(Language::$language => tantivy::tokenizer::Language::$language),* }
            }
        }
    };
}

languages! {
    Arabic "arabic", Danish "danish", Dutch "dutch", English "english", Finnish "finnish", French "french",
    German "german", Greek "greek", Hungarian "hungarian", Italian "italian", Norwegian "norwegian",
    Portuguese "portuguese", Romanian "romanian", Russian "russian", Spanish "spanish", Swedish "swedish",
    Tamil "tamil", Turkish "turkish",
}

/// Whether a character belongs to a script that is written without spaces between words and cut into pairs here.
pub(crate) fn is_cjk(c: char) -> bool {
    matches!(u32::from(c),
        0x1100..=0x11FF | 0x3040..=0x30FF | 0x31F0..=0x31FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xAC00..=0xD7AF
        | 0xF900..=0xFAFF | 0xFF66..=0xFF9F | 0x20000..=0x3FFFF)
}

/// Cuts a text into words, and runs of CJK characters into pairs. The last character of a run is a term by itself, so
/// that every character begins one.
#[derive(Debug, Clone, Default)]
struct Words {
    token: Token,
}

#[derive(Debug)]
struct WordStream<'a> {
    text: &'a str,
    at: usize,
    token: &'a mut Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream<'a>;
    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.token.reset();
        WordStream { text, at: 0, token: &mut self.token }
    }
}

impl WordStream<'_> {
    fn set(&mut self, from: usize, to: usize) -> bool {
        self.token.position = self.token.position.wrapping_add(1);
        (self.token.offset_from, self.token.offset_to) = (from, to);
        self.token.text.clear();
        self.token.text.push_str(&self.text[from..to]);
        true
    }
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let Some((skip, first)) = rest.char_indices().find(|(_, c)| c.is_alphanumeric()) else {
            self.at = self.text.len();
            return false;
        };
        let from = self.at + skip;
        let next = from + first.len_utf8();
        let after = &self.text[next..];
        if is_cjk(first) {
            let second = after.chars().next().filter(|c| c.is_alphanumeric() && is_cjk(*c));
            self.at = next;
            return self.set(from, next + second.map_or(0, char::len_utf8));
        }
        let word = |c: char| if c.is_ascii() { c.is_ascii_alphanumeric() } else { c.is_alphanumeric() && !is_cjk(c) };
        self.at = after.find(|c| !word(c)).map_or(self.text.len(), |len| next + len);
        self.set(from, self.at)
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

/// Counts the terms that pass.
#[derive(Debug, Clone)]
struct Count(Arc<AtomicU32>);

#[derive(Debug, Clone)]
struct Counting<T> {
    inner: T,
    count: Arc<AtomicU32>,
}

struct CountingStream<'a, T> {
    inner: T,
    count: &'a AtomicU32,
}

impl TokenFilter for Count {
    type Tokenizer<T: Tokenizer> = Counting<T>;
    fn transform<T: Tokenizer>(self, inner: T) -> Counting<T> {
        Counting { inner, count: self.0 }
    }
}

impl<T: Tokenizer> Tokenizer for Counting<T> {
    type TokenStream<'a> = CountingStream<'a, T::TokenStream<'a>>;
    fn token_stream<'a>(&'a mut self, text: &'a str) -> Self::TokenStream<'a> {
        CountingStream { inner: self.inner.token_stream(text), count: &self.count }
    }
}

impl<T: TokenStream> TokenStream for CountingStream<'_, T> {
    fn advance(&mut self) -> bool {
        let more = self.inner.advance();
        if more {
            // One thread writes it: a load and a store are enough, and cheaper than an atomic addition.
            self.count.store(self.count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        more
    }

    fn token(&self) -> &Token {
        self.inner.token()
    }

    fn token_mut(&mut self) -> &mut Token {
        self.inner.token_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(analyzer: &str, text: &str) -> Vec<(usize, String)> {
        let mut out = Vec::new();
        let mut analyzer = analyzer.parse::<Analyzer>().unwrap().build();
        analyzer.token_stream(text).process(&mut |t| out.push((t.position, t.text.clone())));
        out
    }

    fn words(analyzer: &str, text: &str) -> String {
        terms(analyzer, text).into_iter().map(|(_, t)| t).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_are_cut_lower_cased_and_stemmed() {
        assert_eq!(words("english", "The crash-safe Databases, running 3.5x"), "the crash safe databas run 3 5x");
        assert_eq!(words("plain", "The crash-safe Databases"), "the crash safe databases");
        assert_eq!(words("english-stop", "The Storage of the records"), "storag record");
        assert_eq!(terms("english-stop", "of the records"), [(2, "record".to_owned())]);
        assert_eq!(words("german", "Die Häuser und ÄRGER"), "die haus und arg");
        assert_eq!(words("russian", "КОШКИ"), "кошк");
    }

    #[test]
    fn cjk_runs_become_pairs() {
        assert_eq!(words("cjk", "東京大学 is 東"), "東京 京大 大学 学 is 東");
        assert_eq!(words("english", "iPhoneを買う"), "iphon を買 買う う");
        assert_eq!(words("cjk", "한국어"), "한국 국어 어");
    }

    #[test]
    fn odd_text_does_no_harm() {
        assert_eq!(words("english", ""), "");
        assert_eq!(words("english", " \u{0}\u{feff}…!?\n"), "");
        assert_eq!(words("plain", &"x".repeat(300)), "");
        assert_eq!(words("plain", "e\u{301}te\u{301}"), "e te");
    }

    #[test]
    fn names_round_trip_and_unknown_ones_are_refused() {
        for name in ["english", "plain", "german-stop", "turkish"] {
            assert_eq!(name.parse::<Analyzer>().unwrap().to_string(), name);
        }
        assert_eq!("CJK".parse::<Analyzer>().unwrap(), Analyzer::PLAIN);
        for bad in ["klingon", "", "plain-stop", "turkish-stop"] {
            assert!(matches!(bad.parse::<Analyzer>(), Err(Error::InvalidInput(_))), "{bad}");
        }
    }
}
