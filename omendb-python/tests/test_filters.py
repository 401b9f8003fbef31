"""Filters: both spellings, every verb that takes one, and what is refused."""

from __future__ import annotations

import datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import omendb

ROWS: list[dict[str, Any] | None] = [
    {"lang": "en", "year": 2020, "tags": ["x", "y"], "author": {"name": "Ada"}, "day": datetime.date(2020, 5, 1)},
    {"lang": "en", "year": 2021, "tags": [], "author": {"name": "Bob"}, "day": datetime.date(2021, 5, 1)},
    {"lang": "de", "year": 2022, "tags": ["y"], "author": {"name": "Alan"}, "day": datetime.date(2022, 5, 1)},
    {"lang": None, "year": 2023.5},
    None,
]
IDS = ["a", "b", "c", "d", "e"]


@pytest.fixture(params=["memory", "segment", "both"])
def rows(docs: omendb.Collection, request: pytest.FixtureRequest) -> omendb.Collection:
    vectors = np.arange(5, dtype=np.float32).reshape(5, 1) * np.ones(4, dtype=np.float32)
    if request.param == "both":
        docs.upsert(IDS[:2], vectors[:2], ROWS[:2])
        docs.flush()
        docs.upsert(IDS[2:], vectors[2:], ROWS[2:])
    else:
        docs.upsert(IDS, vectors, ROWS)
    if request.param == "segment":
        docs.flush()
    return docs


@pytest.mark.parametrize(
    ("filter", "sql", "expected"),
    [
        ({}, "TRUE", "abcde"),
        ({"lang": "en"}, "lang = 'en'", "ab"),
        ({"lang": {"$ne": "en"}}, "lang != 'en'", "cde"),
        ({"lang": None}, "lang IS NULL", "de"),
        ({"lang": {"$exists": True}}, "lang EXISTS", "abcd"),
        ({"year": {"$gte": 2021, "$lt": 2023}}, "year >= 2021 AND year < 2023", "bc"),
        ({"year": {"$in": [2020, 2023.5]}}, "year IN (2020, 2023.5)", "ad"),
        ({"year": {"$nin": [2020, 2021]}}, "year NOT IN (2020, 2021)", "cde"),
        ({"tags": "y"}, "tags = 'y'", "ac"),
        ({"tags": {"$contains": "x"}}, "tags CONTAINS 'x'", "a"),
        ({"author.name": {"$startswith": "A"}}, "author.name STARTSWITH 'A'", "ac"),
        ({"author.name": {"$like": "A_a_"}}, "author.name LIKE 'A_a_'", "c"),
        ({"author.name": {"$regex": "^(Ada|Bob)$"}}, "author.name REGEXP '^(Ada|Bob)$'", "ab"),
        ({"$or": [{"lang": "de"}, {"year": 2020}]}, "lang = 'de' OR year = 2020", "ac"),
        ({"$not": {"lang": "en"}}, "NOT (lang = 'en')", "cde"),
        ({"lang": "en", "year": 2020}, "lang = 'en' AND year = 2020", "a"),
        ({"day": {"$gt": datetime.datetime(2021, 1, 1)}}, "day > '2021-01-01'", "bc"),
        ({"year": np.int64(2020)}, "year = 2020", "a"),
        ({"year": {"$in": np.array([2020, 2021])}}, "year IN (2020, 2021)", "ab"),
        (MappingProxyType({"lang": "de"}), "lang = 'de'", "c"),
    ],
)
def test_every_verb_agrees(rows: omendb.Collection, filter: Any, sql: str, expected: str) -> None:
    for each in (filter, sql):
        assert "".join(sorted(str(record.id) for record in rows.iterate(filter=each))) == expected
        assert rows.count(filter=each) == len(expected)
        hits = rows.search(np.zeros(4), k=4, filter=each)
        assert "".join(str(id) for id in hits.ids) == expected[:4] and hits.complete == (len(expected) < 4)
        many = rows.search_batch(np.zeros((3, 4)), k=4, filter=each)
        assert [row.ids for row in many] == [hits.ids] * 3
    assert rows.delete(filter=filter) == len(expected)
    assert "".join(sorted(str(record.id) for record in rows)) == "".join(sorted(set("abcde") - set(expected)))
    assert rows.delete(filter=sql) == 0


def test_filters_follow_updates(rows: omendb.Collection) -> None:
    rows.update("a", metadata={"lang": "fr"})
    rows.delete("b")
    assert rows.count(filter="lang = 'en'") == 0 and rows.search(np.zeros(4), filter={"lang": "fr"}).ids == ["a"]


def test_a_selective_filter_never_returns_too_few(docs: omendb.Collection, rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((4000, 4)).astype(np.float32)
    docs.upsert(np.arange(4000), vectors, [{"n": n} for n in range(4000)])
    docs.flush()
    wanted = np.arange(0, 4000, 400)
    hits = docs.search(vectors[7], k=10, filter={"n": {"$in": wanted}})
    order = np.argsort(np.linalg.norm(vectors[wanted] - vectors[7], axis=1))
    assert hits.ids == wanted[order].tolist()


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        (5, "filter of type int"),
        (b"lang = 'en'", "filter of type bytes"),
        ([{"lang": "en"}], "filter of type list"),
        ({"lang": {"$unknown": 1}}, "lang"),
        ({"$and": [{"year": 1}, {"year": {"$gte": None}}]}, r"\$and\[1\]\.year\.\$gte"),
        ({"$or": []}, "one or more"),
        ({"year": {"$regex": "("}}, "year"),
        ({"year": float("nan")}, "finite"),
        ({"year": object()}, "filter.year is of type object"),
        ({1: 2}, "keys are strings"),
        ({"lang": ["en"]}, r"\$in"),
        ("lang = ", "lang"),
        ("lang == en AND", "character"),
        ("", "filter"),
        ("lang = '\ud800'", "surrogate"),
        ({"lang": "\ud800"}, "surrogate"),
    ],
)
def test_malformed_filters_say_where(rows: omendb.Collection, filter: Any, message: str) -> None:
    calls = (
        lambda: rows.search(np.zeros(4), filter=filter),
        lambda: rows.search_batch(np.zeros((1, 4)), filter=filter),
        lambda: rows.count(filter=filter),
        lambda: rows.iterate(filter=filter),
        lambda: rows.delete(filter=filter),
    )
    for call in calls:
        with pytest.raises(omendb.InvalidInput, match=message):
            call()
    assert len(rows) == 5


def nested(levels: int) -> dict[str, Any]:
    filter: dict[str, Any] = {"year": {"$in": [2020]}}
    for _ in range(levels):
        filter = {"$and": [filter]}
    return filter


def test_depth_is_limited(rows: omendb.Collection) -> None:
    assert rows.count(filter=nested(32)) == 1
    endless: dict[str, Any] = {}
    endless["$and"] = [endless]
    for filter in (nested(33), nested(5000), endless, "(" * 5000 + "year = 1" + ")" * 5000):
        with pytest.raises(omendb.LimitExceeded):
            rows.count(filter=filter)
    with pytest.raises(omendb.LimitExceeded):
        rows.count(filter={"$or": [{"year": n} for n in range(1001)]})


def test_delete_takes_ids_or_a_filter(rows: omendb.Collection) -> None:
    for arguments in ({}, {"ids": ["a"], "filter": {"lang": "en"}}):
        with pytest.raises(omendb.InvalidInput):
            rows.delete(**arguments)  # type: ignore[arg-type]
    assert len(rows) == 5


async def test_coroutines_take_filters() -> None:
    async with await omendb.AsyncDatabase.open(":memory:") as db:
        docs = await db.create_collection("docs", dim=2)
        await docs.upsert([1, 2], [[1.0, 0.0], [0.0, 1.0]], [{"n": 1}, {"n": 2}])
        assert (await docs.search([1.0, 0.0], filter="n = 2")).ids == [2]
        assert (await docs.search_batch([[1.0, 0.0]], k=1, filter={"n": 2})).ids.tolist() == [[2]]
        assert await docs.count(filter={"n": {"$gt": 1}}) == 1
        assert [record.id async for record in docs.iterate(filter="n = 1")] == [1]
        assert await docs.delete(filter={"n": 1}) == 1
