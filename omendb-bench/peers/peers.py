#!/usr/bin/env python3
"""One peer in one process, driven by compare.py over its standard input and output.

  peers.py FOLDER PEER [--index FILE] [--threads N]

Builds the peer's index of the data set in FOLDER (or reads it from FILE, written by an earlier run) and answers with a
line of JSON. Then every line on standard input is an effort: all queries are searched with it, one at a time on one
core, and a line of JSON says how many a second and which rows were found. Settings are the peers' own recommendations.
"""
import argparse
import json
import math
import os
import resource
import sys
import time
from importlib.metadata import version

import numpy as np

K = 10
BEAMS = [10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640]


def normalised(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def load(folder):
    """Rows, queries and the metric; cosine becomes an inner product of normalised rows."""
    metric = json.load(open(f"{folder}/meta.json"))["metric"]
    rows, queries = (np.load(f"{folder}/{name}.npy").astype(np.float32) for name in ("base", "queries"))
    if metric in ("cosine", "angular"):
        return normalised(rows), normalised(queries), "ip"
    return rows, queries, "l2"


class Hnswlib:
    PACKAGE, EFFORTS = "hnswlib", BEAMS

    def build(self, rows, metric, threads):
        self.open(None, rows, metric)
        self.index.init_index(len(rows), M=16, ef_construction=200)
        self.index.add_items(rows, num_threads=threads)

    def save(self, path):
        self.index.save_index(path)

    def open(self, path, rows, metric):
        import hnswlib
        self.index = hnswlib.Index(metric, rows.shape[1])
        if path:
            self.index.load_index(path)

    def search(self, queries, effort):
        self.index.set_ef(max(effort, K))
        return self.index.knn_query(queries, K, num_threads=1)[0]


class FaissHnsw:
    PACKAGE, EFFORTS = "faiss-cpu", BEAMS

    def describe(self, rows):
        return "HNSW16,Flat"

    def build(self, rows, metric, threads):
        import faiss
        faiss.omp_set_num_threads(threads)
        kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
        self.index = faiss.index_factory(rows.shape[1], self.describe(rows), kind)
        inner = faiss.downcast_index(self.index)
        if hasattr(inner, "hnsw"):
            inner.hnsw.efConstruction = 200
        self.index.train(rows)
        self.index.add(rows)

    def save(self, path):
        import faiss
        faiss.write_index(self.index, path)

    def open(self, path, rows, metric):
        import faiss
        self.index = faiss.read_index(path)

    def search(self, queries, effort):
        import faiss
        faiss.omp_set_num_threads(1)
        faiss.downcast_index(self.index).hnsw.efSearch = effort
        return self.index.search(queries, K)[1]


class FaissIvfFastScan(FaissHnsw):
    EFFORTS = [4, 8, 16, 32, 64, 128, 256]

    def describe(self, rows):
        return f"IVF{int(4 * math.sqrt(len(rows)))},PQ{rows.shape[1] // 2}x4fs,RFlat"

    def search(self, queries, effort):
        import faiss
        faiss.omp_set_num_threads(1)
        index = faiss.downcast_index(self.index)
        index.k_factor = 20
        faiss.downcast_index(index.base_index).nprobe = effort
        return self.index.search(queries, K)[1]


class Usearch:
    PACKAGE, EFFORTS = "usearch", BEAMS

    def make(self, rows, metric):
        from usearch.index import Index
        kind = "l2sq" if metric == "l2" else "ip"
        self.index = Index(ndim=rows.shape[1], metric=kind, dtype="f32", connectivity=16, expansion_add=200)

    def build(self, rows, metric, threads):
        self.make(rows, metric)
        self.index.add(np.arange(len(rows)), rows, threads=threads)

    def save(self, path):
        self.index.save(path)

    def open(self, path, rows, metric):
        self.make(rows, metric)
        self.index.load(path)

    def search(self, queries, effort):
        self.index.expansion_search = max(effort, K)
        return self.index.search(queries, K, threads=1).keys


class SymphonyQG:
    PACKAGE, EFFORTS = "rabitqlib", [10, 14, 20, 28, 40, 48, 64, 96, 128, 192, 256, 400]

    def build(self, rows, metric, threads):
        import rabitqlib
        self.index = rabitqlib.SymqgIndex(rows.shape[1], 32, metric=metric, quantization_bits=0)
        self.index.build(rows, 200, num_threads=threads, init="pipnn")

    def save(self, path):
        self.index.save(path)

    def open(self, path, rows, metric):
        import rabitqlib
        self.index = rabitqlib.SymqgIndex.load(path)

    def search(self, queries, effort):
        return self.index.search(queries, K, max(effort, K), num_threads=1)[0]


class ScaNN:
    PACKAGE, EFFORTS = "scann", [8, 16, 32, 64, 128, 256]

    def build(self, rows, metric, threads):
        import scann
        kind = "squared_l2" if metric == "l2" else "dot_product"
        builder = scann.scann_ops_pybind.builder(rows, K, kind)
        leaves = int(2 * math.sqrt(len(rows)))
        builder = builder.tree(leaves, num_leaves_to_search=32, training_sample_size=min(len(rows), 250_000))
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(200)
        self.index = builder.set_n_training_threads(threads).build()

    def save(self, path):
        os.makedirs(path, exist_ok=True)
        self.index.serialize(path)

    def open(self, path, rows, metric):
        import scann
        self.index = scann.scann_ops_pybind.load_searcher(path)

    def search(self, queries, effort):
        # One call a query costs it Python's overhead; all in one call are scored together. The better one counts.
        return self.index.search_batched(queries, leaves_to_search=effort)[0]


PEERS = {
    "hnswlib": Hnswlib,
    "faiss-hnsw": FaissHnsw,
    "faiss-ivf-fastscan": FaissIvfFastScan,
    "usearch": Usearch,
    "symphonyqg": SymphonyQG,
    "scann": ScaNN,
}


def resident_bytes():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


def answer(**fields):
    print(json.dumps(fields), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--index")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--queries", type=int, default=0)
    arguments = parser.parse_args()
    sys.stdout, out = sys.stderr, sys.stdout  # whatever a library prints must not be taken for an answer
    rows, queries, metric = load(arguments.folder)
    if arguments.queries:
        queries = queries[: arguments.queries]
    sys.stdout = out
    peer, before, path = PEERS[arguments.peer](), resident_bytes(), arguments.index
    about = f"{path}.json" if path else None
    if path and os.path.exists(path) and os.path.exists(about):
        peer.open(path, rows, metric)
        built = json.load(open(about))
    else:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        clock = time.perf_counter()
        peer.build(rows, metric, arguments.threads)
        seconds, used = time.perf_counter() - clock, resource.getrusage(resource.RUSAGE_SELF)
        cpu = used.ru_utime + used.ru_stime - usage.ru_utime - usage.ru_stime
        built = {"build_s": seconds, "build_cpu_s": cpu, "resident": resident_bytes() - before}
        if path:
            peer.save(path)
            json.dump(built, open(about, "w"))
    answer(rows=len(rows), dim=rows.shape[1], version=version(peer.PACKAGE), efforts=peer.EFFORTS, **built)
    for line in sys.stdin:
        clock = time.perf_counter()
        found = peer.search(queries, json.loads(line))
        seconds = time.perf_counter() - clock
        answer(qps=len(queries) / seconds, found=np.asarray(found, np.int64)[:, :K].tolist())


if __name__ == "__main__":
    main()
