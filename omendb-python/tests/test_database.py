"""Collections, maintenance, copies, damage, reports, tables in, coroutines, interrupts."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import omendb
from omendb import _native


def test_collections_come_and_go(db: omendb.Database) -> None:
    docs = db.create_collection("docs", 3, "euclid", "float16", quantization="auto", profile="default")
    assert (docs.name, docs.dim, docs.metric, docs.dtype) == ("docs", 3, "l2", "f16")
    with pytest.raises(omendb.AlreadyExists):
        db.create_collection("docs", dim=3)
    assert db.get_or_create_collection("docs", 3, "l2", "f16").name == "docs"
    with pytest.raises(omendb.OmenError):
        db.get_or_create_collection("docs", 4, "l2", "f16")
    assert "docs" in db and "other" not in db and db["docs"].dim == 3
    db.create_collection("more", dim=2)
    assert sorted(db.list_collections()) == ["docs", "more"]
    db.delete_collection("docs")
    assert db.list_collections() == ["more"]
    with pytest.raises(omendb.NotFound):
        db.delete_collection("docs")


@pytest.mark.parametrize(
    "arguments",
    [
        {"dim": 0},
        {"dim": 65_537},
        {"dim": -1},
        {"dim": 2.5},
        {"dim": "2"},
        {"dim": 2, "metric": "manhattan"},
        {"dim": 2, "metric": None},
        {"dim": 2, "metric": "hamming"},
        {"dim": 2, "dtype": "f64"},
        {"dim": 2, "dtype": "bits"},
        {"dim": 2, "quantization": "magic"},
        {"dim": 2, "profile": "fast"},
        {"dim": 2, "name": ""},
        {"dim": 2, "name": "x" * 256},
        {"dim": 2, "name": 5},
    ],
)
def test_bad_schemas_are_refused(db: omendb.Database, arguments: dict[str, object]) -> None:
    with pytest.raises((omendb.InvalidInput, omendb.LimitExceeded)):
        db.create_collection(**{"name": "docs", **arguments})  # type: ignore[arg-type]
    assert db.list_collections() == []


def test_what_is_not_there_yet_is_never_ignored(db: omendb.Database) -> None:
    for options in (
        {"quantization": "pq", "metric": "dot"},
        {"quantization": "rabitq4", "metric": "dot"},
        {"quantization": "binary"},
        {"quantization": "rabitq", "metric": "dot"},
        {"quantization": "rabitq", "dim": 1025},
    ):
        with pytest.raises(omendb.Unsupported, match="auto, none"):
            db.create_collection("docs", **{"dim": 2, **options})  # type: ignore[arg-type]
    with pytest.raises(omendb.InvalidInput, match="leave out one"):
        db.create_collection("docs", dim=2, quantization="rabitq", profile="compact")
    assert db.list_collections() == []


def test_quantizations_differ_in_memory_and_last(path: Path, rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((5_000, 64)).astype(np.float32)
    bytes_of = {}
    with omendb.open(path) as db:
        names = ("rabitq", "sq8", "rabitq4", "pq", "none")
        for tuning in ({}, {"profile": "compact"}, *({"quantization": name} for name in names)):
            docs = db.create_collection("-".join(tuning.values()) or "plain", dim=64, **tuning)
            docs.upsert(np.arange(5_000), vectors)
            docs.wait_indexed()
            stats = docs.stats()
            bytes_of[docs.name] = stats.graph_bytes
            assert stats.unindexed_rows == 0 and docs.recall(sample=50) >= 0.9
        assert "no graphs" in repr(db["none"].explain(vectors[0])) and db["none"].recall(sample=50) == 1.0
    # Once it has a file, a compact graph keeps only its codes in memory.
    assert bytes_of["none"] == 0 < bytes_of["compact"] <= bytes_of["sq8"] < bytes_of["rabitq"] / 1.5
    assert bytes_of["pq"] < bytes_of["sq8"] > bytes_of["rabitq4"]
    with omendb.open(path) as db:
        assert (db["sq8"].quantization, db["compact"].profile, db["plain"].quantization) == ("sq8", "compact", "auto")
        assert db.get_or_create_collection("sq8", 64).quantization == "sq8"
        assert db["rabitq4"].quantization == "rabitq4"
        with pytest.raises(omendb.InvalidInput, match="quantization sq8"):
            db.get_or_create_collection("sq8", 64, quantization="rabitq")


def test_iterate_sees_one_view(docs: omendb.Collection) -> None:
    docs.upsert(np.arange(2500), np.ones((2500, 4)))
    records = docs.iterate(batch_size=100)
    first = next(records)
    docs.delete(list(range(2500)))
    assert len({first.id, *(record.id for record in records)}) == 2500
    assert len(docs) == 0
    with pytest.raises(omendb.InvalidInput):
        docs.iterate(batch_size=0)


def test_maintenance_keeps_the_records(db: omendb.Database, docs: omendb.Collection) -> None:
    docs.upsert(np.arange(100), np.ones((100, 4)))
    docs.flush()
    docs.delete(np.arange(50))
    db.flush()
    docs.compact(progress=True)
    db.compact(progress=True)
    docs.wait_indexed()
    docs.wait_indexed(progress=True, settled=True)
    assert len(docs) == 50 and sorted(record.id for record in docs) == list(range(50, 100))
    stats = docs.stats()
    assert (stats.records, stats.deleted, stats.memtable_records) == (50, 0, 0)
    for deep in (False, True):
        report = db.check(deep=deep)
        assert report and report.ok and report.problems == ()


def test_backup_verifies_and_restores(db: omendb.Database, docs: omendb.Collection, tmp_path: Path) -> None:
    docs.upsert(["a"], np.ones((1, 4)), [{"n": 1}])
    assert db.backup(tmp_path / "copy", progress=True).files > 0
    docs.delete("a")
    assert omendb.verify_backup(tmp_path / "copy").ok
    assert omendb.restore(tmp_path / "copy", tmp_path / "restored").ok
    with omendb.open(tmp_path / "restored") as restored:
        record = restored["docs"].get("a")
        assert record is not None and record.metadata == {"n": 1}
    with pytest.raises(omendb.OmenError):
        db.backup(tmp_path / "copy")
    with pytest.raises(omendb.OmenError):
        omendb.verify_backup(tmp_path / "nothing")


def test_damage_is_found_and_salvaged(path: Path, tmp_path: Path) -> None:
    with omendb.open(path) as db:
        docs = db.create_collection("docs", dim=4, metric="l2")
        docs.upsert(np.arange(1000), np.ones((1000, 4)))
        docs.flush()
    largest = max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    largest.write_bytes(content)
    try:
        with omendb.open(path) as db:
            assert not db.check(deep=True).ok
    except omendb.Corrupt as error:
        assert error.file
    report = omendb.salvage(path, tmp_path / "saved")
    assert report.records_saved + report.records_lost == 1000 or report.problems
    with omendb.open(tmp_path / "saved") as db:
        assert db.check(deep=True).ok


def test_reports_know_every_field_of_the_engine(db: omendb.Database, docs: omendb.Collection, tmp_path: Path) -> None:
    docs.upsert(["a"], np.ones((1, 4)))
    native = db._native
    raw = native.stats()
    pairs = [
        (raw, omendb.Stats),
        (raw["collections"][0], omendb.CollectionStats),
        (raw["write"], omendb.Latency),
        (native.check(False), omendb.CheckReport),
        (native.backup(tmp_path / "copy"), omendb.BackupReport),
        (native.recovery(), omendb.RecoveryReport),
        (_native.salvage(tmp_path / "copy", tmp_path / "saved"), omendb.SalvageReport),
        (docs._native.explain(np.ones(4, np.float32), docs._wanted(1, None, None, None, None, None, ()))[0]["parts"][0], omendb.PartPlan),
    ]
    for given, kind in pairs:
        assert set(given) == {field.name for field in dataclasses.fields(kind)}, kind.__name__
    stats = db.stats()
    assert stats.records == 1 and stats.collections[0].name == "docs" and stats.write.count >= 1
    assert "omendb" in db.prometheus()
    assert db.recovery().truncated_bytes == 0


def test_reprs(db: omendb.Database, docs: omendb.Collection) -> None:
    docs.upsert("a", [1, 2, 3, 4], {"n": 1}, "it's text")
    assert repr(db).endswith("collections=['docs'])")
    assert repr(docs) == "Collection('docs', dim=4, metric='l2', dtype='f32', records=1)"
    assert repr(docs.get("a")) == "Record(id='a', metadata={'n': 1}, text=\"it's text\", vector=<4 float32>)"
    assert repr(docs.search_batch(np.ones((2, 4)), k=3)) == "BatchHits(queries=2, k=3)"
    for shown in (db, docs, docs.search_batch(np.ones((2, 4)), k=1)):
        assert shown._repr_html_().startswith("<table>")


def test_tables_in(docs: omendb.Collection) -> None:
    pandas, polars, pyarrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    vectors = np.arange(8, dtype=np.float32).reshape(2, 4)
    columns = {"id": ["a", "b"], "text": ["x", None], "lang": ["en", None], "year": [2020, 2021]}
    fixed = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), 4)
    arrow = pyarrow.table({**columns, "vector": fixed})
    tables = [
        pandas.DataFrame({**columns, "vector": list(vectors)}),
        polars.DataFrame({**columns, "vector": vectors.tolist()}),
        polars.DataFrame({**columns, "vector": polars.Series(vectors.tolist(), dtype=polars.Array(polars.Float32, 4))}),
        arrow,
        pyarrow.table({**columns, "vector": vectors.tolist()}),
        pyarrow.concat_tables([arrow.slice(0, 1), arrow.slice(1)]),
        arrow.to_batches()[0],
    ]
    for table in tables:
        assert docs.upsert(table) == 2
        first, second = docs.get(["a", "b"])
        assert first is not None and second is not None
        assert first.vector.tolist() == [0, 1, 2, 3] and second.vector.tolist() == [4, 5, 6, 7]
        assert first.metadata == {"lang": "en", "year": 2020} and second.metadata == {"year": 2021}
        assert (first.text, second.text) == ("x", None)
        docs.delete(["a", "b"])
    nested = pyarrow.table({"_id": [1], "embedding": [[1.0, 2.0, 3.0, 4.0]], "metadata": [{"n": {"deep": [1]}}]})
    docs.add(nested)
    record = docs.get(1)
    assert record is not None and record.metadata == {"n": {"deep": [1]}}


def test_bad_tables_are_refused(docs: omendb.Collection) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    with pytest.raises(omendb.InvalidInput, match="'vector' was expected"):
        docs.upsert(pyarrow.table({"id": [1]}))
    with pytest.raises(omendb.InvalidInput, match="row 1 has no vector"):
        docs.upsert(pyarrow.table({"id": [1, 2], "vector": [[1.0, 2.0, 3.0, 4.0], None]}))
    with pytest.raises(omendb.InvalidInput, match="text and metadata columns"):
        docs.upsert(pyarrow.table({"id": [1], "vector": [[1.0] * 4]}), text=["x"])
    assert len(docs) == 0


async def test_coroutines(path: Path) -> None:
    async with await omendb.AsyncDatabase.open(path) as db:
        docs = await db.create_collection("docs", dim=2, metric="l2")
        assert await docs.upsert(["a", "b"], [[0.0, 0.0], [3.0, 4.0]], [{"n": 1}, None]) == 2
        assert (await docs.search([0.0, 0.0], k=1)).ids == ["a"]
        found = await asyncio.gather(*(docs.search([float(n), 0.0], k=1) for n in range(20)))
        assert all(len(hits) == 1 for hits in found)
        assert (await docs.search_batch([[3.0, 4.0]], k=1)).ids.tolist() == [["b"]]
        record = await docs.get("a")
        assert record is not None and record.metadata == {"n": 1}
        await docs.update("a", text="new")
        assert {record.id async for record in docs.iterate(batch_size=1)} == {"a", "b"}
        assert await docs.contains("a") and await docs.count() == 2 and await docs.delete("a") == 1
        with pytest.raises(omendb.InvalidInput):
            await docs.upsert(["c"], [[1.0]])
        await docs.flush()
        await docs.wait_indexed()
        assert (await db.check(deep=True)).ok and await db.list_collections() == ["docs"]


async def test_cancellation_returns_at_once(rng: np.random.Generator) -> None:
    async with await omendb.AsyncDatabase.open(":memory:") as db:
        docs = await db.create_collection("docs", dim=64)
        vectors = rng.standard_normal((20_000, 64)).astype(np.float32)
        await docs.upsert(np.arange(20_000), vectors)
        task = asyncio.create_task(docs.search_batch(vectors[:4000], k=10))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < 1.0
        assert (await docs.search(vectors[0], k=1)).ids == [0]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_interrupt_stops_a_batch_search() -> None:
    script = """
        import numpy as np, omendb
        docs = omendb.open(":memory:").create_collection("docs", dim=128)
        vectors = np.random.default_rng(1).standard_normal((50_000, 128), dtype=np.float32)
        docs.upsert(np.arange(50_000), vectors)
        print("ready", flush=True)
        try:
            while True:
                docs.search_batch(vectors, k=10)
        except KeyboardInterrupt:
            print("interrupted", len(docs.search(vectors[0], k=1)), flush=True)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        assert process.stdout.readline() == "interrupted 1\n"
        assert time.monotonic() - started < 10.0
        assert process.wait(timeout=60) == 0


def test_other_threads_run_during_a_call(rng: np.random.Generator) -> None:
    import threading

    docs = omendb.open(":memory:").create_collection("docs", dim=64)
    vectors = rng.standard_normal((20_000, 64)).astype(np.float32)
    docs.upsert(np.arange(20_000), vectors)
    ticks = 0
    done = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    thread = threading.Thread(target=tick)
    thread.start()
    docs.search_batch(vectors[:1000], k=10)
    seen = ticks
    done.set()
    thread.join()
    assert seen >= 3
