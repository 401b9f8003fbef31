"""Makes a data set of twice the rows of another one: its own, and the same moved by a little noise.

  twice.py sift-1m sift-2m

Its queries are asked of twice the rows; exact neighbours are found anew. Data sets lie in ~/.cache/omendb-bench/SET.
"""

import argparse
import json
import os
import shutil

import numpy as np

NEIGHBOURS = 100
ROWS_AT_ONCE = 100_000


def nearest(rows, queries):
    """Numbers of the nearest rows of each query under L2, nearest first."""
    best = [np.empty((len(queries), 0))] * 2
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        distances = (part * part).sum(1) - 2 * queries @ part.T
        numbers = np.broadcast_to(np.arange(start, start + len(part)), distances.shape)
        distances, numbers = np.hstack([best[0], distances]), np.hstack([best[1], numbers])
        kept = np.argpartition(distances, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        best = [np.take_along_axis(distances, kept, 1), np.take_along_axis(numbers, kept, 1)]
    return np.take_along_axis(best[1], np.argsort(best[0], axis=1), 1).astype(np.int32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("made")
    parser.add_argument("--noise", type=float, default=4.0, help="standard deviation of the noise")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--data", default=os.path.expanduser("~/.cache/omendb-bench"))
    arguments = parser.parse_args()
    source, made = (os.path.join(arguments.data, name) for name in (arguments.source, arguments.made))
    with open(os.path.join(source, "meta.json")) as file:
        if json.load(file)["metric"] != "l2":
            raise SystemExit(f"{source} is not compared by L2")
    rows = np.load(os.path.join(source, "base.npy")).astype(np.float32)
    draw = np.random.default_rng(3)
    moved = rows + draw.standard_normal(rows.shape, dtype=np.float32) * arguments.noise
    rows = np.concatenate([rows, np.maximum(moved, 0) if rows.min() >= 0 else moved])
    queries = np.load(os.path.join(source, "queries.npy")).astype(np.float32)[: arguments.queries]
    os.makedirs(made, exist_ok=True)
    np.save(os.path.join(made, "base.npy"), rows)
    np.save(os.path.join(made, "queries.npy"), queries)
    truth = [nearest(rows, queries[start : start + 100]) for start in range(0, len(queries), 100)]
    np.save(os.path.join(made, "gt_ids.npy"), np.concatenate(truth))
    shutil.copy(os.path.join(source, "meta.json"), os.path.join(made, "meta.json"))


if __name__ == "__main__":
    main()
