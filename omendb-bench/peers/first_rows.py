"""Makes a data set of the first rows and queries of another one, with exact neighbours under cosine.

  first_rows.py text-static-256 text-static-400k --rows 400000 --queries 2000

Data sets lie in ~/.cache/omendb-bench/SET, as compare.py reads them.
"""

import argparse
import json
import os

import numpy as np

NEIGHBOURS = 100
QUERIES_AT_ONCE = 200


def unit(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def nearest(rows, queries):
    """Numbers and cosine distances of the nearest rows of each query, nearest first."""
    rows, numbers, distances = unit(rows), [], []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        scores = unit(queries[start : start + QUERIES_AT_ONCE]) @ rows.T
        best = np.argpartition(-scores, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1), 1)
        numbers.append(best.astype(np.int32))
        distances.append((1 - np.take_along_axis(scores, best, 1)).astype(np.float32))
    return np.concatenate(numbers), np.concatenate(distances)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("made")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--data", default=os.path.expanduser("~/.cache/omendb-bench"))
    arguments = parser.parse_args()
    source, made = f"{arguments.data}/{arguments.source}", f"{arguments.data}/{arguments.made}"
    rows = np.load(f"{source}/base.npy", mmap_mode="r")[: arguments.rows].astype(np.float32)
    queries = np.load(f"{source}/queries.npy")[: arguments.queries].astype(np.float32)
    numbers, distances = nearest(rows, queries)
    about = {"name": arguments.made, "n": len(rows), "d": rows.shape[1], "dtype": "float32", "metric": "cosine"}
    about |= {"nq": len(queries), "note": f"the first rows of {arguments.source}"}
    os.makedirs(made, exist_ok=True)
    for name, array in {"base": rows, "queries": queries, "gt_ids": numbers, "gt_dist": distances}.items():
        np.save(f"{made}/{name}.npy", array)
    with open(f"{made}/meta.json", "w") as file:
        json.dump(about, file)


if __name__ == "__main__":
    main()
