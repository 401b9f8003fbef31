//! What does a text query ask for? Every string means something; none is an error.
//!
//! ```text
//! crash safety          either word; both score higher       "crash safety"    the words in this order
//! +crash -test          must, must not                       "crash safe"~2    with up to two moves of words
//! crash AND NOT test    the same in words, also && || !      saf*              words that begin so
//! (a OR b) AND c        groups; AND binds closer than OR     safty~  safty~1   words one or two edits away
//! ```

/// Words of a query after this many are left out.
const MAX_WORDS: usize = 1_024;
/// Groups within more groups than this are read as if the parentheses were not there.
const MAX_DEPTH: usize = 32;

/// How a clause takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occur {
    Should,
    Must,
    MustNot,
}

/// A query as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Word(String),
    Phrase(String, u32),
    Prefix(String),
    /// How many edits; `None` chooses by the word's length.
    Fuzzy(String, Option<u8>),
    Group(Vec<(Occur, Expr)>),
}

#[derive(Debug, Clone, PartialEq)]
enum Lexeme {
    Open,
    Close,
    And,
    Or,
    Not,
    Plus,
    Minus,
    Atom(Expr),
}

/// Parses a query.
pub(crate) fn parse(query: &str) -> Expr {
    let lexemes = lex(query);
    let mut parser = Parser { lexemes: &lexemes, at: 0 };
    let mut clauses = Vec::new();
    // What follows a parenthesis that nothing opened belongs to the query, too.
    while parser.at < lexemes.len() {
        match parser.group() {
            Expr::Group(more) => clauses.extend(more),
            other => clauses.push((Occur::Should, other)),
        }
        parser.at += 1;
    }
    Expr::Group(clauses)
}

fn lex(query: &str) -> Vec<Lexeme> {
    let mut out = Vec::new();
    let (mut words, mut depth) = (0, 0usize);
    let mut rest = query;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let starts_clause = after.chars().next().is_some_and(|next| !next.is_whitespace());
        rest = match c {
            '(' | ')' => {
                let opens = c == '(';
                let deep = if opens { depth >= MAX_DEPTH } else { depth > MAX_DEPTH };
                if !deep {
                    out.push(if opens { Lexeme::Open } else { Lexeme::Close });
                }
                depth = if opens { depth + 1 } else { depth.saturating_sub(1) };
                after
            }
            '"' => {
                let (phrase, after) = after.split_once('"').unwrap_or((after, ""));
                words += 1 + phrase.split_whitespace().count();
                let digits = after.strip_prefix('~').map_or(0, |n| n.bytes().take_while(u8::is_ascii_digit).count());
                let slop = after.get(1..1 + digits).and_then(|n| n.parse().ok()).unwrap_or(0u32);
                out.push(Lexeme::Atom(Expr::Phrase(phrase.to_owned(), slop.min(100))));
                if digits > 0 { &after[1 + digits..] } else { after }
            }
            '+' if starts_clause => {
                out.push(Lexeme::Plus);
                after
            }
            '-' if starts_clause => {
                out.push(Lexeme::Minus);
                after
            }
            '!' if starts_clause && !after.starts_with('!') => {
                out.push(Lexeme::Not);
                after
            }
            c if c.is_whitespace() => after,
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"')).unwrap_or(rest.len());
                words += 1;
                out.push(word(&rest[..end]));
                &rest[end..]
            }
        };
        if words > MAX_WORDS {
            out.pop();
            break;
        }
    }
    out
}

fn word(word: &str) -> Lexeme {
    match word {
        "AND" | "&&" => return Lexeme::And,
        "OR" | "||" => return Lexeme::Or,
        "NOT" => return Lexeme::Not,
        _ => {}
    }
    if let Some(stem) = word.strip_suffix('*') {
        return Lexeme::Atom(Expr::Prefix(stem.trim_end_matches('*').to_owned()));
    }
    if let Some((stem, edits)) = word.rsplit_once('~')
        && edits.chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        let edits = edits.parse::<u32>().ok().map(|n| n.min(2) as u8);
        return Lexeme::Atom(Expr::Fuzzy(stem.to_owned(), edits));
    }
    Lexeme::Atom(Expr::Word(word.to_owned()))
}

struct Parser<'a> {
    lexemes: &'a [Lexeme],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Lexeme> {
        self.lexemes.get(self.at)
    }

    fn skip(&mut self, lexeme: &Lexeme) -> bool {
        let found = self.peek() == Some(lexeme);
        self.at += usize::from(found);
        found
    }

    /// Clauses up to a closing parenthesis, which is left, or the end.
    fn group(&mut self) -> Expr {
        let mut clauses = Vec::new();
        while self.peek().is_some_and(|l| *l != Lexeme::Close) {
            if self.skip(&Lexeme::Or) || self.skip(&Lexeme::And) {
                continue;
            }
            // What is there twice asks for nothing more.
            clauses.extend(self.conjunction().filter(|clause| !clauses.contains(clause)));
        }
        Expr::Group(clauses)
    }

    /// `a AND b AND NOT c`, or one clause.
    fn conjunction(&mut self) -> Option<(Occur, Expr)> {
        let first = self.clause();
        if self.peek() != Some(&Lexeme::And) {
            return first;
        }
        let required = |(occur, expr)| (if occur == Occur::MustNot { occur } else { Occur::Must }, expr);
        let mut all: Vec<_> = first.into_iter().map(required).collect();
        while self.skip(&Lexeme::And) {
            all.extend(self.clause().map(required));
        }
        Some((Occur::Should, Expr::Group(all)))
    }

    fn clause(&mut self) -> Option<(Occur, Expr)> {
        let mut occur = Occur::Should;
        loop {
            let lexeme = self.peek()?.clone();
            match lexeme {
                Lexeme::Plus => occur = Occur::Must,
                Lexeme::Minus | Lexeme::Not => occur = Occur::MustNot,
                Lexeme::Atom(expr) => {
                    self.at += 1;
                    return Some((occur, expr));
                }
                Lexeme::Open => {
                    self.at += 1;
                    let group = self.group();
                    self.skip(&Lexeme::Close);
                    return Some((occur, group));
                }
                // A sign or an operator that nothing follows means nothing.
                Lexeme::Close | Lexeme::And | Lexeme::Or => return None,
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(expr: &Expr) -> String {
        match expr {
            Expr::Word(w) => w.clone(),
            Expr::Phrase(p, 0) => format!("\"{p}\""),
            Expr::Phrase(p, slop) => format!("\"{p}\"~{slop}"),
            Expr::Prefix(p) => format!("{p}*"),
            Expr::Fuzzy(w, edits) => format!("{w}~{}", edits.map_or(String::new(), |n| n.to_string())),
            Expr::Group(clauses) => {
                let sign = |o: &Occur| match o {
                    Occur::Should => "",
                    Occur::Must => "+",
                    Occur::MustNot => "-",
                };
                let all: Vec<_> = clauses.iter().map(|(o, e)| format!("{}{}", sign(o), show(e))).collect();
                format!("({})", all.join(" "))
            }
        }
    }

    #[test]
    fn what_queries_mean() {
        for (query, means) in [
            ("crash safety", "(crash safety)"),
            ("+crash -test plain", "(+crash -test plain)"),
            ("a AND b", "((+a +b))"),
            ("a OR b AND NOT c", "(a (+b -c))"),
            ("a b AND c", "(a (+b +c))"),
            ("(a OR b) AND c", "((+(a b) +c))"),
            ("a && !b || c", "((+a -b) c)"),
            ("NOT a", "(-a)"),
            ("\"crash safe\" x", "(\"crash safe\" x)"),
            ("\"crash safe\"~3", "(\"crash safe\"~3)"),
            ("-\"crash safe\"", "(-\"crash safe\")"),
            ("saf* x~ y~1 z~9 w~0.8", "(saf* x~ y~1 z~2 w~)"),
            ("crash-safe e-mail", "(crash-safe e-mail)"),
            ("and or not", "(and or not)"),
            ("title:word ^2", "(title:word ^2)"),
        ] {
            assert_eq!(show(&parse(query)), means, "{query}");
        }
    }

    #[test]
    fn odd_queries_mean_something() {
        for (query, means) in [
            ("", "()"),
            ("   ", "()"),
            ("AND", "()"),
            ("OR OR a", "(a)"),
            ("a a +a a", "(a +a)"),
            ("a AND", "((+a))"),
            ("AND a", "(a)"),
            ("+ - a", "(+ - a)"),
            ("+-a", "(-a)"),
            ("\"never closed", "(\"never closed\")"),
            ("\"\"", "(\"\")"),
            ("a) b", "(a b)"),
            ("((a", "(((a)))"),
            ("()", "(())"),
            ("*", "(*)"),
            ("~", "(~)"),
            ("a NOT", "(a)"),
        ] {
            assert_eq!(show(&parse(query)), means, "{query}");
        }
        let deep = format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(show(&parse(&deep)).contains('a'));
        let long: String = (0..100_000).map(|n| format!("word{n} ")).collect();
        assert_eq!(show(&parse(&long)).matches("word").count(), MAX_WORDS);
    }

    proptest! {
        #[test]
        fn no_query_fails(query in "[a-c \"()+*~!&|0-9.\\-]{0,40}|\\PC{0,40}|(AND|OR|NOT|\\(|\\)| |a|\"){0,30}") {
            parse(&query);
        }
    }
}
