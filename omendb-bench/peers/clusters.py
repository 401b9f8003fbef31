"""Makes a data set of separate clusters, where the rows that pass a filter can lie far from each other and the query.

  clusters.py clusters-200k --rows 200000

Data sets lie in ~/.cache/omendb-bench/SET, as compare.py and the program's `filtered` read them.
"""

import argparse
import json
import os

import numpy as np

CLUSTERS, DIM, NEIGHBOURS = 16, 48, 100
CENTRES, NOISE = 1.41, 0.707


def nearest(rows, queries):
    """Numbers of the nearest rows of each query, nearest first."""
    distances = (rows * rows).sum(1) - 2 * queries @ rows.T
    best = np.argpartition(distances, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    return np.take_along_axis(best, np.argsort(np.take_along_axis(distances, best, 1), axis=1), 1).astype(np.int32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("made")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--data", default=os.path.expanduser("~/.cache/omendb-bench"))
    arguments = parser.parse_args()
    draw = np.random.default_rng(arguments.seed)
    centres = draw.standard_normal((CLUSTERS, DIM)) * CENTRES
    count = arguments.rows + arguments.queries
    rows = centres[draw.integers(CLUSTERS, size=count)] + draw.standard_normal((count, DIM)) * NOISE
    rows = rows.astype(np.float32)
    base, queries = rows[: arguments.rows], rows[arguments.rows :]
    path = os.path.join(arguments.data, arguments.made)
    os.makedirs(path, exist_ok=True)
    np.save(os.path.join(path, "base.npy"), base)
    np.save(os.path.join(path, "queries.npy"), queries)
    truth = [nearest(base, queries[start : start + 100]) for start in range(0, len(queries), 100)]
    np.save(os.path.join(path, "gt_ids.npy"), np.concatenate(truth))
    with open(os.path.join(path, "meta.json"), "w") as file:
        json.dump({"metric": "l2"}, file)


if __name__ == "__main__":
    main()
