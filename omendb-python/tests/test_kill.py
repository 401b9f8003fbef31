"""Writers killed with SIGKILL at any moment lose nothing that was acknowledged.

30 kills; 1,000 with OMENDB_LONG=1; as many as OMENDB_KILLS says. OMENDB_SEED chooses the moments.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import omendb

LONG = os.environ.get("OMENDB_LONG") == "1"
KILLS = int(os.environ.get("OMENDB_KILLS") or (1000 if LONG else 30))
SEED = int(os.environ.get("OMENDB_SEED") or 5)

# Each line is printed when its call has returned: `u N` batch N was upserted, `d N` batch N was deleted.
WRITER = """
    import sys
    import numpy as np
    import omendb

    path, seed, start = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = np.random.default_rng(seed)
    docs = omendb.open(path, log_cap=1 << 20).get_or_create_collection("docs", dim=4)
    print("open", flush=True)
    for batch in range(start, start + 1_000_000):
        numbers = list(range(batch * 5, batch * 5 + 5))
        docs.upsert(numbers, np.full((5, 4), 1.0 + batch), [{"batch": batch}] * 5, [f"text {batch}"] * 5)
        print("u", batch, flush=True)
        if batch % 4 == 3:
            docs.delete(filter={"batch": batch - 3})
            print("d", batch - 3, flush=True)
        if rng.random() < 0.02:
            docs.flush()
"""


def run_and_kill(path: Path, seed: int, start: int, calls: int, delay: float) -> list[str]:
    """The lines of a writer that is killed `delay` seconds after it acknowledged `calls` calls."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(seed), str(start)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(calls + 1)]
        time.sleep(delay)
        writer.kill()
        lines += writer.stdout.readlines()
    assert lines[0] == "open\n"
    return [line for line in lines[1:] if line.endswith("\n")]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX")
def test_acknowledged_writes_survive_kills(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(SEED)
    live: set[int] = set()
    start = acknowledged = 0
    for kill in range(KILLS):
        if kill % 25 == 0:
            # A new database every so often: creation is a moment to be killed in, too.
            path, live, start = path.with_name(f"{kill}.omen"), set(), 0
        lines = run_and_kill(path, SEED * 1000 + kill, start, int(rng.integers(0, 40)), float(rng.exponential(0.005)))
        acknowledged += len(lines)
        for line in lines:
            what, batch = line.split()
            (live.add if what == "u" else live.discard)(int(batch))
        with omendb.open(path) as db:
            docs = db.get_collection("docs")
            assert db.check(deep=kill % 10 == 0).ok
            found: dict[int, int] = {}
            for record in docs.iterate():
                assert record.metadata is not None and record.text == f"text {record.metadata['batch']}"
                assert record.vector.tolist() == [1.0 + record.metadata["batch"]] * 4
                found[record.metadata["batch"]] = found.get(record.metadata["batch"], 0) + 1
            assert all(count == 5 for count in found.values()), f"a batch was torn at kill {kill}"
            # Beyond what was acknowledged, only the one call in flight may have been carried out.
            upserted = [int(line.split()[1]) for line in lines if line[0] == "u"]
            last = upserted[-1] if upserted else start - 1
            deleting = {last - 3} if upserted and last % 4 == 3 else set()
            missing, extra = live - set(found), set(found) - live
            assert missing <= deleting, f"kill {kill} lost batches {missing - deleting}"
            assert extra <= {last + 1}, f"kill {kill}: batches {extra} came from nowhere"
            live = set(found)
            start = last + 2
    with capsys.disabled():
        print(f"\nFIGURE kill -9 of Python writers: {KILLS} kills, seed {SEED}, {acknowledged} acknowledged calls, 0 lost")
