"""Kinds of search: within a radius, by groups, for diversity, by a record; what explain tells and recall measures."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import omendb

N, DIM = 600, 8


@pytest.fixture
def vectors(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((N, DIM)).astype(np.float32)


@pytest.fixture
def points(db: omendb.Database, vectors: np.ndarray) -> omendb.Collection:
    """Two segments and memory; every tenth record deleted."""
    docs = db.create_collection("points", dim=DIM, metric="l2")
    metadata = [{"n": n, "mark": f"m{n % 7}", "half": n % 2 == 0} for n in range(N)]
    for start in (0, 250, 450):
        rows = slice(start, {0: 250, 250: 450, 450: N}[start])
        docs.upsert(np.arange(N)[rows], vectors[rows], metadata[rows])
        if start < 450:
            docs.flush()
    docs.delete([n for n in range(N) if n % 10 == 9])
    return docs


def ranked(vectors: np.ndarray, query: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Live records by distance, and all distances."""
    distances = np.linalg.norm(vectors - query, axis=1)
    return [int(n) for n in np.argsort(distances, kind="stable") if n % 10 != 9], distances


def test_within_a_radius(points: omendb.Collection, vectors: np.ndarray) -> None:
    order, distances = ranked(vectors, vectors[3])
    radius = float(distances[order[40]]) + 1e-4
    within = points.search(vectors[3], k=1000, max_distance=radius)
    assert within.ids == order[:41] and within.complete
    assert not points.search(vectors[3], k=10, max_distance=radius).complete
    half = points.search(vectors[3], k=1000, max_distance=radius, filter={"half": True}, min_score=-radius / 2, offset=1)
    assert half.ids == [n for n in order if n % 2 == 0 and distances[n] <= radius / 2][1:]
    many = points.search_batch(vectors[:5], k=1000, max_distance=radius)
    assert many[3].ids == within.ids
    assert len(points.search(vectors[3], max_distance=-1)) == 0


def test_groups(points: omendb.Collection, vectors: np.ndarray) -> None:
    order, _ = ranked(vectors, vectors[3])
    groups = points.search_groups(vectors[3], "mark", k=4, per_group=3, filter={"half": True})
    expected: dict[str, list[int]] = {}
    for n in order:
        if n % 2 == 0:
            expected.setdefault(f"m{n % 7}", []).append(n)
    assert groups.values == list(expected)[:4] and not groups.complete
    for group in groups:
        assert group.hits.ids == expected[str(group.value)][:3] and not group.hits.complete
    every = points.search_groups(vectors[3], "mark", k=50, per_group=500)
    assert len(every) == 7 and every.complete and all(group.hits.complete for group in every)
    assert sum(len(group.hits) for group in every) == len(points)
    assert points.search_groups(vectors[3], "half", k=5).values == [False, True]
    assert repr(groups[0]).startswith("Group('m3', ids=[3") or repr(groups[0]).startswith("Group('m")
    assert "complete=False" in repr(groups) and "<table>" in groups._repr_html_()
    assert len(groups[1:]) == 3
    assert points.search_groups(vectors[3], "nowhere").complete


def test_diversity(points: omendb.Collection, vectors: np.ndarray) -> None:
    plain = points.search(vectors[3], k=10)
    assert points.search(vectors[3], k=10, mmr=1.0).ids == plain.ids
    diverse = points.search(vectors[3], k=10, mmr=0.3, mmr_pool=60)
    assert diverse.ids[0] == plain.ids[0] and len(set(diverse.ids)) == 10

    def spread(ids: list[Any]) -> float:
        rows = vectors[ids]
        return float(min(np.linalg.norm(a - b) for i, a in enumerate(rows) for b in rows[:i]))

    assert spread(diverse.ids) > spread(plain.ids)
    assert points.search_batch(vectors[3:4], k=10, mmr=0.3, mmr_pool=60)[0].ids == diverse.ids


def test_like_a_record(points: omendb.Collection, vectors: np.ndarray) -> None:
    order, _ = ranked(vectors, vectors[3])
    assert points.search(like=3, k=5).ids == [n for n in order if n != 3][:5]
    only = points.search(like=3, k=5, filter={"half": False}, offset=1)
    assert only.ids == [n for n in order if n % 2 == 1 and n != 3][1:6]
    with pytest.raises(omendb.NotFound, match="no record"):
        points.search(like=9)
    with pytest.raises(omendb.InvalidInput, match="both"):
        points.search(vectors[3], like=3)


def test_explain(points: omendb.Collection, vectors: np.ndarray) -> None:
    told = points.explain(vectors[3], k=5, filter={"half": True})
    assert told.hits.ids == points.search(vectors[3], k=5, filter={"half": True}).ids
    assert [part.segment is None for part in told.parts] == [False] * (len(told.parts) - 1) + [True]
    matching = points.count(filter={"half": True})
    assert told.distances == told.rows_visited == matching == sum(part.matching or 0 for part in told.parts)
    assert sum(part.rows for part in told.parts) == len(points) and told.estimated_recall == 1.0
    assert {part.plan for part in told.parts} == {"scan"} and all(part.reason for part in told.parts)
    assert "memory" in repr(told) and "distances" in repr(told)
    assert "<table>" in told._repr_html_() and "scan" in told._repr_html_()


def test_explain_and_recall_with_a_graph(db: omendb.Database, rng: np.random.Generator) -> None:
    docs = db.create_collection("graph", dim=16, metric="l2")
    docs.upsert(np.arange(20_000), rng.standard_normal((20_000, 16)).astype(np.float32))
    docs.wait_indexed()
    told = docs.explain(np.zeros(16), k=10)
    assert [part.plan for part in told.parts] == ["graph"] and told.parts[0].reason is None
    assert 0 < told.distances < 20_000 and told.estimated_recall is not None and 0.9 < told.estimated_recall <= 1
    assert docs.explain(np.zeros(16), recall=1).distances == 20_000
    assert docs.explain(np.zeros(16), ef=64).estimated_recall is None
    assert "unknown" in repr(docs.explain(np.zeros(16), ef=64))
    assert docs.recall(sample=100, k=10) >= 0.9
    assert docs.recall(sample=20, recall=1) == 1.0
    assert docs.recall(sample=100, recall=0.99) >= docs.recall(sample=100, ef=10)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_distance": float("nan")},
        {"max_distance": "near"},
        {"mmr": 1.5},
        {"mmr": -0.1},
        {"mmr": "much"},
        {"mmr": 0.5, "mmr_pool": 0},
        {"mmr_pool": 10},
        {"mmr": True},
    ],
)
def test_bad_arguments_are_refused(docs: omendb.Collection, arguments: dict[str, Any]) -> None:
    docs.upsert(["a"], np.ones((1, 4)))
    with pytest.raises(omendb.InvalidInput):
        docs.search(np.ones(4), **arguments)
    with pytest.raises(omendb.InvalidInput):
        docs.search_batch(np.ones((1, 4)), **arguments)


def test_bad_calls_are_refused(docs: omendb.Collection) -> None:
    docs.upsert(["a"], np.ones((1, 4)))
    for call in (
        lambda: docs.search_groups(np.ones(4), ""),
        lambda: docs.search_groups(np.ones(4), "a..b"),
        lambda: docs.search_groups(np.ones(4), 5),  # type: ignore[arg-type]
        lambda: docs.search_groups(np.ones(4), "a", per_group=0),
        lambda: docs.search_groups(np.ones(4), "a", k=0),
        lambda: docs.recall(sample=0),
        lambda: docs.recall(k=0),
        lambda: docs.explain(np.ones(3)),
        lambda: docs.search(like=-1),
        lambda: docs.search(like=1.5),  # type: ignore[arg-type]
    ):
        with pytest.raises(omendb.InvalidInput):
            call()
    for too_much in (
        lambda: docs.search(np.ones(4), k=1001, mmr=0.5),
        lambda: docs.search(np.ones(4), mmr=0.5, mmr_pool=10_001),
        lambda: docs.search_groups(np.ones(4), "a", k=1000, per_group=1000),
    ):
        with pytest.raises(omendb.LimitExceeded):
            too_much()


def test_coroutines(points: omendb.Collection, vectors: np.ndarray, path: Any) -> None:
    async def main() -> None:
        async with await omendb.AsyncDatabase.open(":memory:") as db:
            docs = await db.create_collection("docs", dim=DIM, metric="l2")
            await docs.upsert(np.arange(N), vectors, [{"mark": n % 7} for n in range(N)])
            like = await docs.search(like=3, k=2, max_distance=100.0, mmr=0.5)
            assert len(like) == 2 and 3 not in like.ids
            assert len(await docs.search_groups(vectors[3], "mark", k=3)) == 3
            assert await docs.recall(sample=10) == 1.0
            assert (await docs.explain(vectors[3])).distances == N

    asyncio.run(main())
