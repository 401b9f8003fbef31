//! Random records and filters: the columns agree with the plain evaluator, and the spellings with one another.

use super::{Rng, columns};
use omendb::Filter;
use serde_json::{Map, Value, json};

/// The paths of the random records and some that reach nothing.
const PATHS: [&[&str]; 14] = [
    &["a"],
    &["b"],
    &["n"],
    &["s"],
    &["day"],
    &["tags"],
    &["o"],
    &["o", "x"],
    &["o", "in"],
    &["list", "k"],
    &["list", "k", "z"],
    &["odd key"],
    &["a.b"],
    &["missing", "x"],
];

const TEXTS: [&str; 22] = [
    "",
    "a",
    "A",
    "ab",
    "abc",
    "b",
    "en",
    "english",
    "é",
    "日本",
    "it's",
    "50%",
    "_x",
    "\\",
    "2020",
    "2020-05-01",
    "2020-05-01T00:00:00Z",
    "2020-05-01T02:00:00+02:00",
    "2020-05-01T00:00:00.5Z",
    "2021-01-01 10:00",
    "2020-05-01x",
    "zz",
];

const PATTERNS: [&str; 10] = ["a%", "%b", "%a%", "_", "a_c", "%", "", "\\%%", "%\\_%", "2020-__-%"];
const REGEXES: [&str; 7] = ["a", "^a", "^[a-c]+$", "(?i)A", r"\d{4}", "^$", "é|本"];

fn numbers() -> Vec<Value> {
    vec![
        json!(0),
        json!(-0.0),
        json!(1),
        json!(1.0),
        json!(2),
        json!(2.5),
        json!(-3),
        json!(-3.5),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1u64 << 63),
        json!((1u64 << 63) as f64),
        json!(u64::MAX as f64),
        json!(1e300),
        json!(9_007_199_254_740_993_i64),
        json!(9_007_199_254_740_992.0),
        json!(0.1),
    ]
}

fn scalar(rng: &mut Rng) -> Value {
    match rng.below(10) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(false),
        3..=5 => rng.pick(&numbers()).clone(),
        _ => json!(*rng.pick(&TEXTS)),
    }
}

fn value(rng: &mut Rng, depth: usize) -> Value {
    match rng.below(12) {
        0 | 1 if depth < 3 => (0..rng.below(4)).map(|_| value(rng, depth + 1)).collect(),
        2 if depth < 3 => {
            let keys = ["k", "x", "in", "z"];
            (0..rng.below(3))
                .map(|_| ((*rng.pick(&keys)).to_owned(), value(rng, depth + 1)))
                .collect::<Map<_, _>>()
                .into()
        }
        _ => scalar(rng),
    }
}

fn record(rng: &mut Rng) -> Option<Value> {
    if rng.once_in(20) {
        return None;
    }
    let mut map = Map::new();
    for key in ["a", "b", "o", "list", "odd key", "a.b"] {
        if !rng.once_in(3) {
            map.insert(key.to_owned(), value(rng, 0));
        }
    }
    if rng.below(4) > 0 {
        map.insert("n".to_owned(), rng.pick(&numbers()).clone());
        map.insert("s".to_owned(), json!(*rng.pick(&TEXTS)));
        map.insert("day".to_owned(), json!(*rng.pick(&TEXTS[15..20])));
        map.insert("tags".to_owned(), (0..rng.below(4)).map(|_| json!(*rng.pick(&TEXTS))).collect());
        map.insert("list".to_owned(), (0..rng.below(4)).map(|_| json!({"k": scalar(rng)})).collect());
        map.insert("o".to_owned(), json!({"x": scalar(rng), "in": value(rng, 1)}));
    }
    Some(Value::Object(map))
}

/// A random filter in both spellings, written independently of the library.
fn spell(rng: &mut Rng, depth: usize, leaf: &dyn Fn(&mut Rng) -> (Value, String)) -> (Value, String) {
    let kind = if depth >= 4 { 9 } else { rng.below(10) };
    match kind {
        0..=2 => {
            let parts: Vec<_> = (0..1 + rng.below(3)).map(|_| spell(rng, depth + 1, leaf)).collect();
            let sql: Vec<String> = parts.iter().map(|(_, sql)| format!("({sql})")).collect();
            let json: Vec<Value> = parts.into_iter().map(|(json, _)| json).collect();
            match rng.once_in(2) {
                true => (json!({"$and": json}), sql.join(" AND ")),
                false => (json!({"$or": json}), sql.join(" or ")),
            }
        }
        3 => {
            let (json, sql) = spell(rng, depth + 1, leaf);
            (json!({"$not": json}), format!("NOT ({sql})"))
        }
        _ => leaf(rng),
    }
}

fn sql_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn sql_value(value: &Value) -> String {
    match value {
        Value::String(text) => sql_text(text),
        other => other.to_string().to_uppercase().replace("E+", "e+"),
    }
}

fn json_path(keys: &[&str]) -> String {
    keys.iter()
        .map(|key| key.replace('\\', "\\\\").replace('.', "\\.").replace('$', "\\$"))
        .collect::<Vec<_>>()
        .join(".")
}

fn sql_path(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("\"{key}\"")).collect::<Vec<_>>().join(".")
}

fn condition(rng: &mut Rng) -> (Value, String) {
    let keys = *rng.pick(&PATHS);
    test(rng, keys, &scalar)
}

/// A random condition on a path, with operands from `operand`.
fn test(rng: &mut Rng, keys: &[&str], operand: &dyn Fn(&mut Rng) -> Value) -> (Value, String) {
    let (path, name) = (json_path(keys), sql_path(keys));
    let not_null = |rng: &mut Rng| loop {
        let value = operand(rng);
        if !value.is_null() {
            break value;
        }
    };
    let ordered = |rng: &mut Rng| loop {
        let value = operand(rng);
        if value.is_number() || value.is_string() {
            break value;
        }
    };
    let text = |rng: &mut Rng| loop {
        let value = operand(rng);
        if let Value::String(text) = value {
            break text.chars().take(3).collect::<String>();
        }
    };
    let orders = [("$gt", ">"), ("$gte", ">="), ("$lt", "<"), ("$lte", "<=")];
    match rng.below(16) {
        0 | 1 => {
            let value = operand(rng);
            (json!({path: value}), format!("{name} = {}", sql_value(&value)))
        }
        2 => {
            let value = operand(rng);
            (json!({path: {"$ne": value}}), format!("{name} != {}", sql_value(&value)))
        }
        3..=5 => {
            let ((json, sql), value) = (*rng.pick(&orders), ordered(rng));
            (json!({path: {json: value}}), format!("{name} {sql} {}", sql_value(&value)))
        }
        6 => {
            let (low, high) = (ordered(rng), ordered(rng));
            (
                json!({path: {"$gte": low, "$lte": high}}),
                format!("{name} BETWEEN {} AND {}", sql_value(&low), sql_value(&high)),
            )
        }
        7 | 8 => {
            let values: Vec<Value> = (0..rng.below(5)).map(|_| operand(rng)).collect();
            let list: Vec<String> = values.iter().map(sql_value).collect();
            match rng.once_in(2) {
                true => (json!({path: {"$in": values}}), format!("{name} IN ({})", list.join(", "))),
                false => (json!({path: {"$nin": values}}), format!("{name} NOT IN ({})", list.join(", "))),
            }
        }
        9 => match rng.once_in(2) {
            true => (json!({path: {"$exists": true}}), format!("{name} EXISTS")),
            false => (json!({path: {"$exists": false}}), format!("NOT EXISTS({name})")),
        },
        10 | 11 => {
            let value = not_null(rng);
            (json!({path: {"$contains": value}}), format!("{name} CONTAINS {}", sql_value(&value)))
        }
        12 => {
            let value = text(rng);
            (json!({path: {"$startswith": value}}), format!("{name} STARTSWITH {}", sql_text(&value)))
        }
        13 => {
            let pattern =
                if rng.once_in(2) { text(rng).replace('\\', "\\\\") + "%" } else { (*rng.pick(&PATTERNS)).to_owned() };
            (json!({path: {"$like": pattern}}), format!("{name} LIKE {}", sql_text(&pattern)))
        }
        14 => {
            let pattern = *rng.pick(&PATTERNS);
            (json!({path: {"$ilike": pattern}}), format!("{name} ILIKE {}", sql_text(pattern)))
        }
        _ => {
            let pattern = *rng.pick(&REGEXES);
            (json!({path: {"$not": {"$regex": pattern}}}), format!("{name} NOT REGEXP {}", sql_text(pattern)))
        }
    }
}

/// Checks random filters over these rows; returns the number of pairs, and of those that passed.
fn check(
    rng: &mut Rng,
    rows: &[Option<Value>],
    filters: usize,
    leaf: &dyn Fn(&mut Rng) -> (Value, String),
) -> (u64, u64) {
    let columns = columns(rows);
    let mut passed = 0;
    for _ in 0..filters {
        let (json, sql) = spell(rng, 0, leaf);
        let filter = Filter::from_json(&json).unwrap_or_else(|e| panic!("{json}: {e}"));
        assert_eq!(filter, Filter::from_sql(&sql).unwrap_or_else(|e| panic!("{sql}: {e}")), "{json} and {sql}");
        let shown = filter.to_string();
        assert_eq!(filter, Filter::from_sql(&shown).unwrap_or_else(|e| panic!("{shown}: {e}")), "{shown}");
        let found = columns.eval(&filter).unwrap_or_else(|e| panic!("{shown}: {e}"));
        passed += found.len();
        for (row, metadata) in rows.iter().enumerate() {
            let plain = filter.matches(metadata.as_ref());
            assert_eq!(found.contains(row as u32), plain, "{shown}\nrow {row}: {metadata:?}");
        }
        assert!(found.max().is_none_or(|row| row < rows.len() as u32), "{shown}");
    }
    ((filters * rows.len()) as u64, passed)
}

#[test]
fn small_mixed_segments() {
    let mut rng = Rng(4);
    let (mut pairs, mut passed) = (0, 0);
    for set in 0..300 {
        let rows: Vec<_> = (0..1 + set % 80).map(|_| record(&mut rng)).collect();
        let (p, m) = check(&mut rng, &rows, 40, &condition);
        pairs += p;
        passed += m;
    }
    println!("{pairs} pairs of record and filter, {passed} passed");
    assert!(pairs >= 400_000 && passed > pairs / 10 && passed < pairs * 9 / 10, "the filters decide");
}

/// Fields of every form the columns have: codes of one, two and four bytes, dense, sparse and in lists, dates in order
/// and not.
fn wide_record(rng: &mut Rng, row: usize, rows: usize) -> Option<Value> {
    if rng.once_in(50) {
        return None;
    }
    let skewed = rng.skewed(3_000) as i64;
    let day = 1 + rng.below(28);
    let mut map = Map::new();
    let zone = *rng.pick(&["", "Z", "+05:00", "-01:30", ".5Z"]);
    map.insert("at".into(), json!(format!("2020-{:02}-{day:02}T{:02}:30:00{zone}", 1 + rng.below(12), rng.below(24))));
    map.insert("low".into(), json!(format!("v{}", rng.skewed(9))));
    map.insert("high".into(), json!(format!("id-{}", row * 7919 % rows)));
    map.insert("skewed".into(), json!(skewed));
    map.insert("real".into(), json!(rng.below(1_000_000) as f64 / 8.0));
    map.insert("sorted".into(), json!(row / 1_000));
    map.insert("flag".into(), if rng.once_in(9) { Value::Null } else { json!(rng.once_in(2)) });
    map.insert("day".into(), json!(format!("20{:02}-{:02}-{day:02}", rng.below(30), 1 + rng.below(12))));
    map.insert("tags".into(), (0..rng.below(5)).map(|_| json!(format!("t{}", rng.skewed(400)))).collect());
    if rng.once_in(3) {
        map.insert(
            "when".into(),
            json!(format!("2020-01-{day:02}T{:02}:00:00{}", rng.below(24), rng.pick(&["", "Z", "+05:00", ".5Z", "?"]))),
        );
        map.insert(
            "mixed".into(),
            rng.pick(&[json!(row as u64 + (1 << 63)), json!(row), json!(row as f64 + 0.5), json!("text")]).clone(),
        );
    }
    if rng.once_in(200) {
        map.insert("rare".into(), json!({"n": rng.below(40), "list": [rng.below(5), rng.below(5)]}));
    }
    Some(Value::Object(map))
}

fn wide_operand(rng: &mut Rng, field: &str, rows: usize) -> Value {
    if rng.once_in(12) {
        return scalar(rng);
    }
    match field {
        "low" => json!(format!("v{}", rng.below(9))),
        "high" => json!(format!("id-{}", rng.below(rows))),
        "skewed" => json!(rng.skewed(3_000)),
        "real" => json!(rng.below(1_000_000) as f64 / 8.0),
        "sorted" => json!(rng.below(rows / 1_000)),
        "day" => json!(format!("20{:02}-{:02}-{:02}", rng.below(30), 1 + rng.below(12), 1 + rng.below(28))),
        "tags" => json!(format!("t{}", rng.below(400))),
        "at" => match rng.below(4) {
            0 => json!(format!("2020-{:02}", 1 + rng.below(12))),
            _ => json!(format!("2020-{:02}-{:02}T{:02}:30:00Z", 1 + rng.below(12), 1 + rng.below(28), rng.below(24))),
        },
        "when" => json!(format!("2020-01-{:02}T{:02}:30", 1 + rng.below(28), rng.below(24))),
        "mixed" => {
            let v = rng.below(rows);
            rng.pick(&[json!(v), json!(v as f64 + 0.25), json!(v as u64 + (1 << 63)), json!("text")]).clone()
        }
        "rare" => json!(rng.below(40)),
        _ => scalar(rng),
    }
}

fn wide_condition(rng: &mut Rng, rows: usize) -> (Value, String) {
    let paths: [&[&str]; 14] = [
        &["at"],
        &["low"],
        &["high"],
        &["skewed"],
        &["real"],
        &["sorted"],
        &["flag"],
        &["day"],
        &["tags"],
        &["when"],
        &["mixed"],
        &["rare"],
        &["rare", "n"],
        &["rare", "list"],
    ];
    let keys = *rng.pick(&paths);
    let one = |rng: &mut Rng| test(rng, keys, &|rng| wide_operand(rng, keys[0], rows));
    if !rng.once_in(4) {
        return one(rng);
    }
    // Two conditions on one field are met together.
    let ((json, sql), (other_json, other_sql)) = (one(rng), one(rng));
    (json!({"$and": [json, other_json]}), format!("({sql} AND {other_sql})"))
}

#[test]
fn large_segments() {
    let mut rng = Rng(5);
    let (mut pairs, mut passed) = (0, 0);
    for (rows, filters) in [(1_000, 400), (9_000, 120), (70_001, 60)] {
        let data: Vec<_> = (0..rows).map(|row| wide_record(&mut rng, row, rows)).collect();
        let (p, m) = check(&mut rng, &data, filters, &|rng| wide_condition(rng, rows));
        pairs += p;
        passed += m;
    }
    println!("{pairs} pairs of record and filter, {passed} passed");
    assert!(passed > pairs / 10 && passed < pairs * 9 / 10, "the filters decide");
}

#[test]
fn same_rows_same_bytes() {
    let mut rng = Rng(6);
    let rows: Vec<_> = (0..500).map(|_| record(&mut rng)).collect();
    let bytes = super::build(&rows);
    let mut builder = omendb::filter::ColumnsBuilder::new();
    for row in &rows {
        let text = row.as_ref().map(|row| serde_json::to_vec(row).unwrap());
        builder.push_json(text.as_deref()).unwrap();
    }
    assert_eq!(builder.rows(), 500);
    assert!(builder.finish() == bytes, "from values and from text alike");
}
