//! Damaged columns give `Corrupt` or an answer within the rows, and never a panic.

use super::{Rng, build};
use omendb::Filter;
use omendb::filter::Columns;
use omendb::storage::Bytes;
use serde_json::{Value, json};

fn rows(rng: &mut Rng) -> Vec<Option<Value>> {
    let day = |rng: &mut Rng| format!("2020-01-{:02}{}", 1 + rng.below(28), rng.pick(&["", "T10:00:00Z", "?"]));
    (0..400)
        .map(|row| {
            Some(json!({
                "s": format!("v{}", rng.below(3)),
                "id": row,
                "x": row as f64 / 2.0,
                "big": [u64::MAX, row, 0.5],
                "day": day(rng),
                "date": format!("2020-01-{:02}", 1 + rng.below(28)),
                "at": format!("2020-01-01T{:02}:00:00{}", rng.below(24), rng.pick(&["Z", "+09:00"])),
                "tags": ["a", format!("t{}", rng.below(50))],
                "ok": rng.once_in(2),
                "o": {"n": null},
                "rare": if rng.once_in(40) { json!(row) } else { Value::Null },
            }))
        })
        .collect()
}

fn filters() -> Vec<Filter> {
    [
        "s = 'v1'",
        "s != 'v1'",
        "id = 7",
        "id BETWEEN 10 AND 300",
        "x > 3.5",
        "big = 0.5",
        "big >= 18446744073709551615",
        "day >= '2020-01-10'",
        "day = '2020-01-10'",
        "date < '2020-01-10'",
        "date IN ('2020-01-01', '2020-01-02', 'x')",
        "at > '2020-01-01'",
        "tags CONTAINS 't7'",
        "s CONTAINS 'v'",
        "tags LIKE '%1'",
        "tags REGEXP '^t'",
        "s STARTSWITH 'v'",
        "ok = TRUE",
        "ok = FALSE",
        "o.n IS NULL",
        "o EXISTS",
        "rare > 5",
        "nothing IS NULL",
        "id < 3 AND s = 'v1' AND x < 100 AND NOT tags = 'a'",
        "s = 'v1' OR NOT (id > 100 AND ok = TRUE)",
    ]
    .iter()
    .map(|sql| Filter::from_sql(sql).expect("a filter"))
    .collect()
}

/// Reads and asks; returns whether anything was refused.
fn survive(bytes: Vec<u8>, count: u32, filters: &[Filter]) -> bool {
    let columns = match Columns::parse(Bytes::new(bytes), count, "seg", 64) {
        Ok(columns) => columns,
        Err(error) => {
            assert_eq!(error.name(), "Corrupt");
            return true;
        }
    };
    let mut refused = false;
    for filter in filters {
        match columns.eval(filter) {
            Ok(rows) => assert!(rows.max().is_none_or(|row| row < count), "{filter}"),
            Err(error) => {
                assert_eq!(error.name(), "Corrupt", "{filter}");
                refused = true;
            }
        }
    }
    refused
}

#[test]
fn damaged_bytes() {
    let mut rng = Rng(9);
    let rows = rows(&mut rng);
    let (bytes, count, filters) = (build(&rows), rows.len() as u32, filters());
    assert!(!survive(bytes.clone(), count, &filters));
    let mut refused = 0;
    for round in 0..6_000 {
        let mut damaged = bytes.clone();
        for _ in 0..1 + rng.below(3) {
            // Headers and entries matter most: half of the damage goes where small numbers stand.
            let at = loop {
                let at = rng.below(damaged.len());
                if round % 2 == 0 || damaged[at] == 0 {
                    break at;
                }
            };
            damaged[at] = match rng.below(4) {
                0 => 0xff,
                1 => damaged[at].wrapping_add(1),
                2 => damaged[at] ^ 1 << rng.below(8),
                _ => rng.next() as u8,
            };
        }
        refused += u32::from(survive(damaged, count, &filters));
    }
    println!("{refused} of 6000 damaged sections were refused");
    assert!(refused > 500, "damage is noticed");
}

#[test]
fn cut_and_foreign_bytes() {
    let mut rng = Rng(10);
    let rows = rows(&mut rng);
    let (bytes, count, filters) = (build(&rows), rows.len() as u32, filters());
    for length in (0..bytes.len()).step_by(bytes.len() / 300) {
        assert!(survive(bytes[..length].to_vec(), count, &[]), "cut to {length}");
        // With the length made good, only the missing arrays tell.
        let mut cut = bytes[..length.max(64)].to_vec();
        let length = cut.len() as u64;
        cut[16..24].copy_from_slice(&length.to_le_bytes());
        survive(cut, count, &filters);
    }
    assert!(survive(bytes.clone(), count + 1, &[]), "another number of rows");
    assert!(survive(vec![0; 4096], count, &[]));
    assert!(survive((0..4096).map(|_| rng.next() as u8).collect(), count, &[]));
    assert!(!survive(build(&[]), 0, &filters));
    let error = Columns::parse(Bytes::new(vec![1, 2, 3]), 5, "segments/7.index", 640).unwrap_err().to_string();
    assert!(error.contains("segments/7.index at byte 640") && error.contains("too short"), "{error}");
}

#[test]
fn deep_and_odd_metadata() {
    let mut deep = json!(1);
    for i in 0..60 {
        deep = if i % 3 == 0 { json!([deep]) } else { json!({"k": deep}) };
    }
    let many: Value = Value::Object((0..5_000).map(|i| (format!("key {i}"), json!(i))).collect());
    let rows = vec![Some(deep), Some(many), None, Some(json!({"": {"": ["x", "x", "x"]}})), Some(json!([1, {"k": 2}]))];
    let columns = super::columns(&rows);
    let path = vec!["k"; 40].join(".");
    for (sql, expected) in [
        (format!("{path} = 1"), vec![0]),
        (format!("{path} IS NULL"), vec![1, 2, 3, 4]),
        ("\"key 4999\" = 4999".to_owned(), vec![1]),
        ("k = 2".to_owned(), vec![4]),
    ] {
        let filter = Filter::from_sql(&sql).unwrap();
        assert_eq!(columns.eval(&filter).unwrap().into_iter().collect::<Vec<u32>>(), expected, "{sql}");
        let plain: Vec<u32> = (0..5).filter(|i| filter.matches(rows[*i as usize].as_ref())).collect();
        assert_eq!(plain, expected, "{sql}");
    }
}
