"""A writer is killed while it writes, again and again: every write that was acknowledged is there afterwards."""

import subprocess
import sys
import time

import omendb

PATH = "crash.omen"
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 3

# The writer prints the number of each batch when `upsert` has returned: from then on it is a promise.
WRITER = f"""
import omendb
docs = omendb.open({PATH!r}).get_or_create_collection("docs", dim=8)
start = len(docs) // 10
for batch in range(start, start + 1_000_000):
    numbers = range(batch * 10, batch * 10 + 10)
    docs.upsert([f"doc-{{n}}" for n in numbers], [[1.0 + n] * 8 for n in numbers], [{{"n": n}} for n in numbers])
    print(batch, flush=True)
"""

for attempt in range(1, ROUNDS + 1):
    writer = subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    first = writer.stdout.readline()
    time.sleep(0.05 + 0.01 * (attempt % 10))
    writer.kill()  # SIGKILL: the writer gets no chance to tidy up
    lines = [first, *writer.stdout]
    writer.wait()
    acknowledged = int([line for line in lines if line.endswith("\n")][-1]) + 1

    with omendb.open(PATH) as db:
        docs = db.get_collection("docs")
        stored = docs.get([f"doc-{n}" for n in range(acknowledged * 10)])
        lost = sum(record is None or record.metadata != {"n": n} for n, record in enumerate(stored))
        halves = len(docs) % 10  # a batch is there whole or not at all
        print(f"kill {attempt}: {acknowledged} batches acknowledged, {lost} records lost, {halves} of a torn batch")
        assert lost == 0 and halves == 0 and db.check(deep=True).ok
