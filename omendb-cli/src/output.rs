//! What a command prints: a table or lines for people, one JSON document for programs.

use crate::failure::{Failure, Result};
use crate::formats::fields::{FIELDS_NAME, record_fields};
use comfy_table::{Cell, ContentArrangement, Table, presets::UTF8_BORDERS_ONLY};
use omendb::{Element, Id, Record, Vector};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::time::Duration;

/// The result of a command in both shapes.
#[derive(Debug)]
pub struct Output {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: Value,
}

impl Output {
    /// Both shapes at once.
    pub fn new(text: impl Into<String>, json: Value) -> Self {
        Output { text: text.into(), json }
    }

    /// Prints the shape that was asked for on standard output.
    pub fn print(&self, as_json: bool) -> Result<()> {
        if as_json {
            return line(&self.json.to_string());
        }
        if self.text.is_empty() { Ok(()) } else { line(&self.text) }
    }
}

/// Writes one line to standard output; a reader that went away is no error.
pub fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|e| stdout_failure(&e))
}

/// A failure of standard output.
pub fn stdout_failure(error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => crate::failure::io("write", std::path::Path::new("standard output"), error),
    }
}

/// An empty table that fits the terminal.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    let width = console::Term::stdout().size_checked().map_or(120, |(_, columns)| columns.max(40));
    table.set_width(width);
    table.set_header(header.iter().map(Cell::new));
    table
}

/// A two-column table of names and values.
pub fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
    lines.join("\n")
}

/// `1234567` as `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Bytes in binary units.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Items a second.
pub fn rate(items: u64, time: Duration) -> u64 {
    (items as f64 / time.as_secs_f64().max(1e-6)) as u64
}

/// At most `width` characters on one line.
pub fn shorten(text: &str, width: usize) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(width + 1).collect();
    if flat.chars().count() <= width {
        return flat;
    }
    flat.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// An id as JSON: a number or a string.
pub fn id_json(id: &Id) -> Value {
    match id {
        Id::U64(n) => json!(n),
        Id::Str(s) => json!(s),
    }
}

/// A vector as JSON; bits as their packed bytes. Numbers are the shortest that read back exactly.
pub fn vector_json(vector: &Vector) -> Value {
    match vector {
        Vector::F32(v) => v.iter().map(|x| shortest(*x)).collect(),
        Vector::F16(v) => v.iter().map(|x| shortest(x.to_f32())).collect(),
        Vector::I8(v) => v.iter().map(|x| json!(x)).collect(),
        Vector::U8(v) | Vector::Bits(v) => v.iter().map(|x| json!(x)).collect(),
    }
}

/// The double nearest to the shortest decimal of a float, so that 0.1f32 prints as 0.1.
pub fn shortest(x: f32) -> Value {
    json!(x.to_string().parse::<f64>().unwrap_or(f64::from(x)))
}

/// The element type of a stored vector.
pub fn element_of(vector: &Vector) -> Element {
    match vector {
        Vector::F32(_) => Element::F32,
        Vector::F16(_) => Element::F16,
        Vector::I8(_) => Element::I8,
        Vector::U8(_) => Element::U8,
        Vector::Bits(_) => Element::Bits,
    }
}

/// A record as JSON: `id`, `vector`, `metadata`, `text` and `fields`, the last three only where present.
pub fn record_json(record: &Record) -> Value {
    let mut map = Map::new();
    map.insert("id".into(), id_json(&record.id));
    map.insert("vector".into(), vector_json(&record.vector));
    if let Some(metadata) = &record.metadata {
        map.insert("metadata".into(), metadata.clone());
    }
    if let Some(text) = &record.text {
        map.insert("text".into(), json!(text));
    }
    if let Some(fields) = record_fields(record) {
        map.insert(FIELDS_NAME.into(), fields);
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(shorten("abcdef", 4), "abc…");
        assert_eq!(shorten("a\nb", 4), "a b");
    }

    #[test]
    fn floats_print_short_and_read_back_exactly() {
        for x in [0.1f32, f32::MIN_POSITIVE, f32::MAX, -1.000_000_1, 1e-45, 16_777_217.0] {
            let text = shortest(x).to_string();
            assert_eq!(text.parse::<f32>().ok(), Some(x), "{text}");
        }
        assert_eq!(shortest(0.1).to_string(), "0.1");
    }
}
