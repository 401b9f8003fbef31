//! Reads the SQL-style spelling.

use super::ast::{Budget, Expr, Fault, KEYWORDS, Order, Path, Scalar, Test, Text, continues_name, starts_name};
use super::number::Num;
use super::pattern::{Like, Pattern};
use super::{MAX_DEPTH, MAX_SQL_BYTES};
use crate::error::{Error, Result};

/// Reads a filter from a condition.
pub(crate) fn parse(text: &str) -> Result<Expr> {
    if text.len() > MAX_SQL_BYTES {
        return Err(Error::LimitExceeded(format!(
            "a filter of {} bytes of text was given; the limit is {MAX_SQL_BYTES}",
            text.len()
        )));
    }
    let mut parser = Parser { lexer: Lexer { text, at: 0 }, token: Token::End, start: 0, budget: Budget::default() };
    parser.run().map_err(|place| {
        let character = text[..place.at].chars().count() + 1;
        let what = format!("filter at character {character}: {}\n{}", place.fault.what, excerpt(text, place.at));
        if place.fault.limit { Error::LimitExceeded(what) } else { Error::InvalidInput(what) }
    })
}

/// A fault and the byte of the text where it is.
struct Located {
    at: usize,
    fault: Fault,
}

type Parsed<T> = Result<T, Located>;

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A name that is no keyword; quoted ones say so.
    Name(String, bool),
    /// One of [`KEYWORDS`].
    Word(&'static str),
    Text(String),
    Number(Num),
    Symbol(&'static str),
    End,
}

impl Token {
    /// The token for a message.
    fn show(&self) -> String {
        match self {
            Token::Name(name, _) => format!("the name {}", shorten(name)),
            Token::Word(word) => format!("the word {word}"),
            Token::Text(text) => format!("the text '{}'", shorten(text)),
            Token::Number(number) => format!("the number {number}"),
            Token::Symbol(symbol) => format!("{symbol:?}"),
            Token::End => "the end".to_owned(),
        }
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The line around a byte of the text, and a caret under it.
fn excerpt(text: &str, at: usize) -> String {
    const BEFORE: usize = 44;
    const AFTER: usize = 28;
    let start = text[..at].char_indices().rev().nth(BEFORE - 1).map_or(0, |(i, _)| i);
    let end = text[at..].char_indices().nth(AFTER).map_or(text.len(), |(i, _)| at + i);
    let plain = |part: &str| -> String { part.chars().map(|c| if c.is_control() { ' ' } else { c }).collect() };
    let (before, after) = (plain(&text[start..at]), plain(&text[at..end]));
    let (head, tail) = (if start > 0 { "..." } else { "" }, if end < text.len() { "..." } else { "" });
    let column = head.len() + before.chars().count();
    format!("  {head}{before}{after}{tail}\n  {:column$}^", "")
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

const SYMBOLS: [&str; 14] = ["<=", ">=", "!=", "<>", "==", "=", "<", ">", "(", ")", ",", ".", "&&", "||"];

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn fail<T>(&self, at: usize, what: impl Into<String>) -> Parsed<T> {
        Err(Located { at, fault: Fault::invalid(what) })
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn next(&mut self) -> Parsed<Token> {
        let start = self.at;
        let Some(c) = self.rest().chars().next() else { return Ok(Token::End) };
        if starts_name(c) {
            let name = self.take_name();
            let word = KEYWORDS.iter().find(|word| name.eq_ignore_ascii_case(word));
            return Ok(word.map_or(Token::Name(name, false), |word| Token::Word(word)));
        }
        if c.is_ascii_digit() || c == '-' || c == '+' {
            return self.number();
        }
        match c {
            '\'' => return self.quoted('\'').map(Token::Text),
            '"' | '`' => return self.quoted(c).map(|name| Token::Name(name, true)),
            _ => {}
        }
        for symbol in SYMBOLS {
            if self.rest().starts_with(symbol) {
                self.at += symbol.len();
                return Ok(Token::Symbol(symbol));
            }
        }
        self.unexpected(start)
    }

    fn unexpected<T>(&self, at: usize) -> Parsed<T> {
        let c = self.text[at..].chars().next().unwrap_or_default();
        self.fail(
            at,
            format!("the character {c:?} is not expected here; a text is written 'so', an unusual name \"so\""),
        )
    }

    fn take_name(&mut self) -> String {
        let rest = self.rest();
        let name = rest[..rest.find(|c| !continues_name(c)).unwrap_or(rest.len())].to_owned();
        self.at += name.len();
        name
    }

    /// What stands between two quotation marks; two in a row are one of them.
    fn quoted(&mut self, mark: char) -> Parsed<String> {
        let start = self.at;
        let mut out = String::new();
        self.at += 1;
        while let Some(length) = self.rest().find(mark) {
            out.push_str(&self.rest()[..length]);
            self.at += length + 1;
            if !self.rest().starts_with(mark) {
                return Ok(out);
            }
            out.push(mark);
            self.at += 1;
        }
        self.fail(start, format!("the {mark} opened here is not closed; inside, {mark} is written {mark}{mark}"))
    }

    /// A number of JSON, with `+` allowed.
    fn number(&mut self) -> Parsed<Token> {
        let start = self.at;
        let plus = usize::from(self.rest().starts_with('+'));
        let rest = &self.rest()[plus..];
        if !rest.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit()) {
            return self.unexpected(start);
        }
        let bytes = rest.as_bytes();
        let mut end = 0;
        while end < bytes.len() {
            let sign_may_stand = end == 0 || matches!(bytes[end - 1], b'e' | b'E');
            match bytes[end] {
                b'.' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => end += 1,
                b'-' | b'+' if sign_may_stand => end += 1,
                _ => break,
            }
        }
        self.at += plus + end;
        let number = serde_json::from_str::<serde_json::Number>(&rest[..end]).ok();
        match number.and_then(|number| Num::from_json(&number)) {
            Some(number) => Ok(Token::Number(number)),
            None => {
                let shown = shorten(&rest[..end]);
                self.fail(
                    start,
                    format!("{shown} is not a number; write it as 12, -0.5 or 1e6, within the range of f64"),
                )
            }
        }
    }
}

/// One token ahead; `start` is where that token starts.
struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token,
    start: usize,
    budget: Budget,
}

impl Parser<'_> {
    fn run(&mut self) -> Parsed<Expr> {
        self.advance()?;
        let expr = self.any_of(0)?;
        match self.token {
            Token::End => Ok(expr),
            Token::Symbol(")") => self.fail("this ) closes nothing"),
            _ => self.expected("AND, OR or the end"),
        }
    }

    /// Moves on, and returns the token passed.
    fn advance(&mut self) -> Parsed<Token> {
        self.lexer.skip_space();
        self.start = self.lexer.at;
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn fail<T>(&self, what: impl Into<String>) -> Parsed<T> {
        Err(Located { at: self.start, fault: Fault::invalid(what) })
    }

    fn expected<T>(&self, what: &str) -> Parsed<T> {
        let hint = match &self.token {
            Token::Symbol("&&") => "; write AND",
            Token::Symbol("||") => "; write OR",
            _ => "",
        };
        self.fail(format!("expected {what}, found {}{hint}", self.token.show()))
    }

    fn located<T>(&self, at: usize, result: Result<T, Fault>) -> Parsed<T> {
        result.map_err(|fault| Located { at, fault })
    }

    /// Passes the token if it is this word.
    fn word(&mut self, word: &str) -> Parsed<bool> {
        let found = matches!(self.token, Token::Word(w) if w == word);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn symbol(&mut self, symbol: &'static str) -> Parsed<bool> {
        let found = self.token == Token::Symbol(symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn any_of(&mut self, depth: usize) -> Parsed<Expr> {
        let mut parts = vec![self.all_of(depth)?];
        while self.word("OR")? {
            parts.push(self.all_of(depth)?);
        }
        Ok(Expr::or(parts))
    }

    fn all_of(&mut self, depth: usize) -> Parsed<Expr> {
        let mut parts = vec![self.negation(depth)?];
        while self.word("AND")? {
            parts.push(self.negation(depth)?);
        }
        Ok(Expr::and(parts))
    }

    fn negation(&mut self, depth: usize) -> Parsed<Expr> {
        if self.token != Token::Word("NOT") {
            return self.primary(depth);
        }
        let depth = self.deeper(depth)?;
        self.advance()?;
        // The parentheses of NOT (...) are one level with it.
        let inner = if self.symbol("(")? { self.rest_of_group(depth)? } else { self.negation(depth)? };
        Ok(inner.negate())
    }

    fn primary(&mut self, depth: usize) -> Parsed<Expr> {
        match &self.token {
            Token::Symbol("(") => {
                let depth = self.deeper(depth)?;
                self.advance()?;
                self.rest_of_group(depth)
            }
            Token::Word("TRUE") => self.advance().map(|_| Expr::And(Vec::new())),
            Token::Word("FALSE") => self.advance().map(|_| Expr::Or(Vec::new())),
            Token::Word("EXISTS") => {
                self.advance()?;
                let open = self.symbol("(")?;
                let path = self.path()?;
                if open && !self.symbol(")")? {
                    return self.expected(")");
                }
                self.test(path, Test::Exists)
            }
            Token::Name(..) => {
                let path = self.path()?;
                self.condition(path)
            }
            Token::Word(word) => {
                let what = format!(
                    "expected a field's name, found the word {word}; as a name it is written \"{}\"",
                    word.to_lowercase()
                );
                self.fail(what)
            }
            _ => self.expected("a condition such as year >= 2020"),
        }
    }

    /// One level down, and one node more.
    fn deeper(&mut self, depth: usize) -> Parsed<usize> {
        if depth >= MAX_DEPTH {
            let fault = Fault::limit(format!("the filter is nested deeper than {MAX_DEPTH} levels"));
            return Err(Located { at: self.start, fault });
        }
        let counted = self.budget.node();
        self.located(self.start, counted)?;
        Ok(depth + 1)
    }

    fn rest_of_group(&mut self, depth: usize) -> Parsed<Expr> {
        let expr = self.any_of(depth)?;
        match self.symbol(")")? {
            true => Ok(expr),
            false => self.expected("AND, OR or )"),
        }
    }

    fn path(&mut self) -> Parsed<Path> {
        let start = self.start;
        let mut keys = Vec::new();
        let Token::Name(..) = self.token else { return self.expected("a field's name") };
        if let Token::Name(key, _) = self.advance()? {
            keys.push(key);
        }
        // After a dot any name is meant, keywords and digits first too.
        while self.token == Token::Symbol(".") {
            let at = self.lexer.at;
            if self.lexer.rest().starts_with(continues_name) {
                keys.push(self.lexer.take_name());
            } else if let Some(mark @ ('"' | '`')) = self.lexer.rest().chars().next() {
                keys.push(self.lexer.quoted(mark)?);
            } else {
                let fault = Fault::invalid("expected a name right after the dot");
                return Err(Located { at, fault });
            }
            self.advance()?;
        }
        self.located(start, Path::new(keys))
    }

    fn test(&mut self, path: Path, test: Test) -> Parsed<Expr> {
        let counted = self.budget.node().and_then(|()| self.budget.operand(path.bytes()));
        self.located(self.start, counted)?;
        Ok(Expr::Test(path, test))
    }

    /// What follows a path.
    fn condition(&mut self, path: Path) -> Parsed<Expr> {
        if self.word("IS")? {
            let negated = self.word("NOT")?;
            if !self.word("NULL")? {
                return self.expected("NULL");
            }
            let test = self.test(path, Test::Equal(Scalar::Null))?;
            return Ok(if negated { test.negate() } else { test });
        }
        if let Token::Symbol(symbol) = self.token {
            return self.comparison(path, symbol);
        }
        let negated = self.word("NOT")?;
        let Token::Word(word) = self.token else {
            return self
                .expected("an operator (= != < <= > >= IN BETWEEN LIKE ILIKE CONTAINS STARTSWITH REGEXP EXISTS IS)");
        };
        let start = self.start;
        self.advance()?;
        let test = match word {
            "BETWEEN" => return self.between(path, negated),
            "EXISTS" => Test::Exists,
            "IN" => Test::In(self.list()?),
            "CONTAINS" => {
                let at = self.start;
                match self.scalar("CONTAINS")? {
                    Scalar::Null => {
                        return Err(Located {
                            at,
                            fault: Fault::invalid("expected a text, a number, TRUE or FALSE, found the word NULL"),
                        });
                    }
                    scalar => Test::Contains(scalar),
                }
            }
            "STARTSWITH" => Test::StartsWith(self.text("STARTSWITH")?.0),
            "LIKE" | "ILIKE" => Test::Like(self.like(word)?),
            "REGEXP" => {
                let (source, at) = self.text("REGEXP")?;
                Test::Regex(self.located(at, Pattern::parse(&source).map_err(Fault::invalid))?)
            }
            _ => {
                let fault =
                    Fault::invalid(format!("expected an operator after the field's name, found the word {word}"));
                return Err(Located { at: start, fault });
            }
        };
        let test = self.test(path, test)?;
        Ok(if negated { test.negate() } else { test })
    }

    fn comparison(&mut self, path: Path, symbol: &'static str) -> Parsed<Expr> {
        let order = match symbol {
            "=" | "==" | "!=" | "<>" => None,
            "<" => Some(Order::Less),
            "<=" => Some(Order::LessEqual),
            ">" => Some(Order::Greater),
            ">=" => Some(Order::GreaterEqual),
            _ => return self.expected("an operator such as = or IN"),
        };
        self.advance()?;
        if let Some(order) = order {
            let scalar = self.ordered(symbol)?;
            return self.test(path, Test::Order(order, scalar));
        }
        let scalar = self.scalar(symbol)?;
        let test = self.test(path, Test::Equal(scalar))?;
        Ok(if matches!(symbol, "!=" | "<>") { test.negate() } else { test })
    }

    fn between(&mut self, path: Path, negated: bool) -> Parsed<Expr> {
        let low = self.ordered("BETWEEN")?;
        if !self.word("AND")? {
            return self.expected("AND and the upper bound");
        }
        let high = self.ordered("AND")?;
        let low = self.test(path.clone(), Test::Order(Order::GreaterEqual, low))?;
        let high = self.test(path, Test::Order(Order::LessEqual, high))?;
        let both = Expr::and(vec![low, high]);
        Ok(if negated { both.negate() } else { both })
    }

    fn list(&mut self) -> Parsed<Vec<Scalar>> {
        if !self.symbol("(")? {
            return self.expected("a list such as ('a', 'b') after IN");
        }
        let mut values = Vec::new();
        if self.symbol(")")? {
            return Ok(values);
        }
        loop {
            values.push(self.scalar("IN")?);
            if self.symbol(")")? {
                return Ok(values);
            }
            if !self.symbol(",")? {
                return self.expected("a comma or )");
            }
        }
    }

    fn like(&mut self, word: &str) -> Parsed<Like> {
        let (source, at) = self.text(word)?;
        let mut escape = '\\';
        if self.word("ESCAPE")? {
            let (text, at) = self.text("ESCAPE")?;
            let mut chars = text.chars();
            escape = match (chars.next(), chars.next()) {
                (Some(c), None) => c,
                _ => return Err(Located { at, fault: Fault::invalid("expected one character after ESCAPE") }),
            };
        }
        self.located(at, Like::parse(&source, escape, word == "ILIKE").map_err(Fault::invalid))
    }

    /// A text operand, and where it starts.
    fn text(&mut self, after: &str) -> Parsed<(String, usize)> {
        let at = self.start;
        let Token::Text(_) = self.token else {
            return self.expected(&format!("a text in single quotes after {after}"));
        };
        let Token::Text(text) = self.advance()? else { return self.expected("a text") };
        let counted = self.budget.operand(text.len());
        self.located(at, counted)?;
        Ok((text, at))
    }

    fn ordered(&mut self, after: &str) -> Parsed<Scalar> {
        match self.token {
            Token::Number(_) | Token::Text(_) | Token::Name(..) => self.scalar(after),
            _ => self.expected(&format!("a number or a text in single quotes (dates too) after {after}")),
        }
    }

    fn scalar(&mut self, after: &str) -> Parsed<Scalar> {
        let at = self.start;
        match &self.token {
            Token::Number(_) | Token::Text(_) | Token::Word("TRUE" | "FALSE" | "NULL") => {}
            Token::Name(name, _) => {
                return self.fail(format!(
                    "expected a value after {after}, found the name {0}; a text is written '{0}'",
                    shorten(name)
                ));
            }
            _ => {
                return self.expected(&format!("a number, a text in single quotes, TRUE, FALSE or NULL after {after}"));
            }
        }
        let scalar = match self.advance()? {
            Token::Number(number) => Scalar::Number(number),
            Token::Text(text) => Scalar::Text(Text::new(text)),
            Token::Word("TRUE") => Scalar::Bool(true),
            Token::Word("FALSE") => Scalar::Bool(false),
            _ => Scalar::Null,
        };
        let counted = self.budget.scalar(&scalar);
        self.located(at, counted)?;
        Ok(scalar)
    }
}
