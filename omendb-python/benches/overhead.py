"""What a call from Python costs above the same call from Rust.

Build both optimised, then compare:

    cargo build --release -p omendb-bench
    maturin build --release --manifest-path omendb-python/Cargo.toml --out target/wheels
    pip install --no-index --no-deps --force-reinstall target/wheels/omendb-*.whl
    python omendb-python/benches/overhead.py target/release/omendb-bench

The bounds: at most 5 microseconds a single search, 5 % of a batch search and of an upsert.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import omendb

DIM, RECORDS, SEARCHES, BATCH, QUERIES, REPEAT = 128, 1_000, 5_000, 100_000, 100, 5


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def open_memory() -> omendb.Database:
    return omendb.open(":memory:", memory_budget=2 << 30)


def filled(db: omendb.Database, name: str, vectors: np.ndarray) -> omendb.Collection:
    docs = db.create_collection(name, dim=DIM)
    docs.upsert(np.arange(len(vectors)), vectors)
    docs.flush()
    return docs


def measure() -> dict[str, float]:
    """The figures of `omendb-bench calls`, from Python."""
    rng = np.random.default_rng(1)
    vectors = rng.uniform(-1, 1, (BATCH, DIM)).astype(np.float32)
    docs = filled(open_memory(), "small", vectors[:RECORDS])
    queries = rng.uniform(-1, 1, (SEARCHES, DIM)).astype(np.float32)
    searches = []
    for query in queries:
        start = time.perf_counter()
        docs.search(query, 10)
        searches.append((time.perf_counter() - start) * 1e6)
    docs = filled(open_memory(), "large", vectors)
    ids = np.arange(BATCH)
    batch, upsert = [], []
    for _ in range(REPEAT):
        batch.append(seconds(lambda: docs.search_batch(queries[:QUERIES], k=10, threads=1, include=("metadata", "text"))))
        target = open_memory().create_collection("target", dim=DIM)
        upsert.append(seconds(lambda: target.upsert(ids, vectors)))
    return {"search_us": statistics.median(searches), "search_batch_s": min(batch), "upsert_s": min(upsert)}


def main() -> None:
    program = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    arguments = {"dim": DIM, "records": RECORDS, "searches": SEARCHES, "batch": BATCH, "queries": QUERIES, "repeat": REPEAT}
    command = [program, "calls", *(part for name, value in arguments.items() for part in (f"--{name}", str(value)))]
    rust: list[dict[str, float]] = []
    python: list[dict[str, float]] = []
    for _ in range(rounds):  # in turns, so that what else the machine does falls on both
        rust.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        python.append(measure())
    for name, unit, scale in (("search_us", "us", 1), ("search_batch_s", "ms", 1e3), ("upsert_s", "ms", 1e3)):
        # The least disturbed round of each.
        in_rust, in_python = (min(each[name] for each in side) * scale for side in (rust, python))
        more = in_python - in_rust
        print(
            f"{name.rpartition('_')[0]:13} Rust {in_rust:9.2f} {unit}  Python {in_python:9.2f} {unit}  "
            f"difference {more:+8.2f} {unit}  {100 * more / in_rust:+6.1f} %"
        )


if __name__ == "__main__":
    main()
