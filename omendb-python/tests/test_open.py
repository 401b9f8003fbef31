"""Opening, closing, locking and who may use a handle."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import omendb


def test_records_survive_reopening(path: Path) -> None:
    with omendb.open(path) as db:
        db.create_collection("docs", dim=2).upsert(["a"], [[1.0, 2.0]], [{"year": 2020}], ["text"])
    with omendb.open(path) as db:
        record = db.get_collection("docs").get("a")
    assert record is not None
    assert (record.id, record.vector.tolist(), record.metadata, record.text) == ("a", [1.0, 2.0], {"year": 2020}, "text")


@pytest.mark.parametrize("durability", ["commit", "interval", "manual"])
def test_each_durability_opens(path: Path, durability: omendb._types.Durability) -> None:
    with omendb.open(path, durability=durability, interval=0.05, memory_budget=1 << 30, log_cap=1 << 24) as db:
        db.create_collection("docs", dim=2).upsert(["a"], [[1.0, 2.0]])
        db.flush()
    with omendb.open(path, create=False) as db:
        assert len(db.get_collection("docs")) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"durability": "sometimes"}, '"commit", "interval" or "manual"'),
        ({"interval": 0}, "seconds above 0"),
        ({"interval": "soon"}, "seconds above 0"),
        ({"memory_budget": -1}, "at least 1"),
        ({"memory_budget": 1.5}, "at least 1"),
        ({"log_cap": True}, "at least 1"),
        ({"log_cap": 1}, "log cap of 1"),
        ({"memory_budget": 1}, "memory budget of 1"),
    ],
)
def test_bad_options_are_refused(path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(omendb.InvalidInput, match=message):
        omendb.open(path, **options)  # type: ignore[arg-type]
    assert not path.exists()


def test_bad_paths_are_refused() -> None:
    for path in ("", b"bytes"):
        with pytest.raises(omendb.InvalidInput):
            omendb.open(path)  # type: ignore[arg-type]


def test_memory_takes_no_options_of_files() -> None:
    with pytest.raises(omendb.InvalidInput):
        omendb.open(":memory:", read_only=True)
    with omendb.open(":memory:", memory_budget=1 << 30) as db:
        assert db.stats().memory_budget == 1 << 30


def test_missing_database_is_not_created(path: Path) -> None:
    with pytest.raises(omendb.NotFound):
        omendb.open(path, create=False)
    assert not path.exists()


def test_read_only_refuses_writes(path: Path) -> None:
    with omendb.open(path) as db:
        db.create_collection("docs", dim=2).upsert(["a"], [[1.0, 2.0]])
    with omendb.open(path, read_only=True) as db:
        docs = db.get_collection("docs")
        assert docs.search([1.0, 2.0]).ids == ["a"]
        with pytest.raises(omendb.Unusable):
            docs.upsert(["b"], [[1.0, 2.0]])


def test_second_writer_is_locked_out(db: omendb.Database) -> None:
    with pytest.raises(omendb.Locked):
        omendb.open(db.path)


def test_closed_handles_are_unusable(db: omendb.Database) -> None:
    docs = db.create_collection("docs", dim=2)
    db.close()
    assert db.closed and "closed" in repr(db)
    with pytest.raises(omendb.Unusable):
        docs.upsert(["a"], [[1.0, 2.0]])
    with pytest.raises(omendb.Unusable):
        db.create_collection("more", dim=2)
    db.close()


def test_errors_are_also_the_builtin_ones(db: omendb.Database) -> None:
    with pytest.raises(KeyError) as caught:
        db.get_collection("nothing")
    assert isinstance(caught.value, omendb.NotFound)
    assert "nothing" in str(caught.value) and not str(caught.value).startswith('"')
    with pytest.raises(ValueError):
        db.create_collection("docs", dim=0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_handle_is_refused(path: Path) -> None:
    script = f"""
        import os, omendb
        db = omendb.open({str(path)!r})
        docs = db.create_collection("docs", dim=2)
        docs.upsert(["a"], [[1.0, 2.0]])
        if os.fork() == 0:
            refused = 0
            for call in (lambda: docs.upsert(["b"], [[1.0, 2.0]]), lambda: docs.search([1.0, 2.0]), db.flush, db.close):
                try:
                    call()
                except omendb.Unusable as error:
                    refused += "fork" in str(error)
            del docs, db
            os._exit(0 if refused == 4 else 1)
        _, status = os.wait()
        assert os.waitstatus_to_exitcode(status) == 0, status
        docs.upsert(["c"], [[3.0, 4.0]])
        db.close()
        print(sorted(record.id for record in omendb.open({str(path)!r}).get_collection("docs")))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "['a', 'c']", done.stderr


def _count(path: str, results: multiprocessing.Queue[int]) -> None:
    with omendb.open(path, read_only=True) as db:
        results.put(len(db.get_collection("docs")))


def test_spawned_process_reads(path: Path) -> None:
    with omendb.open(path) as db:
        db.create_collection("docs", dim=2).upsert(["a", "b"], [[1.0, 2.0], [3.0, 4.0]])
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_count, args=(str(path), results))
    process.start()
    assert results.get(timeout=60) == 2
    process.join(timeout=60)
    assert process.exitcode == 0


def test_import_is_light() -> None:
    script = "import sys, omendb; print('numpy' in sys.modules, 'asyncio' in sys.modules, omendb.InvalidInput.__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False", "InvalidInput"]


def test_every_public_name_resolves() -> None:
    assert set(omendb.__all__) <= set(dir(omendb))
    for name in omendb.__all__:
        assert getattr(omendb, name) is not None
    with pytest.raises(AttributeError):
        omendb.nothing  # noqa: B018
