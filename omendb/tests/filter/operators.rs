//! Each operator by example: both spellings, both evaluators.

use omendb::Filter;
use serde_json::{Value, json};

/// Record 0 has no metadata at all, record 1 an empty object.
fn records() -> Vec<Option<Value>> {
    vec![
        None,
        Some(json!({})),
        Some(json!({"lang": "en", "year": 2020, "ok": true, "tags": ["x", "y"],
            "author": {"name": "Ann", "age": 30}, "day": "2020-05-01"})),
        Some(json!({"lang": "de", "year": 2021.0, "ok": false, "tags": [],
            "author": {"name": "Bob"}, "day": "2020-05-01T00:00:00Z"})),
        Some(json!({"lang": "english", "year": 2020.5, "ok": null, "tags": "xyz",
            "author": null, "day": "2020-05-01T02:00:00+02:00"})),
        Some(json!({"lang": null, "year": "2020", "ok": 1, "tags": [null, 7, "50%_x"],
            "author": [{"name": "Cy"}, {"name": "Ann"}, {"age": 5}], "day": "2020-05-02"})),
        Some(json!({"lang": ["en", "fr"], "year": [1, 3000], "tags": [["x"], [["z"]]], "author": [],
            "day": "tomorrow"})),
        Some(json!({"year": 9_007_199_254_740_993_i64, "n": -1, "a.b": 1, "a": {"b": 2},
            "odd key": "it's", "$x": 5, "tags": [{"x": "x"}]})),
    ]
}

/// The numbers of the records that pass, by both evaluators and both spellings.
fn passing(json: &Value, sql: &str) -> Vec<u32> {
    let filter = Filter::from_json(json).unwrap_or_else(|e| panic!("{json}: {e}"));
    let same = Filter::from_sql(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert_eq!(filter, same, "{json} and {sql} are one filter");
    let again = Filter::from_sql(&filter.to_string()).unwrap_or_else(|e| panic!("{filter}: {e}"));
    assert_eq!(again, filter, "{filter} reads back");
    let records = records();
    let plain: Vec<u32> = (0..records.len() as u32).filter(|i| filter.matches(records[*i as usize].as_ref())).collect();
    let columns: Vec<u32> = super::columns(&records).eval(&filter).expect("sound columns").into_iter().collect();
    assert_eq!(plain, columns, "{sql}");
    plain
}

fn check(cases: &[(Value, &str, &[u32])]) {
    for (json, sql, expected) in cases {
        assert_eq!(passing(json, sql), *expected, "{sql}");
    }
}

#[test]
fn equality() {
    check(&[
        (json!({"lang": "en"}), "lang = 'en'", &[2, 6]),
        (json!({"lang": {"$eq": "en"}}), "lang == 'en'", &[2, 6]),
        (json!({"lang": {"$ne": "en"}}), "lang != 'en'", &[0, 1, 3, 4, 5, 7]),
        (json!({"lang": {"$ne": "en"}, "$not": {"lang": null}}), "lang <> 'en' AND lang IS NOT NULL", &[3, 4]),
        (json!({"year": 2020}), "year = 2020", &[2]),
        (json!({"year": 2021}), "year = 2021.0", &[3]),
        (json!({"year": "2020"}), "year = '2020'", &[5]),
        (json!({"year": 9_007_199_254_740_993_i64}), "year = 9007199254740993", &[7]),
        (json!({"year": 9_007_199_254_740_992.0}), "year = 9007199254740992", &[]),
        (json!({"ok": true}), "ok = TRUE", &[2]),
        (json!({"ok": false}), "ok = false", &[3]),
        (json!({"ok": 1}), "ok = 1", &[5]),
        (json!({"tags": "x"}), "tags = 'x'", &[2, 6]),
        (json!({"tags": 7}), "tags = 7", &[5]),
        (json!({"author": "Ann"}), "author = 'Ann'", &[]),
    ]);
}

#[test]
fn null_and_existence() {
    check(&[
        (json!({"lang": null}), "lang IS NULL", &[0, 1, 5, 7]),
        (json!({"lang": {"$ne": null}}), "lang IS NOT NULL", &[2, 3, 4, 6]),
        (json!({"lang": {"$eq": null}}), "lang = NULL", &[0, 1, 5, 7]),
        (json!({"lang": {"$exists": true}}), "lang EXISTS", &[2, 3, 4, 5, 6]),
        (json!({"lang": {"$exists": false}}), "lang NOT EXISTS", &[0, 1, 7]),
        (json!({"lang": {"$exists": true}}), "EXISTS (lang)", &[2, 3, 4, 5, 6]),
        (json!({"lang": {"$exists": false}}), "NOT EXISTS lang", &[0, 1, 7]),
        (json!({"tags": null}), "tags IS NULL", &[0, 1, 5]),
        (json!({"tags": {"$exists": true}}), "tags EXISTS", &[2, 3, 4, 5, 6, 7]),
        (json!({"author": {"$exists": true}}), "author EXISTS", &[2, 3, 4, 5, 6]),
        (json!({"author": null}), "author IS NULL", &[0, 1, 4, 7]),
        (json!({"author.name": null}), "author.name IS NULL", &[0, 1, 4, 6, 7]),
        (json!({"nowhere": null}), "nowhere IS NULL", &[0, 1, 2, 3, 4, 5, 6, 7]),
        (json!({"nowhere": {"$exists": true}}), "nowhere EXISTS", &[]),
    ]);
}

#[test]
fn order() {
    check(&[
        (json!({"year": {"$gt": 2020}}), "year > 2020", &[3, 4, 6, 7]),
        (json!({"year": {"$gte": 2020}}), "year >= 2020", &[2, 3, 4, 6, 7]),
        (json!({"year": {"$lt": 2020.5}}), "year < 2020.5", &[2, 6]),
        (json!({"year": {"$lte": 2020.5}}), "year <= 2020.5", &[2, 4, 6]),
        (json!({"year": {"$gt": 9_007_199_254_740_992_i64}}), "year > 9007199254740992", &[7]),
        (json!({"year": {"$gte": 9_007_199_254_740_994.0}}), "year >= 9007199254740994.0", &[]),
        (json!({"year": {"$gte": 2020, "$lte": 2021}}), "year BETWEEN 2020 AND 2021", &[2, 3, 4, 6]),
        (json!({"$not": {"year": {"$gte": 2020, "$lte": 2021}}}), "year NOT BETWEEN 2020 AND 2021", &[0, 1, 5, 7]),
        (json!({"year": {"$gte": "1"}}), "year >= '1'", &[5]),
        (json!({"lang": {"$gt": "en"}}), "lang > 'en'", &[4, 6]),
        (json!({"lang": {"$lte": "en"}}), "lang <= 'en'", &[2, 3, 6]),
        (json!({"n": {"$lt": 0}}), "n < -0", &[7]),
        (json!({"ok": {"$gte": 0}}), "ok >= 0", &[5]),
        (json!({"year": {"$not": {"$gt": 2020}}}), "NOT year > 2020", &[0, 1, 2, 5]),
    ]);
}

#[test]
fn dates_are_instants() {
    check(&[
        (json!({"day": "2020-05-01"}), "day = '2020-05-01'", &[2, 3, 4]),
        (
            json!({"day": {"$in": ["2020-05-01T00:00", "2021-01-01"]}}),
            "day IN ('2020-05-01T00:00', '2021-01-01')",
            &[2, 3, 4],
        ),
        (json!({"day": {"$gt": "2020-04-30T23:59:59.999Z"}}), "day > '2020-04-30T23:59:59.999Z'", &[2, 3, 4, 5, 6]),
        (json!({"day": {"$lt": "2020-05-01T00:00:01+00:00"}}), "day < '2020-05-01T00:00:01+00:00'", &[2, 3, 4]),
        (
            json!({"day": {"$gte": "2020-05-01", "$lt": "2020-05-02"}}),
            "day >= '2020-05-01' AND day < '2020-05-02'",
            &[2, 3, 4],
        ),
        (json!({"day": {"$lte": "2020-05"}}), "day <= '2020-05'", &[]),
        (json!({"day": {"$gt": "2020-05"}}), "day > '2020-05'", &[2, 3, 4, 5, 6]),
        (json!({"day": {"$gt": "2020-05-01T00:00:00Y"}}), "day > '2020-05-01T00:00:00Y'", &[3, 4, 5, 6]),
    ]);
}

#[test]
fn membership() {
    check(&[
        (json!({"lang": {"$in": ["de", "fr"]}}), "lang IN ('de', 'fr')", &[3, 6]),
        (json!({"lang": {"$nin": ["de", "fr"]}}), "lang NOT IN ('de', 'fr')", &[0, 1, 2, 4, 5, 7]),
        (json!({"lang": {"$in": ["de", null]}}), "lang IN ('de', NULL)", &[0, 1, 3, 5, 7]),
        (json!({"lang": {"$in": []}}), "lang IN ()", &[]),
        (json!({"lang": {"$nin": []}}), "lang NOT IN ()", &[0, 1, 2, 3, 4, 5, 6, 7]),
        (json!({"ok": {"$in": [true, 1]}}), "ok IN (true, 1)", &[2, 5]),
        (json!({"year": {"$in": [2020, 2021, 3000]}}), "year IN (2020, 2021, 3000)", &[2, 3, 6]),
    ]);
}

#[test]
fn text_operators() {
    check(&[
        (json!({"tags": {"$contains": "x"}}), "tags CONTAINS 'x'", &[2, 4, 6]),
        (json!({"tags": {"$contains": "yz"}}), "tags CONTAINS 'yz'", &[4]),
        (json!({"tags": {"$contains": 7}}), "tags CONTAINS 7", &[5]),
        (json!({"tags": {"$not": {"$contains": "x"}}}), "tags NOT CONTAINS 'x'", &[0, 1, 3, 5, 7]),
        (json!({"ok": {"$contains": true}}), "ok CONTAINS TRUE", &[2]),
        (json!({"lang": {"$contains": ""}}), "lang CONTAINS ''", &[2, 3, 4]),
        (json!({"lang": {"$startswith": "en"}}), "lang STARTSWITH 'en'", &[2, 4, 6]),
        (json!({"lang": {"$not": {"$startswith": "en"}}}), "lang NOT STARTSWITH 'en'", &[0, 1, 3, 5, 7]),
        (json!({"lang": {"$like": "en%"}}), "lang LIKE 'en%'", &[2, 4, 6]),
        (json!({"lang": {"$like": "%n"}}), "lang LIKE '%n'", &[2, 6]),
        (json!({"lang": {"$like": "%gl%"}}), "lang LIKE '%gl%'", &[4]),
        (json!({"lang": {"$like": "_e"}}), "lang LIKE '_e'", &[3]),
        (json!({"lang": {"$like": "e%_h"}}), "lang LIKE 'e%_h'", &[4]),
        (json!({"lang": {"$like": "EN"}}), "lang LIKE 'EN'", &[]),
        (json!({"lang": {"$ilike": "E_G%"}}), "lang ILIKE 'E_G%'", &[4]),
        (json!({"lang": {"$not": {"$like": "e%"}}}), "lang NOT LIKE 'e%'", &[0, 1, 3, 5, 7]),
        (json!({"tags": {"$like": "50\\%\\_%"}}), "tags LIKE '50!%!_%' ESCAPE '!'", &[5]),
        (json!({"tags": {"$like": "%\\%_x"}}), "tags LIKE '%\\%_x'", &[5]),
        (json!({"lang": {"$regex": "^(en|de)$"}}), "lang REGEXP '^(en|de)$'", &[2, 3, 6]),
        (json!({"lang": {"$regex": "(?i)LIS"}}), "lang REGEXP '(?i)LIS'", &[4]),
        (json!({"lang": {"$not": {"$regex": "e"}}}), "lang NOT REGEXP 'e'", &[0, 1, 5, 7]),
        (json!({"year": {"$like": "%"}}), "year LIKE '%'", &[5]),
    ]);
}

#[test]
fn paths() {
    check(&[
        (json!({"author.name": "Ann"}), "author.name = 'Ann'", &[2, 5]),
        (json!({"author.name": {"$like": "A%"}}), "author.name LIKE 'A%'", &[2, 5]),
        (json!({"author.age": {"$gte": 5}}), "author.age >= 5", &[2, 5]),
        (json!({"author.name": "Cy", "author.age": 5}), "author.name = 'Cy' AND author.age = 5", &[5]),
        (json!({"a\\.b": 1}), "\"a.b\" = 1", &[7]),
        (json!({"a.b": 2}), "a.b = 2", &[7]),
        (json!({"a.b": 1}), "a.b = 1", &[]),
        (json!({"odd key": "it's"}), "\"odd key\" = 'it''s'", &[7]),
        (json!({"odd key": "it's"}), "`odd key` = 'it''s'", &[7]),
        (json!({"\\$x": 5}), "\"$x\" = 5", &[7]),
        (json!({"tags.x": "x"}), "tags.x = 'x'", &[7]),
        (json!({"author.name.first": null}), "author.name.first IS NULL", &[0, 1, 2, 3, 4, 5, 6, 7]),
        (json!({"in.0.and": 1}), "\"in\".0.and = 1", &[]),
    ]);
}

#[test]
fn logic() {
    check(&[
        (json!({}), "TRUE", &[0, 1, 2, 3, 4, 5, 6, 7]),
        (json!({"$not": {}}), "NOT TRUE", &[]),
        (json!({"lang": "en", "year": 2020}), "lang = 'en' AND year = 2020", &[2]),
        (json!({"$and": [{"lang": "en"}, {"year": 2020}]}), "(lang = 'en') AND ((year = 2020))", &[2]),
        (json!({"$or": [{"lang": "de"}, {"year": 2020}]}), "lang = 'de' OR year = 2020", &[2, 3]),
        (
            json!({"$or": [{"lang": "de"}, {"lang": "en", "ok": true}]}),
            "lang = 'de' or lang = 'en' and ok = true",
            &[2, 3],
        ),
        (
            json!({"$or": [{"lang": "de"}, {"lang": "en"}], "ok": true}),
            "(lang = 'de' OR lang = 'en') AND ok = TRUE",
            &[2],
        ),
        (
            json!({"$not": {"$or": [{"lang": "de"}, {"year": 2020}]}}),
            "NOT (lang = 'de' OR year = 2020)",
            &[0, 1, 4, 5, 6, 7],
        ),
        (json!({"$not": {"lang": "de"}, "ok": true}), "NOT lang = 'de' AND ok = TRUE", &[2]),
        (json!({"$not": {"$not": {"lang": "de"}}}), "lang = 'de'", &[3]),
        (json!({"lang": {"$not": {"$ne": "de"}}}), "NOT NOT (NOT (NOT lang = 'de'))", &[3]),
    ]);
}

#[test]
fn sql_reads_the_design_example() {
    let filter = Filter::from_sql(
        "lang = 'en' AND year >= 2020 AND tags CONTAINS 'x' AND NOT (author.name LIKE 'A%') \
         AND day BETWEEN '2020-01-01' AND '2021-01-01'",
    )
    .unwrap();
    let mut record =
        json!({"lang": "en", "year": 2020, "tags": ["x"], "author": {"name": "Bob"}, "day": "2020-06-01T12:00:00"});
    assert!(filter.matches(Some(&record)));
    record["author"]["name"] = json!("Ann");
    assert!(!filter.matches(Some(&record)));
}

#[test]
fn text_forms() {
    for (sql, shown) in [
        ("a=1", "a = 1"),
        ("a = +5", "a = 5"),
        ("a = 1e3", "a = 1000"),
        ("a = 0.10", "a = 0.1"),
        ("a = 1e300", "a = 1e300"),
        ("a = 18446744073709551615", "a = 18446744073709551615"),
        ("\"a\" = 'x'", "a = 'x'"),
        ("\"AND\".\"or\" like 'a\\b%%'", "\"AND\".\"or\" LIKE 'ab%'"),
        ("\"é\"\"x\" IS NULL", "\"é\"\"x\" IS NULL"),
        ("größe > 1", "größe > 1"),
        ("a BETWEEN 1 AND 2 OR b", ""),
        ("NOT (a = 1 AND b = 2) AND (c = 3 OR d EXISTS)", "NOT (a = 1 AND b = 2) AND (c = 3 OR d EXISTS)"),
        ("FALSE OR NOT a > 1", "NOT a > 1"),
        ("FALSE", "FALSE"),
    ] {
        match Filter::from_sql(sql) {
            Ok(filter) => assert_eq!(filter.to_string(), shown),
            Err(_) => assert_eq!(shown, "", "{sql}"),
        }
    }
    assert_eq!("a = 1".parse::<Filter>().unwrap(), Filter::from_json(&json!({"a": 1})).unwrap());
}
