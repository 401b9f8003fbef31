"""Searching: right answers, arguments, results."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest

import omendb

N, DIM = 500, 16


@pytest.fixture
def vectors(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((N, DIM)).astype(np.float32)


def filled(db: omendb.Database, vectors: np.ndarray, metric: str) -> omendb.Collection:
    docs = db.create_collection(f"filled {metric}", dim=DIM, metric=metric)
    docs.upsert(
        np.arange(N), vectors, [{"n": n, "even": n % 2 == 0} for n in range(N)], [f"text {n}" for n in range(N)]
    )
    return docs


def exact(vectors: np.ndarray, query: np.ndarray, metric: str) -> np.ndarray:
    wide, target = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "l2":
        return np.linalg.norm(wide - target, axis=1)
    if metric == "dot":
        return -(wide @ target)
    return 1.0 - (wide @ target) / (np.linalg.norm(wide, axis=1) * np.linalg.norm(target))


@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
@pytest.mark.parametrize("flushed", [False, True])
def test_search_agrees_with_numpy(db: omendb.Database, vectors: np.ndarray, metric: str, flushed: bool) -> None:
    docs = filled(db, vectors, metric)
    if flushed:
        docs.flush()
    query = vectors[3] * 0.6 + vectors[4] * 0.5
    distances = exact(vectors, query, metric)
    order = np.argsort(distances, kind="stable")[:10]
    hits = docs.search(query, k=10)
    assert hits.ids == order.tolist()
    assert np.allclose(hits.distances, distances[order], atol=1e-5)
    sign = 1.0 - distances[order] if metric == "cosine" else -distances[order]
    assert np.allclose(hits.scores, sign, atol=1e-5)
    assert hits[0].metadata == {"n": order[0], "even": order[0] % 2 == 0} and hits[0].text == f"text {order[0]}"
    assert hits[0].vector is None and not hits.complete


@pytest.mark.parametrize("alias", ["cos", "angular", "euclidean", "euclid", "ip", "inner_product", "COSINE"])
def test_metric_spellings(db: omendb.Database, alias: str) -> None:
    assert db.create_collection("m", dim=2, metric=alias).metric in ("cosine", "l2", "dot")


def test_batch_agrees_with_single(db: omendb.Database, vectors: np.ndarray) -> None:
    docs = filled(db, vectors, "cosine")
    many = docs.search_batch(vectors[:300], k=5, include=["metadata"])
    assert many.ids.shape == many.scores.shape == many.distances.shape == (300, 5)
    assert many.ids.dtype == np.int64 and len(many) == 300
    for row in (0, 150, 299, -1):
        hits = docs.search(vectors[:300][row], k=5)
        assert many[row].ids == hits.ids == many.ids[row].tolist()
        assert np.array_equal(many.scores[row], hits.scores)
        assert many[row][0].metadata == hits[0].metadata and many[row][0].text is None
    assert [hits.ids[0] for hits in many] == list(range(300))
    assert len(many[10:12]) == 2
    with pytest.raises(IndexError):
        many[300]


def test_batch_pads_what_is_missing(docs: omendb.Collection) -> None:
    docs.upsert(["a", 7], [[0, 0, 0, 0], [1, 1, 1, 1]])
    many = docs.search_batch(np.zeros((2, 4)), k=3)
    assert many.ids.dtype == object and many.ids.tolist() == [["a", 7, None]] * 2
    assert many.distances[0].tolist() == [0.0, 2.0, np.inf]
    assert many.scores[0].tolist() == [0.0, -2.0, -np.inf]
    assert many.counts.tolist() == [2, 2] and many[0].complete
    docs.delete("a")
    assert docs.search_batch(np.zeros((1, 4)), k=2).ids.tolist() == [[7, -1]]
    assert docs.search_batch(np.empty((0, 4)), k=2).ids.shape == (0, 2)


def test_offset_min_score_and_include(docs: omendb.Collection) -> None:
    docs.upsert([1, 2, 3], [[1, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0]], [{"n": n} for n in (1, 2, 3)], ["x", "y", "z"])
    assert docs.search([0, 0, 0, 0], k=2, offset=1).ids == [2, 3]
    assert docs.search([0, 0, 0, 0], k=9, min_score=-2.5).ids == [1, 2]
    hit = docs.search([0, 0, 0, 0], k=1, include=["vector"])[0]
    assert hit.vector is not None and hit.vector.tolist() == [1, 0, 0, 0]
    assert hit.metadata is None and hit.text is None
    assert docs.search([0, 0, 0, 0], include=()).ids == [1, 2, 3]


@pytest.mark.parametrize(
    "arguments",
    [
        {"k": 0},
        {"k": -1},
        {"k": 2.5},
        {"k": True},
        {"k": "ten"},
        {"k": 100_001},
        {"offset": -1},
        {"offset": 1.5},
        {"min_score": "high"},
        {"min_score": float("nan")},
        {"include": ["distance"]},
        {"recall": 0},
        {"recall": 0.4},
        {"recall": True},
        {"recall": float("nan")},
        {"ef": 1.5},
        {"ef": 100_001},
        {"recall": 1.1},
        {"recall": "all"},
        {"ef": 0},
        {"filter": 5},
        {"text": 5},
    ],
)
def test_bad_arguments_are_refused(docs: omendb.Collection, arguments: dict[str, Any]) -> None:
    docs.upsert(["a"], np.ones((1, 4)))
    with pytest.raises((omendb.InvalidInput, omendb.LimitExceeded)):
        docs.search(np.ones(4), **arguments)
    arguments.pop("text", None)
    if arguments:
        with pytest.raises((omendb.InvalidInput, omendb.LimitExceeded)):
            docs.search_batch(np.ones((2, 4)), **arguments)


@pytest.mark.parametrize("vector", [None, np.ones(3), np.ones((2, 4)), [1, 2, 3, float("nan")], "vector", [[1, 2], [3]]])
def test_bad_queries_are_refused(docs: omendb.Collection, vector: Any) -> None:
    docs.upsert(["a"], np.ones((1, 4)))
    with pytest.raises(omendb.InvalidInput):
        docs.search(vector)


def test_batch_of_another_width_is_refused(docs: omendb.Collection) -> None:
    docs.upsert(["a"], np.ones((1, 4)))
    with pytest.raises(omendb.InvalidInput, match="wrong dimension: 2"):
        docs.search_batch(np.ones((2, 2)))


def test_recall_and_effort_are_settings(docs: omendb.Collection, rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((3000, 4)).astype(np.float32)
    docs.upsert(np.arange(3000), vectors)
    docs.wait_indexed()
    exact = docs.search_batch(vectors[:50], k=10, recall=1).ids
    for row in range(50):
        assert exact[row].tolist() == np.argsort(np.linalg.norm(vectors - vectors[row], axis=1))[:10].tolist()
    for quality in ({}, {"recall": 0.99}, {"ef": 500}):
        found = docs.search_batch(vectors[:50], k=10, **quality).ids
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)]) >= 0.9


def test_a_row_of_one_query_is_one_vector(docs: omendb.Collection) -> None:
    docs.upsert(["a"], np.ones((1, 4)))
    assert docs.search(np.ones((1, 4))).ids == ["a"]


def test_hits_are_a_sequence(docs: omendb.Collection) -> None:
    docs.upsert(["a", "b", "c"], [[n, 0, 0, 0] for n in range(3)], [{"<b>": 1}, None, {}])
    hits = docs.search(np.zeros(4), k=5)
    assert len(hits) == 3 and hits.complete and [hit.id for hit in hits] == ["a", "b", "c"]
    assert hits[-1].id == "c" and [hit.id for hit in hits[:2]] == ["a", "b"]
    assert hits[0] in hits and hits[0].metadata == {"<b>": 1} and hits[1].metadata is None and hits[2].metadata == {}
    assert repr(hits).startswith("Hits([Hit(id='a', score=")
    assert "<b>" not in hits._repr_html_() and "&lt;b&gt;" in hits._repr_html_()
    assert hits.to_dicts()[1] == {
        "id": "b", "score": -1.0, "distance": 1.0, "metadata": None, "text": None, "vector": None,
        "vector_score": -1.0, "text_score": None, "snippet": None,
    }  # fmt: skip


def test_an_empty_collection_has_no_hits(docs: omendb.Collection) -> None:
    hits = docs.search(np.ones(4))
    assert len(hits) == 0 and hits.complete and hits.ids == [] and hits.scores.shape == (0,) and not hits
    assert docs.search_batch(np.ones((2, 4)), k=2).ids.tolist() == [[-1, -1]] * 2


def test_tables_out(docs: omendb.Collection) -> None:
    pandas, polars, pyarrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    docs.upsert(["a", 7], [[0, 0, 0, 0], [3, 4, 0, 0]], [{"n": [1]}, None], [None, "text"])
    hits = docs.search(np.zeros(4), include=["metadata", "text", "vector"])
    frame = hits.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["id"].tolist() == ["a", 7] and frame["distance"].tolist() == [0.0, 5.0]
    assert frame["metadata"][0] == {"n": [1]}
    table = hits.to_arrow()
    assert isinstance(table, pyarrow.Table) and table.column("id").to_pylist() == ["a", "7"]
    assert json.loads(table.column("metadata")[0].as_py()) == {"n": [1]}
    assert table.column("vector")[1].as_py() == [3, 4, 0, 0]
    other = hits.to_polars()
    assert isinstance(other, polars.DataFrame) and other["text"].to_list() == [None, "text"]
    assert pyarrow.table(hits).num_rows == 2


def test_searches_and_writes_from_many_threads(docs: omendb.Collection, rng: np.random.Generator) -> None:
    docs.upsert(np.arange(200), rng.standard_normal((200, 4)))
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        mine = np.random.default_rng(seed)
        try:
            for n in range(50):
                vector = mine.standard_normal(4)
                docs.upsert([1000 * seed + n], [vector])
                assert 1000 * seed + n in docs.search(vector, k=1).ids
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(docs) == 400
