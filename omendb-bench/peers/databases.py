#!/usr/bin/env python3
"""OmenDB and other embedded databases on the whole job: write with string ids until all is indexed, search, reopen.

  databases.py --set sift-1m --rows 100000 [--only omendb,chromadb] [--rounds 3]

Each database is a process of its own in an empty folder, with its own recommended index (HNSW where it has one, 16
links and 200 candidates at the build) and its own way to write many records at once. Measured are

- ingest: from the first record until the last is written, as durable as the database makes it by default, and in the
  index, so that no search scans it;
- search: single queries, one after the other, the process pinned to one core, at the least effort of a fixed list that
  reaches recall@10 of 0.95 (recall is a setting of OmenDB, so there that is what was asked for);
- reopen: a new process opens the database and gets its first answer;
- disk: the folder's bytes over those of the vectors; memory: the peak of the writing process, its input included.

Data sets lie in ~/.cache/omendb-bench/SET. The truth for the first --rows rows is computed exactly. What is not
installed is left out: pip install chromadb lancedb zvec qdrant-edge-py pymilvus milvus-lite sqlite-vec apsw.
"""
import argparse
import contextlib
import importlib.metadata
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

K, WANTED = 10, 0.95
BEAMS = [10, 16, 24, 36, 54, 80, 120, 180, 270, 400, 600]


class OmenDB:
    PACKAGE, EFFORTS, WRITES = "omendb", [0.95], "durable, until the first graph has all"

    def write(self, ids, vectors):
        import omendb
        self.db = omendb.open("data")
        self.docs = self.db.create_collection("vectors", dim=vectors.shape[1], metric="l2")
        for start in range(0, len(ids), 10_000):
            self.docs.upsert(ids[start : start + 10_000], vectors[start : start + 10_000])
        self.docs.wait_indexed()

    def open(self):
        import omendb
        self.db = omendb.open("data", read_only=True)
        self.docs = self.db.get_collection("vectors")

    def search(self, query, effort):
        return self.docs.search(query, k=K, recall=effort).ids

    def close(self):
        self.db.close()


class Settled(OmenDB):
    WRITES = "durable, until the settled graph has all"

    def write(self, ids, vectors):
        super().write(ids, vectors)
        self.docs.wait_indexed(settled=True)


class Chroma:
    PACKAGE, EFFORTS, WRITES = "chromadb", BEAMS, "SQLite, index by its own log"

    def connect(self):
        import chromadb
        self.client = chromadb.PersistentClient("data", settings=chromadb.Settings(anonymized_telemetry=False))

    def write(self, ids, vectors):
        self.connect()
        hnsw = {"space": "l2", "max_neighbors": 16, "ef_construction": 200, "num_threads": os.cpu_count()}
        docs = self.client.create_collection("vectors", configuration={"hnsw": hnsw}, embedding_function=None)
        for start in range(0, len(ids), 5_000):
            docs.add(ids[start : start + 5_000], vectors[start : start + 5_000])

    def open(self, effort=BEAMS[-1]):
        self.connect()
        self.docs, self.effort = self.client.get_collection("vectors", embedding_function=None), effort
        self.docs.modify(configuration={"hnsw": {"ef_search": effort}})

    def search(self, query, effort):
        if effort != self.effort:  # an index keeps the effort with which it was loaded
            self.client.close()
            self.open(effort)
        return self.docs.query(query, n_results=K, include=[])["ids"][0]

    def close(self):
        self.client.close()


class LanceDB:
    PACKAGE, WRITES = "lancedb", "a version a write, IVF_HNSW_SQ"
    EFFORTS = [(n, r) for n in (1, 2, 4, 8, 16, 32) for r in (1, 4)]

    def write(self, ids, vectors):
        import lancedb
        import pyarrow
        db = lancedb.connect("data")
        width = vectors.shape[1]

        def table(part):
            column = pyarrow.FixedSizeListArray.from_arrays(vectors[part].ravel(), width)
            return pyarrow.table({"id": ids[part], "vector": column})

        self.docs = db.create_table("vectors", table(slice(0, 10_000)))
        for start in range(10_000, len(ids), 10_000):
            self.docs.add(table(slice(start, start + 10_000)))
        self.docs.create_index(metric="l2", index_type="IVF_HNSW_SQ", m=16, ef_construction=200)

    def open(self):
        import lancedb
        self.docs = lancedb.connect("data").open_table("vectors")

    def search(self, query, effort):
        probes, refine = effort
        found = self.docs.search(query).nprobes(probes).refine_factor(refine).select(["id", "_distance"]).limit(K)
        return found.to_arrow()["id"].to_pylist()

    def close(self):
        pass


class Zvec:
    PACKAGE, EFFORTS, WRITES = "zvec", BEAMS, "write-ahead log, HNSW by optimize()"

    def write(self, ids, vectors):
        import zvec
        index = zvec.HnswIndexParam(metric_type=zvec.MetricType.L2, m=16, ef_construction=200)
        vector = zvec.VectorSchema("vector", zvec.DataType.VECTOR_FP32, vectors.shape[1], index)
        self.docs = zvec.create_and_open("data", zvec.CollectionSchema("vectors", [], [vector]))
        for start in range(0, len(ids), 1_000):
            part = slice(start, start + 1_000)
            self.docs.insert([zvec.Doc(i, vectors={"vector": v}) for i, v in zip(ids[part], vectors[part].tolist())])
        self.docs.flush()
        self.docs.optimize()

    def open(self):
        import zvec
        self.docs = zvec.open("data")

    def search(self, query, effort):
        import zvec
        near = zvec.Query("vector", vector=query.tolist(), param=zvec.HnswQueryParam(ef=effort))
        return [hit.id for hit in self.docs.query(near, topk=K)]

    def close(self):
        del self.docs


class QdrantEdge:
    PACKAGE, EFFORTS, WRITES = "qdrant-edge-py", BEAMS, "write-ahead log, HNSW by optimize()"

    def write(self, ids, vectors):
        import qdrant_edge as qdrant
        Path("data").mkdir()
        params = qdrant.EdgeVectorParams(size=vectors.shape[1], distance=qdrant.Distance.Euclid)
        index = qdrant.HnswIndexConfig(m=16, ef_construct=200, full_scan_threshold=1_000)
        self.docs = qdrant.EdgeShard.create("data", qdrant.EdgeConfig(vectors={"": params}, hnsw_config=index))
        for start in range(0, len(ids), 10_000):
            part = slice(start, start + 10_000)
            rows = zip(range(start, start + 10_000), ids[part], vectors[part].tolist())
            # Ids are integers or UUIDs there, so the string goes into the payload.
            self.docs.update(qdrant.UpdateOperation.upsert_points([qdrant.Point(n, v, {"id": i}) for n, i, v in rows]))
        self.docs.flush()
        self.docs.optimize()

    def open(self):
        import qdrant_edge as qdrant
        self.docs = qdrant.EdgeShard.load("data")

    def search(self, query, effort):
        import qdrant_edge as qdrant
        near = qdrant.Query.Nearest(query.tolist())
        request = qdrant.SearchRequest(near, limit=K, with_payload=True, params=qdrant.SearchParams(hnsw_ef=effort))
        return [hit.payload["id"] for hit in self.docs.search(request)]

    def close(self):
        self.docs.close()


class MilvusLite:
    PACKAGE, EFFORTS, WRITES = "milvus-lite", BEAMS, "flush() and HNSW"

    def write(self, ids, vectors):
        from pymilvus import DataType, MilvusClient
        self.docs = MilvusClient("data.db")
        schema = self.docs.create_schema(auto_id=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        index = self.docs.prepare_index_params()
        index.add_index("vector", index_type="HNSW", metric_type="L2", params={"M": 16, "efConstruction": 200})
        self.docs.create_collection("vectors", schema=schema, index_params=index)
        for start in range(0, len(ids), 5_000):
            part = slice(start, start + 5_000)
            self.docs.insert("vectors", [{"id": i, "vector": v} for i, v in zip(ids[part], vectors[part])])
        self.docs.flush("vectors")
        while self.docs.describe_index("vectors", "vector")["pending_index_rows"]:
            time.sleep(0.01)

    def open(self):
        from pymilvus import MilvusClient
        self.docs = MilvusClient("data.db")
        self.docs.load_collection("vectors")

    def search(self, query, effort):
        params = {"params": {"ef": effort}}
        found = self.docs.search("vectors", [query.tolist()], limit=K, search_params=params, output_fields=["id"])
        return [hit["id"] for hit in found[0]]

    def close(self):
        self.docs.close()


class SqliteVec:
    PACKAGE, EFFORTS, WRITES = "sqlite-vec", [None], "one transaction a batch, no index: every search scans"

    def connect(self):
        import apsw  # many a Python's own sqlite3 cannot load extensions
        import sqlite_vec
        self.docs = apsw.Connection("data.sqlite")
        self.docs.enable_load_extension(True)
        self.docs.load_extension(sqlite_vec.loadable_path())

    def write(self, ids, vectors):
        self.connect()
        self.docs.execute("pragma journal_mode = wal")
        self.docs.execute(f"create virtual table vectors using vec0(id text primary key, vector float[{vectors.shape[1]}])")
        for start in range(0, len(ids), 10_000):
            part = slice(start, start + 10_000)
            rows = zip(ids[part], (v.tobytes() for v in vectors[part]))
            with self.docs:
                self.docs.executemany("insert into vectors(id, vector) values (?, ?)", rows)

    def open(self):
        self.connect()

    def search(self, query, effort):
        asked = "select id from vectors where vector match ? and k = ? order by distance"
        return [row[0] for row in self.docs.execute(asked, (query.tobytes(), K))]

    def close(self):
        self.docs.close()


DATABASES = {
    "omendb": OmenDB,
    "omendb settled": Settled,
    "chromadb": Chroma,
    "lancedb": LanceDB,
    "zvec": Zvec,
    "qdrant-edge": QdrantEdge,
    "milvus-lite": MilvusLite,
    "sqlite-vec": SqliteVec,
}
MODULES = {"qdrant-edge-py": "qdrant_edge", "milvus-lite": "pymilvus", "sqlite-vec": "sqlite_vec"}


def load(arguments):
    folder = Path(arguments.data) / arguments.set
    rows = np.load(folder / "base.npy", mmap_mode="r")[: arguments.rows].astype(np.float32)
    return rows, np.load(folder / "queries.npy")[: arguments.queries].astype(np.float32)


def truth(rows, queries):
    """The distance of the tenth nearest row to each query, with some room for rounding, squared."""
    limits = []
    norms = (rows * rows).sum(1)
    for query in queries:
        squared = norms - 2 * (rows @ query)
        limits.append(float(np.partition(squared, K - 1)[K - 1] + query @ query) * (1 + 1e-5))
    return limits


def folder_bytes():
    return sum(each.stat().st_size for each in Path(".").rglob("*") if each.is_file())


def write(database, arguments):
    vectors, queries = load(arguments)
    ids = [f"sift_{row:07}" for row in range(len(vectors))]
    importlib.import_module(MODULES.get(database.PACKAGE, database.PACKAGE))
    start = time.perf_counter()
    busy = time.process_time()
    database.write(ids, vectors)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    database.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"ingest": seconds, "processor": busy, "disk": folder_bytes() / vectors.nbytes, "memory": peak / vectors.nbytes}


def pin(core):
    """Keeps every thread of this process, and those that they start, on one core."""
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(task), {core})


def search(database, arguments):
    vectors, queries = load(arguments)
    start = time.perf_counter()
    database.open()
    database.search(queries[0], database.EFFORTS[-1])
    reopen = time.perf_counter() - start
    pin(os.cpu_count() - 1)
    limits = truth(vectors, queries)
    best = {}
    for effort in database.EFFORTS:
        for query in queries[:50]:
            database.search(query, effort)
        times, found = [], 0
        for query, limit in zip(queries, limits):
            begin = time.perf_counter()
            ids = database.search(query, effort)
            times.append(time.perf_counter() - begin)
            hits = vectors[sorted({int(i[5:]) for i in ids[:K]})]
            found += int((((hits - query) ** 2).sum(1) <= limit).sum())
        recall = found / (K * len(queries))
        best = {"effort": effort, "recall": recall, "us": statistics.median(times) * 1e6, "qps": len(times) / sum(times)}
        if recall >= WANTED:
            break
    database.close()
    return {"reopen": reopen, **best}


def one(arguments):
    database = DATABASES[arguments.one]()
    print(json.dumps(globals()[arguments.step](database, arguments)))


def run(name, arguments, scratch):
    """The figures of one database; those of a step that took longer than the limit, and of the next, are missing."""
    figures = {}
    for step in ("write", "search"):
        command = [sys.executable, __file__, *sys.argv[1:], "--one", name, "--step", step]
        try:
            done = subprocess.run(command, capture_output=True, text=True, cwd=scratch, timeout=arguments.limit)
        except subprocess.TimeoutExpired:
            print(f"{name}: {step} was given up after {arguments.limit:g} s", file=sys.stderr)
            break
        if done.returncode != 0:
            raise RuntimeError(f"{name}: {done.stderr[-3000:]}")
        figures.update(json.loads(done.stdout.splitlines()[-1]))
    print(name, figures, file=sys.stderr, flush=True)
    return figures


def line(name, rounds, rows):
    """A row of the table, with the best of the rounds; a dash where none has the figure."""
    database = DATABASES[name]
    low = min(rounds, key=lambda f: f.get("ingest", float("inf")))
    fast = max(rounds, key=lambda f: f.get("qps", 0))
    shown = [f"{name} {importlib.metadata.version(database.PACKAGE)}", database.WRITES]
    shown += [f"{low['ingest']:.2f} s", f"{rows / low['ingest']:,.0f}"] if low else ["-", "-"]
    shown += [f"{min(f['processor'] for f in rounds if 'processor' in f):.1f} s"] if low else ["-"]
    if "qps" in fast:
        shown += [f"{fast['us']:,.0f} us", f"{fast['qps']:,.0f}", f"{fast['recall']:.3f}"]
        shown += [f"{min(f['reopen'] for f in rounds if 'reopen' in f) * 1e3:,.0f} ms"]
    else:
        shown += ["-"] * 4
    shown += [f"{low['disk']:.2f}x", f"{low['memory']:.1f}x"] if low else ["-", "-"]
    return f"| {' | '.join(shown)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="sift-1m")
    parser.add_argument("--data", default=str(Path.home() / ".cache/omendb-bench"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--only", default=",".join(DATABASES))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--limit", type=float, default=3_600, help="seconds after which one database is given up")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments)
        return
    rounds = {}
    for _ in range(arguments.rounds):
        for name in arguments.only.split(","):
            try:
                importlib.metadata.version(DATABASES[name].PACKAGE)
                with tempfile.TemporaryDirectory() as scratch:
                    rounds.setdefault(name, []).append(run(name, arguments, scratch))
            except (importlib.metadata.PackageNotFoundError, RuntimeError) as e:
                print(f"{name} is left out: {e}", file=sys.stderr)
    print(f"{arguments.set}, the first {arguments.rows:,} rows, {arguments.queries} queries, ", end="")
    print(f"best of {arguments.rounds} rounds.\n")
    heads = ["database", "written", "ingest until indexed", "vectors a second", "processor time"]
    heads += ["a search (median)", "searches a second", "recall@10", "reopen", "disk", "memory"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for name, each in rounds.items():
        print(line(name, each, arguments.rows))


if __name__ == "__main__":
    main()
