"""Searching by text, and by vector and text together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import omendb

TEXTS = {
    "a": "Crash safe storage for vectors",
    "b": "Storage that survives a crash, and a power cut",
    "c": "The crash of a safe",
    "d": "Vector search and full-text search",
    "e": "東京大学",
}


@pytest.fixture
def filled(docs: omendb.Collection) -> omendb.Collection:
    docs.upsert(
        list(TEXTS),
        [[n, 0.0, 0.0, 0.0] for n in range(len(TEXTS))],
        [{"n": n} for n in range(len(TEXTS))],
        list(TEXTS.values()),
    )
    docs.upsert("silent", [9.0, 0.0, 0.0, 0.0])
    return docs


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("crash", "abc"),
        ("+crash -power", "ac"),
        ('"crash safe"', "a"),
        ("surv*", "b"),
        ("storge~", "ab"),
        ("(power OR full) AND search", "d"),
        ("京大", "e"),
        ("", ""),
        ('"(*~ +-', ""),
    ],
)
def test_queries(filled: omendb.Collection, query: str, expected: str, flushed: bool) -> None:
    if flushed:
        filled.flush()
    hits = filled.search(text=query)
    assert sorted(hits.ids) == list(expected) and hits.complete
    assert all(hit.text_score == hit.score == -hit.distance and hit.vector_score is None for hit in hits)


def test_what_a_hit_carries(filled: omendb.Collection) -> None:
    [hit] = filled.search(text="power*", include=["snippet"])
    assert hit.text is None and hit.metadata is None and hit.vector is None
    assert hit.snippet is not None and str(hit.snippet) == "Storage that survives a crash, and a **power** cut"
    [(start, end)] = hit.snippet.highlights
    assert hit.snippet.text[start:end] == "power"
    assert hit.snippet.to_html().count("<b>") == 1 and "Snippet(" in repr(hit.snippet)
    assert hit.snippet.marked("[", "]").endswith("[power] cut")
    assert hit.to_dict()["text_score"] == hit.score and hit.to_dict()["snippet"] == str(hit.snippet)
    [hit] = filled.search(text="東京", include=["text", "snippet"])
    assert hit.text == "東京大学" and hit.snippet is not None and hit.snippet.highlights == [(0, 2)]


def test_hybrid_is_two_orders_in_one(filled: omendb.Collection) -> None:
    hits = filled.search([0.0, 0.0, 0.0, 0.0], text="power", k=6)
    assert hits.ids[0] == "b" and hits[0].score == pytest.approx((61 / 62 + 1) / 2)
    assert hits.ids[1:] == ["a", "c", "d", "e", "silent"] and not hits.complete
    assert [hit.text_score is None for hit in hits] == [False] + [True] * 5
    assert [hit.vector_score for hit in hits] == [-1.0, 0.0, -2.0, -3.0, -4.0, -9.0]
    some = filled.search([0.0, 0.0, 0.0, 0.0], text="crash", k=10, filter="n > 0", min_score=0.3, offset=1)
    assert some.ids == ["c", "d", "e"] and some.complete
    assert "text_score=" in repr(hits) and "vector_score" in hits.to_dicts()[1]


def test_weights(filled: omendb.Collection) -> None:
    def ids(**how: object) -> list[omendb.Id]:
        return filled.search([5.0, 0.0, 0.0, 0.0], text="crash", fuse="weighted", k=3, **how).ids  # type: ignore[arg-type]

    assert ids(alpha=1.0) == ["e", "d", "silent"] or ids(alpha=1) == ["e", "d", "c"]
    assert sorted(ids(alpha=0.0)) == ["a", "b", "c"]
    assert ids() == ids(alpha=0.5)
    adaptive = filled.search([5.0, 0.0, 0.0, 0.0], text="crash", fuse="adaptive", k=3)
    assert len(adaptive) == 3 and all(0.0 <= hit.score <= 1.0 for hit in adaptive)


@pytest.mark.parametrize(
    "bad",
    [
        {"fuse": "sum"},
        {"alpha": 0.5},
        {"fuse": "adaptive", "alpha": 0.5},
        {"fuse": "weighted", "alpha": 2.0},
        {"fuse": "weighted", "alpha": "x"},
        {"text": 7},
        {"vector": [1.0]},
        {"k": 0},
    ],
)
def test_odd_arguments(filled: omendb.Collection, bad: dict[str, object]) -> None:
    with pytest.raises(omendb.InvalidInput):
        filled.search(**{"vector": np.zeros(4), "text": "crash", **bad})  # type: ignore[arg-type]


def test_neither_vector_nor_text(filled: omendb.Collection) -> None:
    with pytest.raises(omendb.InvalidInput, match="neither a vector nor text"):
        filled.search()


def test_analyzers(path: Path) -> None:
    with omendb.open(path) as db:
        german = db.create_collection("de", dim=1, metric="l2", analyzer="german-stop")
        german.upsert("a", [1.0], text="Die Häuser der Stadt")
        assert german.search(text="haus").ids == ["a"] and german.search(text="die").ids == []
        assert db.create_collection("plain", dim=1, metric="l2", analyzer="cjk").analyzer == "plain"
        with pytest.raises(omendb.InvalidInput, match="klingon"):
            db.create_collection("x", dim=1, analyzer="klingon")
    with omendb.open(path) as db:
        assert db.get_collection("de").analyzer == "german-stop"
        with pytest.raises(omendb.InvalidInput, match="analyzer"):
            db.get_or_create_collection("de", dim=1, metric="l2", analyzer="plain")
        assert db.get_or_create_collection("de", dim=1, metric="l2").analyzer == "german-stop"


def test_the_index_is_kept(path: Path) -> None:
    with omendb.open(path) as db:
        docs = db.create_collection("docs", dim=2)
        docs.upsert(np.arange(3000), np.ones((3000, 2)), text=[f"word{n % 7} common" for n in range(3000)])
        docs.wait_indexed()
        assert docs.stats().text_indexed_rows == 3000
        expected = docs.search(text="word3 common", k=20)
    assert list((path / "segments").glob("*.text"))
    with omendb.open(path, read_only=True) as db:
        again = db["docs"].search(text="word3 common", k=20)
        assert again.ids == expected.ids and again.scores.tolist() == expected.scores.tolist()
        assert db.stats().bytes_text > 0
