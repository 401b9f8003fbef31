//! A malformed filter is refused with its place; nothing makes a parser panic.

use super::Rng;
use omendb::filter::{MAX_DEPTH, MAX_NODES, MAX_OPERAND_BYTES, MAX_PATH_KEYS, MAX_PATTERN_CHARS, MAX_SQL_BYTES};
use omendb::{Error, Filter};
use serde_json::{Value, json};

#[test]
fn sql_errors_name_the_character() {
    for (sql, character, words) in [
        ("", 1, "expected a condition such as year >= 2020, found the end"),
        ("   ", 4, "found the end"),
        ("year", 5, "expected an operator"),
        ("year >=", 8, "expected a number or a text in single quotes (dates too) after >=, found the end"),
        ("year >= AND x = 1", 9, "found the word AND"),
        ("year >= true", 9, "expected a number or a text"),
        ("year > NULL", 8, "expected a number or a text"),
        ("lang = \"en\"", 8, "a text is written 'en'"),
        ("lang = en", 8, "found the name en; a text is written 'en'"),
        ("lang = 'en", 8, "the ' opened here is not closed"),
        ("\"lang = 1", 1, "the \" opened here is not closed"),
        ("lang 'en'", 6, "expected an operator"),
        ("lang = 'en' year = 1", 13, "expected AND, OR or the end, found the name year"),
        ("(lang = 'en'", 13, "expected AND, OR or ), found the end"),
        ("lang = 'en')", 12, "this ) closes nothing"),
        ("lang = 'en' && x = 1", 13, "write AND"),
        ("lang = 'en' || x = 1", 13, "write OR"),
        ("lang = 'en' AND", 16, "expected a condition"),
        ("AND x = 1", 1, "expected a field's name, found the word AND; as a name it is written \"and\""),
        ("x = 1 OR OR y = 2", 10, "found the word OR"),
        ("x IN 1", 6, "expected a list such as ('a', 'b') after IN"),
        ("x IN (1 2)", 9, "expected a comma or )"),
        ("x IN (1,)", 9, "expected a number, a text in single quotes, TRUE, FALSE or NULL after IN"),
        ("x IN (1", 8, "expected a comma or )"),
        ("x BETWEEN 1 OR 2", 13, "expected AND and the upper bound"),
        ("x BETWEEN 1 AND", 16, "after AND, found the end"),
        ("x LIKE 5", 8, "expected a text in single quotes after LIKE, found the number 5"),
        ("x LIKE 'a\\'", 8, "the pattern ends with its escape character"),
        ("x LIKE 'a' ESCAPE 'ab'", 19, "expected one character after ESCAPE"),
        ("x REGEXP '('", 10, "unclosed group"),
        ("x REGEXP '\\w{500}{500}'", 10, "takes more than"),
        ("x CONTAINS NULL", 12, "expected a text, a number, TRUE or FALSE, found the word NULL"),
        ("x STARTSWITH TRUE", 14, "expected a text"),
        ("x IS 5", 6, "expected NULL"),
        ("x IS NOT 5", 10, "expected NULL"),
        ("x NOT = 5", 7, "expected an operator"),
        ("x NOT AND", 7, "expected an operator after the field's name, found the word AND"),
        ("x = 1.2.3", 5, "1.2.3 is not a number"),
        ("x = 12abc", 5, "12abc is not a number"),
        ("x = 1e999", 5, "1e999 is not a number"),
        ("x = 007", 5, "007 is not a number"),
        ("x = -", 5, "the character '-' is not expected here"),
        ("my-field = 1", 3, "an unusual name \"so\""),
        ("x = #", 5, "the character '#' is not expected here"),
        ("x. = 1", 3, "expected a name right after the dot"),
        ("x..y = 1", 3, "expected a name right after the dot"),
        ("x.\"\" = 1", 1, "a field's name is empty"),
        ("EXISTS (x", 10, "expected )"),
        ("EXISTS 5", 8, "expected a field's name"),
        ("NOT", 4, "expected a condition"),
        ("日本 = 'x' AND größe ! 5", 20, "the character '!' is not expected here"),
    ] {
        let error = Filter::from_sql(sql).expect_err(sql);
        assert_eq!(error.name(), "InvalidInput", "{sql}");
        let text = error.to_string();
        assert!(text.contains(&format!("filter at character {character}: ")), "{sql}\n{text}");
        assert!(text.contains(words), "{sql}\n{text}");
    }
}

#[test]
fn sql_errors_point_with_a_caret() {
    let error = Filter::from_sql("größe >= 5 AND\nlang = en").unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines[1], "  größe >= 5 AND lang = en");
    assert_eq!(lines[2], "                        ^");
    let long = format!("{} AND lang = en AND {}", "a = 1 AND b = 2 OR ".repeat(20) + "c = 3", "d = 4 AND ".repeat(20));
    let error = Filter::from_sql(&long).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    let column = lines[2].chars().count() - 1;
    assert!(lines[1].starts_with("  ...") && lines[1].ends_with("...") && lines[1].len() < 90, "{error}");
    assert!(lines[1][column..].starts_with("en AND"), "{error}");
}

#[test]
fn json_errors_name_the_place() {
    for (json, place, words) in [
        (json!([]), "the top", "expected an object such as {\"lang\": \"en\"}, found []"),
        (json!(null), "the top", "found null"),
        (json!({"$foo": 1}), "$foo", "the operator $foo is not known here: known are $and $or $not"),
        (json!({"$nor": []}), "$nor", "write {\"$not\": {\"$or\": [...]}}"),
        (json!({"$and": []}), "$and", "expected a list of one or more filters, found []"),
        (json!({"$or": {"a": 1}}), "$or", "expected a list of one or more filters, found {\"a\":1}"),
        (json!({"$and": [{"a": 1}, 5]}), "$and[1]", "expected an object"),
        (
            json!({"$and": [{"a": 1}, {"year": {"$gte": true}}]}),
            "$and[1].year.$gte",
            "expected a number or a string (a date is an ISO-8601 string), found true",
        ),
        (json!({"year": {"$gte": null}}), "year.$gte", "found null"),
        (json!({"year": {"$gte": [1]}}), "year.$gte", "found [1]"),
        (json!({"year": {}}), "year", "expected an operator in {}"),
        (json!({"year": [1, 2]}), "year", "use $in for any of several values"),
        (json!({"author": {"name": "x"}}), "author.name", "a nested field is written \"author.name\""),
        (json!({"year": {"$between": [1, 2]}}), "year.$between", "the operator $between is not known here"),
        (json!({"year": {"$or": [1]}}), "year.$or", "it stands outside of a field"),
        (json!({"year": {"$in": 5}}), "year.$in", "expected a list of values, found 5"),
        (
            json!({"year": {"$in": [1, {"a": 2}]}}),
            "year.$in[1]",
            "expected a string, a number, a boolean or null, found {\"a\":2}",
        ),
        (json!({"year": {"$exists": 1}}), "year.$exists", "expected true or false, found 1"),
        (
            json!({"year": {"$contains": null}}),
            "year.$contains",
            "expected a string, a number or a boolean, found null",
        ),
        (json!({"year": {"$startswith": 1}}), "year.$startswith", "expected a string, found 1"),
        (json!({"year": {"$like": "x\\"}}), "year.$like", "the pattern ends with its escape character"),
        (json!({"year": {"$regex": "["}}), "year.$regex", "unclosed character class"),
        (json!({"year": {"$regex": 5}}), "year.$regex", "expected a string"),
        (json!({"year": {"$not": 5}}), "year.$not", "for a value use $ne"),
        (json!({"year": {"$not": {"$gt": []}}}), "year.$not.$gt", "expected a number or a string"),
        (json!({"$not": {"$or": [{"a": {"$eq": []}}]}}), "$not.$or[0].a.$eq", "expected a string, a number"),
        (json!({"": 1}), "\"\"", "a field's name is empty"),
        (json!({"a..b": 1}), "a..b", "a field's name is empty"),
        (json!({"a\\b": 1}), "\"a\\\\b\"", "in a field's name a backslash takes"),
        (json!({"odd key": {"$in": 1}}), "\"odd key\".$in", "expected a list"),
    ] {
        let error = Filter::from_json(&json).expect_err("refused");
        assert_eq!(error.name(), "InvalidInput", "{json}");
        let text = error.to_string();
        assert!(text.contains(&format!("filter at {place}: ")), "{json}\n{text}");
        assert!(text.contains(words), "{json}\n{text}");
    }
}

fn refused(result: Result<Filter, Error>) -> String {
    let error = result.expect_err("past a limit");
    assert_eq!(error.name(), "LimitExceeded", "{error}");
    error.to_string()
}

#[test]
fn depth_is_bounded() {
    let nest = |levels: usize| {
        (0..levels).fold(json!({"a": 1}), |inner, i| match i % 2 {
            0 => json!({"$not": {"b": 2, "$and": [inner]}}),
            _ => json!({"$or": [inner, {"c": 3}]}),
        })
    };
    // Two of three levels of a pair are groups: $not, $and, $or.
    let deepest = (0..).take_while(|levels| Filter::from_json(&nest(*levels)).is_ok()).last().unwrap();
    assert_eq!(deepest, MAX_DEPTH * 2 / 3);
    assert!(refused(Filter::from_json(&nest(deepest + 1))).contains("nested deeper than 32 levels"));
    let filter = Filter::from_json(&nest(deepest)).unwrap();
    assert_eq!(Filter::from_sql(&filter.to_string()).unwrap(), filter);

    for (open, close) in [("(", ")"), ("NOT ", ""), ("NOT (", ")")] {
        let sql = |levels: usize| format!("{}a = 1{}", open.repeat(levels), close.repeat(levels));
        assert!(Filter::from_sql(&sql(MAX_DEPTH)).is_ok(), "{open}");
        assert!(refused(Filter::from_sql(&sql(MAX_DEPTH + 1))).contains("filter at character"), "{open}");
        refused(Filter::from_sql(&sql(100_000)));
    }
}

#[test]
fn size_is_bounded() {
    let many = |n: usize| (0..n).map(|i| format!("a = {i}")).collect::<Vec<_>>().join(" OR ");
    let filter = Filter::from_sql(&many(MAX_NODES)).unwrap();
    assert_eq!(Filter::from_sql(&filter.to_string()).unwrap(), filter);
    assert!(refused(Filter::from_sql(&many(MAX_NODES + 1))).contains("more than 1000 conditions"));
    let many = |n: usize| json!({"$or": (0..n).map(|i| json!({"a": i})).collect::<Vec<_>>()});
    assert!(Filter::from_json(&many(MAX_NODES - 1)).is_ok());
    assert!(refused(Filter::from_json(&many(MAX_NODES))).contains("$or[999].a"));

    let ids = |n: usize| json!({"a": {"$in": (0..n).collect::<Vec<_>>()}});
    assert!(Filter::from_json(&ids(100_000)).is_ok());
    let limit = MAX_OPERAND_BYTES / 8;
    assert!(refused(Filter::from_json(&ids(limit + 1))).contains(&format!("a.$in[{limit}]")));
    let text = "x".repeat(MAX_OPERAND_BYTES + 1);
    for operator in ["$eq", "$contains", "$startswith", "$like", "$regex"] {
        assert!(Filter::from_json(&json!({"a": {operator: text}})).is_err(), "{operator}");
    }
    refused(Filter::from_sql(&format!("a = '{text}'")));
    refused(Filter::from_sql(&" ".repeat(MAX_SQL_BYTES + 1)));
    let path = vec!["k"; MAX_PATH_KEYS + 1].join(".");
    refused(Filter::from_json(&json!({&path: 1})));
    refused(Filter::from_sql(&format!("{path} = 1")));
    let pattern = "a".repeat(MAX_PATTERN_CHARS + 1);
    for operator in ["$like", "$regex"] {
        let error = Filter::from_json(&json!({"a": {operator: pattern}})).unwrap_err();
        assert!(error.to_string().contains("the limit is 1000"), "{error}");
    }
    // A costly pattern within the limits takes time linear in the text.
    let text = json!({"a": "a".repeat(20_000)});
    for filter in [json!({"a": {"$regex": "(a*)*b"}}), json!({"a": {"$like": "%a%a%a%a%a%a%a%a%a%b"}})] {
        assert!(!Filter::from_json(&filter).unwrap().matches(Some(&text)));
    }
}

/// Pieces from which random filters are put together.
const PIECES: [&str; 48] = [
    "a",
    "b.c",
    "\"odd key\"",
    "`x`",
    "year",
    "=",
    "!=",
    "<>",
    "<",
    "<=",
    ">",
    ">=",
    "==",
    "IN",
    "NOT",
    "BETWEEN",
    "LIKE",
    "ILIKE",
    "IS",
    "NULL",
    "CONTAINS",
    "STARTSWITH",
    "REGEXP",
    "EXISTS",
    "TRUE",
    "FALSE",
    "ESCAPE",
    "AND",
    "OR",
    "(",
    ")",
    ",",
    ".",
    "'x'",
    "'it''s'",
    "'2020-01-01'",
    "1",
    "-2.5",
    "1e9",
    "18446744073709551616",
    "'",
    "\"",
    "é",
    "日",
    "\\",
    "\u{0}",
    "&&",
    "#",
];

#[test]
fn sql_parser_never_panics() {
    let mut rng = Rng(7);
    let mut read = 0;
    let seeds = [
        "lang = 'en' AND year >= 2020 AND tags CONTAINS 'x' AND NOT (author.name LIKE 'A%')",
        "day BETWEEN '2020-01-01' AND '2021-01-01' OR day NOT BETWEEN 1 AND -2.5e3",
        "a IN (1, 'x', NULL, TRUE) OR b NOT IN () OR \"c d\".e IS NOT NULL",
        "x REGEXP '^a+$' OR y NOT LIKE '50!%' ESCAPE '!' OR z STARTSWITH 'p' OR EXISTS(w)",
    ];
    for round in 0..120_000 {
        let text = if round % 2 == 0 {
            let pieces: Vec<&str> = (0..rng.below(14)).map(|_| *rng.pick(&PIECES)).collect();
            pieces.join(if rng.once_in(3) { "" } else { " " })
        } else {
            let mut chars: Vec<char> = rng.pick(&seeds).chars().collect();
            for _ in 0..1 + rng.below(4) {
                let at = rng.below(chars.len().max(1));
                match rng.below(4) {
                    _ if chars.is_empty() => chars.push('('),
                    0 => drop(chars.remove(at)),
                    1 => chars[at] = char::from(rng.below(128) as u8),
                    2 => chars.insert(at, *rng.pick(&['\'', '"', '(', ')', 'é', '\u{202e}', '.', '\\', '%'])),
                    _ => chars.truncate(at.max(1)),
                }
            }
            chars.into_iter().collect()
        };
        if let Ok(filter) = Filter::from_sql(&text) {
            let shown = filter.to_string();
            assert_eq!(Filter::from_sql(&shown).unwrap_or_else(|e| panic!("{text}\n{shown}\n{e}")), filter, "{text}");
            read += 1;
        }
    }
    println!("{read} of 120000 were filters");
    assert!(read > 1_000, "some of the texts are filters");
}

fn wild(rng: &mut Rng, depth: usize) -> Value {
    let keys = [
        "$and",
        "$or",
        "$not",
        "$eq",
        "$ne",
        "$gt",
        "$in",
        "$nin",
        "$exists",
        "$contains",
        "$startswith",
        "$like",
        "$regex",
        "$x",
        "a",
        "b.c",
        "",
        ".",
        "\\",
        "\\.",
        "a b",
    ];
    match rng.below(if depth > 5 { 4 } else { 9 }) {
        0 => json!(rng.next() as i64),
        1 => json!(*rng.pick(&["", "x", "%_\\", "(", "a{9}{9}", "2020-01-01"])),
        2 => json!(rng.once_in(2)),
        3 => Value::Null,
        4 | 5 => (0..rng.below(4)).map(|_| wild(rng, depth + 1)).collect(),
        _ => Value::Object(
            (0..1 + rng.below(3)).map(|_| ((*rng.pick(&keys)).to_owned(), wild(rng, depth + 1))).collect(),
        ),
    }
}

#[test]
fn json_parser_never_panics() {
    let mut rng = Rng(8);
    let mut read = 0;
    for _ in 0..120_000 {
        if let Ok(filter) = Filter::from_json(&wild(&mut rng, 0)) {
            let shown = filter.to_string();
            assert_eq!(Filter::from_sql(&shown).unwrap_or_else(|e| panic!("{shown}\n{e}")), filter);
            read += 1;
        }
    }
    println!("{read} of 120000 were filters");
    assert!(read > 1_000, "some of the values are filters");
}
