//! `LIKE` patterns and regular expressions, with bounded cost.

use super::MAX_PATTERN_CHARS;
use regex::{Regex, RegexBuilder};
use std::fmt;

/// Most bytes of a compiled pattern, and of the cache its matcher may grow.
const COMPILED_BYTES: usize = 1 << 20;
/// Deepest nesting of groups.
const NESTING: u32 = 32;

/// Compiles what takes time linear in the length of a text, or says why not.
fn compile(builder: &mut RegexBuilder) -> Result<Regex, String> {
    builder.size_limit(COMPILED_BYTES).dfa_size_limit(COMPILED_BYTES).nest_limit(NESTING).build().map_err(|e| match e {
        regex::Error::CompiledTooBig(limit) => {
            format!("the pattern takes more than {limit} bytes of memory: use smaller repetitions or fewer classes")
        }
        other => other.to_string(),
    })
}

fn check_length(source: &str) -> Result<(), String> {
    match source.chars().count() {
        n if n > MAX_PATTERN_CHARS => {
            Err(format!("a pattern of {n} characters was given; the limit is {MAX_PATTERN_CHARS}"))
        }
        _ => Ok(()),
    }
}

/// A regular expression, found anywhere in a text.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    pub fn parse(source: &str) -> Result<Pattern, String> {
        check_length(source)?;
        Ok(Pattern { source: source.to_owned(), regex: compile(&mut RegexBuilder::new(source))? })
    }

    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    pub fn source(&self) -> &str {
        &self.source
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Literal(String),
    /// `%`
    Any,
    /// `_`
    One,
}

/// How to decide a text; the common forms need no regular expression.
#[derive(Debug, Clone)]
enum Matcher {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Part(String),
    Regex(Regex),
}

/// A `LIKE` pattern over a whole text.
#[derive(Debug, Clone)]
pub(crate) struct Like {
    tokens: Vec<Token>,
    ignore_case: bool,
    matcher: Matcher,
}

impl Like {
    /// Reads a pattern in which `escape` takes the next character literally.
    pub fn parse(source: &str, escape: char, ignore_case: bool) -> Result<Like, String> {
        check_length(source)?;
        let mut tokens = Vec::new();
        let mut literal = String::new();
        let mut chars = source.chars();
        while let Some(c) = chars.next() {
            if c == escape {
                let Some(next) = chars.next() else {
                    return Err(format!(
                        "the pattern ends with its escape character {escape}: write {escape}{escape} for itself"
                    ));
                };
                literal.push(next);
            } else if c == '%' || c == '_' {
                if !literal.is_empty() {
                    tokens.push(Token::Literal(std::mem::take(&mut literal)));
                }
                match c {
                    '_' => tokens.push(Token::One),
                    _ if tokens.last() != Some(&Token::Any) => tokens.push(Token::Any),
                    _ => {}
                }
            } else {
                literal.push(c);
            }
        }
        if !literal.is_empty() {
            tokens.push(Token::Literal(literal));
        }
        let matcher = matcher(&tokens, ignore_case)?;
        Ok(Like { tokens, ignore_case, matcher })
    }

    pub fn matches(&self, text: &str) -> bool {
        match &self.matcher {
            Matcher::Exact(s) => text == s,
            Matcher::Prefix(s) => text.starts_with(s.as_str()),
            Matcher::Suffix(s) => text.ends_with(s.as_str()),
            Matcher::Part(s) => text.contains(s.as_str()),
            Matcher::Regex(regex) => regex.is_match(text),
        }
    }

    /// What every matching text starts with.
    pub fn prefix(&self) -> &str {
        match (self.ignore_case, self.tokens.first()) {
            (false, Some(Token::Literal(s))) => s,
            _ => "",
        }
    }

    /// Whether every text with that prefix matches.
    pub fn is_prefix(&self) -> bool {
        matches!(self.matcher, Matcher::Prefix(_))
    }

    /// The text whose presence is all that matters, if that is so.
    pub fn part(&self) -> Option<&str> {
        match &self.matcher {
            Matcher::Part(part) => Some(part),
            _ => None,
        }
    }

    pub fn ignores_case(&self) -> bool {
        self.ignore_case
    }
}

fn matcher(tokens: &[Token], ignore_case: bool) -> Result<Matcher, String> {
    use Token::{Any, Literal};
    if !ignore_case {
        match tokens {
            [] => return Ok(Matcher::Exact(String::new())),
            [Literal(s)] => return Ok(Matcher::Exact(s.clone())),
            [Any] => return Ok(Matcher::Prefix(String::new())),
            [Literal(s), Any] => return Ok(Matcher::Prefix(s.clone())),
            [Any, Literal(s)] => return Ok(Matcher::Suffix(s.clone())),
            [Any, Literal(s), Any] => return Ok(Matcher::Part(s.clone())),
            _ => {}
        }
    }
    let mut source = String::from(r"\A");
    for token in tokens {
        match token {
            Literal(s) => source.push_str(&regex::escape(s)),
            Any => source.push_str(".*"),
            Token::One => source.push('.'),
        }
    }
    source.push_str(r"\z");
    let mut builder = RegexBuilder::new(&source);
    compile(builder.case_insensitive(ignore_case).dot_matches_new_line(true)).map(Matcher::Regex)
}

impl PartialEq for Like {
    fn eq(&self, other: &Self) -> bool {
        self.tokens == other.tokens && self.ignore_case == other.ignore_case
    }
}

/// The pattern with `\` as its escape character.
impl fmt::Display for Like {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for token in &self.tokens {
            match token {
                Token::Any => f.write_char('%')?,
                Token::One => f.write_char('_')?,
                Token::Literal(s) => {
                    for c in s.chars() {
                        if matches!(c, '%' | '_' | '\\') {
                            f.write_char('\\')?;
                        }
                        f.write_char(c)?;
                    }
                }
            }
        }
        Ok(())
    }
}
