"""Further fields: named vectors and sparse vectors, written, searched, fused and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import omendb


@pytest.fixture
def papers(db: omendb.Database) -> omendb.Collection:
    vectors = {"title": {"dim": 3, "metric": "l2"}, "hash": {"dim": 8, "metric": "hamming", "dtype": "bits"}}
    return db.create_collection("papers", dim=2, metric="l2", vectors=vectors, sparse=["terms"])


def test_values_come_back_exactly(papers: omendb.Collection, path: Path, db: omendb.Database) -> None:
    papers.upsert(
        ["a", "b", "c"],
        [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]],
        named={"title": np.arange(9, dtype=np.float64).reshape(3, 3), "hash": [None, [1] * 8, [0] * 8]},
        sparse={"terms": [{7: 0.5, 2**32 - 1: -1.0}, None, {}]},
    )
    db.close()
    with omendb.open(path) as again:
        docs = again["papers"]
        assert docs.sparse == ["terms"] and list(docs.vectors) == ["title", "hash"]
        assert docs.vectors["hash"] == {"dim": 8, "metric": "hamming", "dtype": "bits", "quantization": "auto"}
        a, b, c = docs.get(["a", "b", "c"])
        assert a is not None and b is not None and c is not None
        assert a.sparse == {"terms": {7: 0.5, 2**32 - 1: -1.0}} and b.sparse == {} and c.sparse == {"terms": {}}
        assert a.vectors["title"].tolist() == [0.0, 1.0, 2.0] and "hash" not in a.vectors
        assert b.vectors["hash"].tolist() == [255] and c.to_dict()["vectors"]["hash"].tolist() == [0]
        assert again.get_or_create_collection("papers", dim=2, metric="l2").sparse == ["terms"]


def test_sparse_search_is_exact(papers: omendb.Collection, rng: np.random.Generator) -> None:
    matrix = np.where(rng.random((300, 40)) < 0.2, rng.normal(size=(300, 40)), 0).astype(np.float32)
    rows = [{int(i): float(row[i]) for i in np.flatnonzero(row)} for row in matrix]
    papers.upsert(np.arange(300), np.zeros((300, 2)), [{"n": n % 10} for n in range(300)], sparse={"terms": rows})
    query = {3: 1.0, 17: -0.5, 30: 2.0}
    scores = matrix[:, 3] - 0.5 * matrix[:, 17] + 2.0 * matrix[:, 30]
    for flushed in (False, True):
        if flushed:
            papers.wait_indexed()
        hits = papers.search(sparse=query, k=10)
        np.testing.assert_allclose(hits.scores, np.sort(scores)[::-1][:10], rtol=1e-6)
        assert all(hit.field_scores == {"terms": hit.score} and hit.distance == -hit.score for hit in hits)
        passing = papers.search(sparse={"terms": query}, k=5, filter={"n": 3})
        np.testing.assert_allclose(passing.scores, np.sort(scores[3::10])[::-1][:5], rtol=1e-6)
        assert papers.search(sparse=([3], [1.0]), k=1).ids == [
            int(np.argmax(matrix[:, 3]))
        ]
        assert papers.explain(sparse=query).parts[0].plan == ("postings" if flushed else "scan")
    everything = papers.search(sparse=query, k=1000, include=["fields"])
    assert everything.complete and len(everything) == np.count_nonzero(scores)
    assert everything[0].sparse["terms"] == {i: pytest.approx(w) for i, w in rows[int(np.argmax(scores))].items()}


def test_a_matrix_of_scipy_is_taken(papers: omendb.Collection) -> None:
    scipy = pytest.importorskip("scipy.sparse")
    papers.upsert([1, 2], np.zeros((2, 2)), sparse={"terms": scipy.csr_matrix([[0, 1.5, 0], [0, 0, 2.5]])})
    assert [record.sparse["terms"] for record in papers] == [{1: 1.5}, {2: 2.5}]
    assert papers.search(sparse=scipy.csr_matrix([[0, 1.0, 1.0]])).ids == [2, 1]


def test_named_vectors_are_searched_like_any(papers: omendb.Collection) -> None:
    titles = [[0.0, 0.0, 0.0], None, [0.0, 3.0, 4.0], [0.0, 0.0, 1.0]]
    papers.upsert(list("abcd"), np.zeros((4, 2)), [{"g": g} for g in "xxyy"], named={"title": titles})
    origin = [0.0, 0.0, 0.0]
    hits = papers.search(origin, using="title")
    assert hits.ids == ["a", "d", "c"] and hits.complete and hits.distances.tolist() == [0.0, 1.0, 5.0]
    assert hits[1].field_scores == {"title": -1.0} and hits[1].vector_score is None
    assert papers.search(like="a", using="title").ids == ["d", "c"]
    assert papers.search_batch([origin, titles[2]], k=1, using="title").ids.tolist() == [["a"], ["c"]]
    assert [group.value for group in papers.search_groups(origin, "g", using="title")] == ["x", "y"]
    assert papers.explain(origin, using="title").hits.ids == hits.ids
    assert papers.recall(k=1, using="title") == 1.0
    papers.update("b", named={"title": [0.0, 0.0, 0.5]}, sparse={"terms": {1: 1.0}})
    papers.update("a", named={"title": None})
    assert papers.search(origin, using="title").ids == ["b", "d", "c"]
    record = papers.get("b")
    assert record is not None and record.sparse == {"terms": {1: 1.0}}


def test_all_of_them_are_fused(papers: omendb.Collection) -> None:
    papers.upsert(
        [1, 2, 3],
        [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]],
        text=["crash safe", None, "safe"],
        named={"title": [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], None]},
        sparse={"terms": [None, {5: 1.0}, {5: 3.0}]},
    )
    hits = papers.search([0.0, 0.0], text="safe", named={"title": [0.0, 0.0, 0.0]}, sparse={5: 1.0}, k=3)
    assert sorted(hits.ids) == [1, 2, 3]
    by_id = {hit.id: hit for hit in hits}
    assert by_id[1].field_scores == {"title": 0.0} and by_id[3].field_scores == {"terms": 3.0}
    assert by_id[2].text_score is None and by_id[2].vector_score == -1.0
    share = [61 / (61 + rank) for rank in range(3)]
    assert by_id[1].score == pytest.approx((share[0] + by_id_rank(papers, 1) + share[0]) / 4)
    assert papers.search(text="safe", sparse={"terms": {5: 1.0}}, fuse="weighted", alpha=0.9, k=1).ids == [3]
    assert papers.search(like=3, sparse={5: 1.0}, k=1).ids == [2]


def by_id_rank(papers: omendb.Collection, id: int) -> float:
    """The share of a record in the order by text."""
    return 61 / (61 + papers.search(text="safe").ids.index(id))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda docs: docs.upsert("a", [0, 0], sparse={"nope": {1: 1.0}}), "no field"),
        (lambda docs: docs.upsert("a", [0, 0], sparse={"title": {1: 1.0}}), "sparse vectors were given"),
        (lambda docs: docs.upsert("a", [0, 0], named={"terms": [1.0]}), "taken for a vector"),
        (lambda docs: docs.upsert("a", [0, 0], named={"title": [1.0]}), "wrong dimension"),
        (lambda docs: docs.upsert("a", [0, 0], named={"title": [1.0, 2.0, float("nan")]}), "NaN"),
        (lambda docs: docs.upsert("a", [0, 0], sparse={"terms": {-1: 1.0}}), "integer from 0"),
        (lambda docs: docs.upsert("a", [0, 0], sparse={"terms": {2**32: 1.0}}), "integer from 0"),
        (lambda docs: docs.upsert("a", [0, 0], sparse={"terms": {"x": 1.0}}), "integer from 0"),
        (lambda docs: docs.upsert("a", [0, 0], sparse={"terms": {1: float("nan")}}), "NaN"),
        (lambda docs: docs.upsert("a", [0, 0], sparse={"terms": {1: "x"}}), "number was expected"),
        (lambda docs: docs.upsert("a", [0, 0], sparse={"terms": ([1, 1], [1.0, 2.0])}), "twice"),
        (lambda docs: docs.upsert("a", [0, 0], sparse={"terms": ([1], [1.0, 2.0])}), "1 ids but 2 weights"),
        (lambda docs: docs.upsert("a", [0, 0], sparse={"terms": 3}), "dict of weights"),
        (lambda docs: docs.upsert(["a"], [[0, 0]], sparse={"terms": {1: 1.0}}), "list of one a record"),
        (lambda docs: docs.upsert(["a"], [[0, 0]], sparse={"terms": []}), "1 records but 0 rows"),
        (lambda docs: docs.upsert(["a"], [[0, 0]], named={"title": [[1, 2, 3]] * 2}), "1 records but 2 rows"),
        (lambda docs: docs.search(sparse={1: 1.0}, using="nope"), "no field"),
        (lambda docs: docs.search([0.0, 0.0], using="terms"), "taken for a vector"),
        (lambda docs: docs.search(sparse={1: 1.0}, mmr=0.5), "mmr"),
        (lambda docs: docs.explain(), "either"),
    ],
)
def test_bad_input_is_refused_whole(papers: omendb.Collection, write: Callable[[Any], object], words: str) -> None:
    with pytest.raises(omendb.InvalidInput, match=words):
        write(papers)
    assert len(papers) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"vectors": {"x": 3}},
        {"vectors": {"x": {"dim": 3, "size": 1}}},
        {"vectors": {"x": {"dim": 0}}},
        {"vectors": {"text": {"dim": 3}}},
        {"vectors": {"x": {"dim": 3, "metric": "nope"}}},
        {"sparse": "terms"},
        {"sparse": ["a", "a"]},
        {"sparse": [1]},
    ],
)
def test_bad_declarations_are_refused(db: omendb.Database, fields: dict[str, Any]) -> None:
    with pytest.raises(omendb.InvalidInput):
        db.create_collection("bad", 2, **fields)
    assert db.list_collections() == []


def test_too_many_entries_are_refused(papers: omendb.Collection) -> None:
    with pytest.raises(omendb.LimitExceeded, match="65536"):
        papers.upsert("a", [0, 0], sparse={"terms": dict.fromkeys(range(65_537), 1.0)})
