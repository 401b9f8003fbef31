//! The targets for filters: what a user types, and the columns they are answered from.

use crate::filter::{Columns, ColumnsBuilder, Filter};
use crate::storage::Bytes;
use serde_json::Value;

/// Lines: a filter (JSON if it starts with a brace, else SQL), then metadata, one JSON object a line.
pub fn filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let condition = lines.next().unwrap_or_default();
    let filter = if condition.starts_with('{') {
        let Ok(value) = serde_json::from_str::<Value>(condition) else { return };
        Filter::from_json(&value)
    } else {
        Filter::from_sql(condition)
    };
    let Ok(filter) = filter else { return };
    let shown = filter.to_string();
    match Filter::from_sql(&shown) {
        Ok(again) => assert!(again == filter, "{shown} reads back as another filter"),
        // Parentheses and names that are spelt out may go past a limit.
        Err(crate::Error::LimitExceeded(_)) => {}
        Err(e) => panic!("{shown} does not read back: {e}"),
    }
    let rows: Vec<Option<Value>> = lines.take(64).map(|line| serde_json::from_str(line).ok()).collect();
    let mut builder = ColumnsBuilder::new();
    if !rows.iter().all(|row| builder.push(row.as_ref()).is_ok()) {
        return;
    }
    let columns = Columns::parse(Bytes::new(builder.finish()), rows.len() as u32, "fuzz", 0);
    let passed = columns.and_then(|columns| columns.eval(&filter));
    let Ok(passed) = passed else { panic!("columns that were just written cannot be read: {passed:?}") };
    for (row, metadata) in rows.iter().enumerate() {
        let expected = filter.matches(metadata.as_ref());
        assert_eq!(passed.contains(row as u32), expected, "{shown} on {metadata:?}");
    }
}

/// A section of columns: `[rows][filter number][section]`, evaluated by a few filters.
pub fn columns(data: &[u8]) {
    let Some(([rows, which], section)) = data.split_first_chunk::<2>() else { return };
    let rows = u32::from(*rows);
    let Ok(columns) = Columns::parse(Bytes::new(section.to_vec()), rows, "fuzz", 0) else { return };
    const FILTERS: &[&str] = &[
        "lang = 'en'",
        "year >= 2020 AND year < 2024.5",
        "tags CONTAINS 'x' OR NOT (lang LIKE 'e%')",
        "author.name STARTSWITH 'A' OR author EXISTS",
        "lang IS NULL OR ok = true",
        "day BETWEEN '2020-01-01' AND '2021-01-01'",
        "lang REGEXP '^e' OR lang ILIKE '_N' OR lang IN ('de', 'fr')",
        "lang != 'en' AND year != 7 AND NOT ok = false",
    ];
    for text in FILTERS.iter().cycle().skip(usize::from(*which)).take(3) {
        let Ok(filter) = Filter::from_sql(text) else { panic!("{text} is a filter") };
        if let Ok(passed) = columns.eval(&filter) {
            assert!(passed.max().is_none_or(|max| max < rows), "only rows that are there pass");
        }
    }
}
