"""What string ids and vectors cost in memory on their way in and out.

    python omendb-python/benches/memory.py [ROWS] [DIM]

Each step's peak of anonymous memory above what was there before it, beside the bytes of the data (vectors and the
letters of the ids). The bound: twice the data. Linux only.
"""

from __future__ import annotations

import re
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import omendb


def anonymous() -> int:
    """Bytes of memory of this process that no file stands behind."""
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def peak_of(work: Callable[[], Any]) -> int:
    """The most that this process takes while it works, above what it took before."""
    before = peak = anonymous()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return peak - before


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    dim = int(sys.argv[2]) if len(sys.argv) > 2 else 128
    vectors = np.random.default_rng(1).standard_normal((rows, dim), dtype=np.float32)
    ids = [f"document_{row:09}" for row in range(rows)]
    data = vectors.nbytes + sum(map(len, ids))
    print(f"{rows:,} records of {dim} dimensions: {data / 2**20:,.0f} MiB")
    with tempfile.TemporaryDirectory() as folder, omendb.open(f"{folder}/db") as db:
        docs = db.create_collection("docs", dim=dim, quantization="none")
        steps: dict[str, Callable[[], Any]] = {
            "upsert": lambda: docs.upsert(ids, vectors),
            "iterate over all": lambda: sum(1 for _ in docs.iterate(batch_size=10_000)),
            "get all, vectors too": lambda: docs.get(ids),
            "100 searches, k=10": lambda: docs.search_batch(vectors[:100], k=10).ids,
        }
        for name, work in steps.items():
            peak = peak_of(work)
            print(f"{name:24} {peak / 2**20:6,.0f} MiB  {peak / data:.2f} of the data")


if __name__ == "__main__":
    main()
