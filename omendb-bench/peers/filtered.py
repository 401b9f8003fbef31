#!/usr/bin/env python3
"""Filtered search of OmenDB beside LanceDB, zvec, qdrant-edge and Chroma, each as its Python package is used.

  filtered.py FOLDER [--rows N] [--queries Q] [--peers omendb,zvec,qdrant,lancedb,chroma] [--prepare] [--out FILE]

FOLDER is a data set of compare.py. Every row gets two integer labels: `even`, without order, and `near`, its rank by
distance from one row, so that a filter `near < w` passes a ball. First each peer by itself is prepared: it builds its
store, and for each share of rows that pass it is asked with growing effort until its recall@10 is .95; both are kept
(--keep) and not repeated by the next run. `--prepare` does just that. Then all peers, each a process of its own pinned
to the same core, are asked in turns at these efforts, one query at a time, for the table of queries a second of
processor time; where no effort is enough, at the highest. Exact answers are computed with numpy.
"""
import argparse
import datetime
import json
import os
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

import compare

K, WANTED = 10, 0.95
SHARES = [100, 50, 20, 10, 5, 1, 0.1, 0.01]
CASES = [(None, 100)] + [(field, share) for field in ("even", "near") for share in SHARES[1:]]
SCALE = 1_000_000_000  # labels run up to this, so that bounds can differ and pass the same rows
BEAMS = [16, 32, 64, 128, 256, 512, 1024, 2048]
QUERIES_AT_ONCE = 50
THREADS = os.cpu_count()  # of a build


def width_of(share):
    return int(share / 100 * SCALE)


def load(folder, count, asked):
    """The first rows, queries from everywhere in the set's order, and the metric; cosine wants rows of length one."""
    metric = json.load(open(f"{folder}/meta.json"))["metric"]
    rows = np.ascontiguousarray(np.load(f"{folder}/base.npy", mmap_mode="r")[:count], np.float32)
    queries = np.load(f"{folder}/queries.npy", mmap_mode="r")
    queries = np.ascontiguousarray(queries[:: max(1, len(queries) // asked)][:asked], np.float32)
    if metric == "cosine":
        return compare.peers.normalised(rows), compare.peers.normalised(queries), metric
    return rows, queries, metric


def distances(rows, squares, queries, metric):
    """Orders like the metric, a line a query."""
    products = queries @ rows.T
    return -products if metric == "cosine" else squares - 2 * products


def labels(rows, metric):
    n = len(rows)
    even = (np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(11)).astype(np.float64) / 2**53
    far = distances(rows, (rows**2).sum(1), rows[n // 2 : n // 2 + 1], metric)[0]
    near = np.empty(n, np.int64)
    near[np.argsort(far, kind="stable")] = np.arange(n) * SCALE // n
    return {"even": (even * SCALE).astype(np.int64), "near": near}


class Truth:
    """The distance of the tenth nearest row of each query that passes each case's filter, and how many rows do."""

    def __init__(self, rows, queries, metric):
        self.rows, self.queries, self.metric = rows, queries, metric
        self.squares = (rows**2).sum(1)
        marks = labels(rows, metric)
        passing = [np.flatnonzero(marks[f] < width_of(share)) if f else np.arange(len(rows)) for f, share in CASES]
        self.counts = [len(numbers) for numbers in passing]
        parts = [self.tenth(queries[s : s + QUERIES_AT_ONCE], passing) for s in range(0, len(queries), QUERIES_AT_ONCE)]
        self.limits = np.concatenate(parts, 1)

    def tenth(self, queries, passing):
        far = distances(self.rows, self.squares, queries, self.metric)
        last = [min(K, len(numbers)) - 1 for numbers in passing]
        return np.array([np.partition(far[:, numbers], k)[:, k] for numbers, k in zip(passing, last)])

    def recall(self, case, found):
        """Recall of the answers to the first queries; a row counts if it is no farther than the tenth nearest."""
        hits = 0
        for query, ids, limit in zip(self.queries, found, self.limits[case]):
            far = distances(self.rows[ids], self.squares[ids], query[None], self.metric)[0]
            hits += int((far <= limit + abs(limit) * 1e-5 + 1e-6).sum())
        return hits / (min(K, self.counts[case]) * len(found))


class Omendb:
    PACKAGE, EFFORTS = "omendb", [0.9, 0.95, 0.98, 0.99]

    def build(self, path, rows, labels, metric):
        import omendb
        db = omendb.open(path)
        docs = db.create_collection("docs", dim=rows.shape[1], metric=metric)
        for s in range(0, len(rows), 20_000):
            part = slice(s, s + 20_000)
            marks = zip(labels["even"][part].tolist(), labels["near"][part].tolist())
            meta = [{"even": even, "near": near} for even, near in marks]
            docs.upsert(ids=list(range(s, s + len(meta))), vectors=rows[part], metadata=meta)
        docs.wait_indexed(settled=True)
        db.close()

    def open(self, path, metric):
        import omendb
        self.db = omendb.open(path)
        self.docs = self.db.get_collection("docs")
        self.docs.wait_indexed(settled=True)

    def search(self, query, field, width, effort):
        condition = {field: {"$lt": width}} if field else None
        return self.docs.search(query, k=K, recall=effort, filter=condition, include=[]).ids


class Zvec:
    PACKAGE, EFFORTS = "zvec", BEAMS

    def start(self, path):
        import zvec
        zvec.init(query_threads=1, optimize_threads=THREADS, log_dir=f"{path}-log")
        return zvec

    def build(self, path, rows, labels, metric):
        zvec = self.start(path)
        kind = zvec.MetricType.COSINE if metric == "cosine" else zvec.MetricType.L2
        invert = zvec.InvertIndexParam(enable_range_optimization=True)
        graph = zvec.HnswIndexParam(metric_type=kind, m=16, ef_construction=200)
        docs = zvec.create_and_open(path=path, schema=zvec.CollectionSchema(
            name="docs",
            fields=[zvec.FieldSchema(field, zvec.DataType.INT64, index_param=invert) for field in labels],
            vectors=[zvec.VectorSchema("v", zvec.DataType.VECTOR_FP32, rows.shape[1], graph)]))
        for s in range(0, len(rows), 1_000):
            docs.insert([
                zvec.Doc(str(i), vectors={"v": rows[i].tolist()}, fields={f: int(labels[f][i]) for f in labels})
                for i in range(s, min(s + 1_000, len(rows)))])
        docs.optimize()
        docs.flush()

    def open(self, path, metric):
        self.zvec = self.start(path)
        self.docs = self.zvec.open(path)

    def search(self, query, field, width, effort):
        near = self.zvec.Query(field_name="v", vector=query, param=self.zvec.HnswQueryParam(ef=effort))
        found = self.docs.query(near, topk=K, filter=f"{field} < {width}" if field else None, output_fields=[])
        return [int(doc.id) for doc in found]


class Qdrant:
    PACKAGE, EFFORTS = "qdrant-edge-py", BEAMS

    def build(self, path, rows, labels, metric):
        import qdrant_edge as q
        os.makedirs(path)
        kind = q.Distance.Cosine if metric == "cosine" else q.Distance.Euclid
        hnsw = q.HnswIndexConfig(m=16, ef_construct=200, full_scan_threshold=10_000, max_indexing_threads=THREADS)
        config = q.EdgeConfig(vectors=q.EdgeVectorParams(size=rows.shape[1], distance=kind), hnsw_config=hnsw)
        shard = q.EdgeShard.create(path, config)
        for field in labels:
            shard.update(q.UpdateOperation.create_field_index(field, q.PayloadSchemaType.Integer))
        for s in range(0, len(rows), 5_000):
            shard.update(q.UpdateOperation.upsert_points([
                q.Point(id=i, vector=rows[i].tolist(), payload={f: int(labels[f][i]) for f in labels})
                for i in range(s, min(s + 5_000, len(rows)))]))
        while shard.optimize():
            pass
        shard.flush()
        shard.close()

    def open(self, path, metric):
        import qdrant_edge
        self.q, self.shard = qdrant_edge, qdrant_edge.EdgeShard.load(path)

    def search(self, query, field, width, effort):
        q = self.q
        condition = q.Filter(must=[q.FieldCondition(field, range=q.RangeFloat(lt=width))]) if field else None
        request = q.SearchRequest(query=q.Query.Nearest(query.tolist()), limit=K, filter=condition,
                                  params=q.SearchParams(hnsw_ef=effort), with_payload=False, with_vector=False)
        return [point.id for point in self.shard.search(request)]


class Lancedb:
    # Partitions to search, the beam in each, and how many times ten candidates are compared exactly.
    PACKAGE = "lancedb"
    EFFORTS = [(2, 64, 1), (4, 64, 1), (4, 64, 4), (8, 64, 4), (20, 64, 4), (20, 256, 4), (20, 1024, 4)]

    def build(self, path, rows, labels, metric):
        import lancedb
        import pyarrow as pa
        from lancedb.index import BTree, HnswSq
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
        table = pa.table({"id": np.arange(len(rows)), "vector": vectors, **labels})
        table = lancedb.connect(path).create_table("docs", table)
        partitions = max(1, len(rows) // 50_000)
        table.create_index("vector", config=HnswSq(metric, num_partitions=partitions, m=16, ef_construction=200))
        for field in labels:
            table.create_index(field, config=BTree())

    def open(self, path, metric):
        import lancedb
        self.metric, self.table = metric, lancedb.connect(path).open_table("docs")

    def search(self, query, field, width, effort):
        probes, beam, refine = effort
        search = self.table.search(query).distance_type(self.metric).limit(K).select(["id", "_distance"])
        search = search.nprobes(probes).ef(beam).refine_factor(refine)
        if field:
            search = search.where(f"{field} < {width}", prefilter=True)
        return search.to_arrow()["id"].to_pylist()


class Chroma:
    PACKAGE, EFFORTS = "chromadb", [16, 64, 256, 1024]

    def connect(self, path):
        import chromadb
        self.client = chromadb.PersistentClient(path, chromadb.Settings(anonymized_telemetry=False))

    def build(self, path, rows, labels, metric):
        self.connect(path)
        hnsw = {"space": metric, "ef_construction": 200, "max_neighbors": 16, "num_threads": THREADS}
        docs = self.client.create_collection("docs", configuration={"hnsw": hnsw}, embedding_function=None)
        for s in range(0, len(rows), 5_000):
            ids = range(s, min(s + 5_000, len(rows)))
            docs.add(ids=[str(i) for i in ids], embeddings=rows[s : s + 5_000],
                     metadatas=[{f: int(labels[f][i]) for f in labels} for i in ids])

    def open(self, path, metric, effort=EFFORTS[0]):
        self.connect(path)
        self.docs = self.client.get_collection("docs", embedding_function=None)
        self.docs.modify(configuration={"hnsw": {"ef_search": effort}})
        self.path, self.metric, self.effort = path, metric, effort

    def search(self, query, field, width, effort):
        if effort != self.effort:  # an index keeps the effort with which it was loaded
            self.client.close()
            self.open(self.path, self.metric, effort)
        where = {field: {"$lt": width}} if field else None
        found = self.docs.query(query_embeddings=[query], n_results=K, where=where, include=[])
        return [int(i) for i in found["ids"][0]]


PEERS = {"omendb": Omendb, "zvec": Zvec, "qdrant": Qdrant, "lancedb": Lancedb, "chroma": Chroma}


def build(given):
    """Builds the store of one peer, in a process of its own."""
    rows, _, metric = load(given.folder, given.rows, given.queries)
    marks = labels(rows, metric)
    clock = time.perf_counter()
    PEERS[given.one]().build(given.store, rows, marks, metric)
    seconds, used = time.perf_counter() - clock, resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"seconds": seconds, "cpu": used.ru_utime + used.ru_stime}))


def serve(given):
    """Opens the store of one peer and answers cases on standard input, each with an effort and a time limit."""
    metric = json.load(open(f"{given.folder}/meta.json"))["metric"]
    _, queries, _ = load(given.folder, 1, given.queries)
    peer = PEERS[given.one]()
    peer.open(given.store, metric)
    peer.search(queries[0], None, SCALE, peer.EFFORTS[0])
    print(json.dumps({"efforts": peer.EFFORTS}), flush=True)
    asked = [0] * len(CASES)
    for line in sys.stdin:
        case, effort, limit = json.loads(line)
        field, share = CASES[case]
        peer.search(queries[-1], field, width_of(share), effort)
        found, clock, busy = [], time.perf_counter(), time.process_time()
        for query in queries:
            asked[case] += given.fresh
            found.append(peer.search(query, field, width_of(share) - asked[case], effort))
            if time.perf_counter() - clock > limit:
                break
        print(json.dumps({"found": found, "qps": len(found) / (time.process_time() - busy)}), flush=True)


class Peer(compare.Program):
    """A process that serves one peer's store."""

    def __init__(self, name, given):
        super().__init__(name, command(name, "serve", given), given.core)

    def ask(self, case, effort, limit):
        self.process.stdin.write(json.dumps([case, effort, limit]) + "\n")
        self.process.stdin.flush()
        return self.read()


def store_of(name, given):
    return f"{given.keep}/{Path(given.folder).name}-{given.rows}-{name}"


def command(name, step, given):
    options = ["--rows", str(given.rows), "--queries", str(given.queries), "--store", store_of(name, given)]
    options += ["--fresh"] if given.fresh else []
    return [sys.executable, __file__, given.folder, *options, "--one", name, "--step", step]


def prepare(name, given, truth):
    """Builds what is not built and finds the efforts that are not known; both are remembered beside the store."""
    built, tuned = (Path(f"{store_of(name, given)}-{what}.json") for what in ("built", "tuned"))
    if not built.exists():
        done = subprocess.run(command(name, "build", given), stdout=subprocess.PIPE, timeout=given.limit, check=True)
        built.write_bytes(done.stdout.splitlines()[-1])
        print(f"{name}: built, {built.read_text()}", file=sys.stderr, flush=True)
    peer, cases = Peer(name, given), []
    for case in range(len(CASES)):
        for effort in peer.about["efforts"]:
            said = peer.ask(case, effort, given.tune_seconds)
            recall = truth.recall(case, said["found"])
            if recall >= WANTED:
                break
        cases.append({"effort": effort, "recall": recall, "pass": truth.counts[case], "asked": len(said["found"])})
        print(name, *CASES[case], cases[-1], f"{said['qps']:.1f}", file=sys.stderr, flush=True)
    peer.end()
    tuned.write_text(json.dumps(cases))


def measure(names, given):
    """The best rate of each peer and case, all peers asked in turns."""
    tuned = {name: json.loads(Path(f"{store_of(name, given)}-tuned.json").read_text()) for name in names}
    programs = {name: Peer(name, given) for name in names}
    rates = {}
    for _ in range(given.rounds):
        for case in range(len(CASES)):
            for name, program in programs.items():
                said = program.ask(case, tuned[name][case]["effort"], given.seconds)
                rates[name, case] = max(said["qps"], rates.get((name, case), 0))
    for program in programs.values():
        program.end()
    return tuned, rates


def shown(rate):
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def report(names, tuned, rates, given):
    load_average = " ".join(open("/proc/loadavg").read().split()[:3])
    versions = ", ".join(f"{name} {version(PEERS[name].PACKAGE)}" for name in names)
    lines = [
        f"{datetime.date.today()}, {compare.machine()}, load average {load_average}; {versions}. "
        f"{Path(given.folder).name}, the first {given.rows:,} rows; queries a second of processor time, one at a time on one core, best of "
        f"{given.rounds} rounds of up to {given.seconds:g} s (recall@10 at that effort); "
        f"{'each query with a bound of its own' if given.fresh else 'one filter for all queries of a line'}. "
        f"Ahead: the rate of {names[0]} over the best peer's.",
        "",
        f"| filter | pass | {' | '.join(names)} | ahead |",
        "|---|---|" + "---|" * (len(names) + 1),
    ]
    for case, (field, share) in enumerate(CASES):
        cells = [f"{shown(rates[name, case])} ({tuned[name][case]['recall']:.3f})" for name in names]
        ahead = rates[names[0], case] / max((rates[name, case] for name in names[1:]), default=float("nan"))
        lines.append(f"| {field or 'none'} | {share} % | {' | '.join(cells)} | {ahead:.2f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1, help="longest measurement of one case and round")
    parser.add_argument("--tune-seconds", type=float, default=10, help="longest try of one effort")
    parser.add_argument("--limit", type=float, default=3_600, help="seconds after which a build is given up")
    parser.add_argument("--core", type=int, default=os.cpu_count() - 1)
    parser.add_argument("--keep", default=os.path.expanduser("~/.cache/omendb-bench/filtered"))
    parser.add_argument("--prepare", action="store_true", help="only build the stores and find the efforts")
    parser.add_argument("--fresh", action="store_true", help="a bound of its own for every query")
    parser.add_argument("--out")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        {"build": build, "serve": serve}[given.step](given)
        return
    os.makedirs(given.keep, exist_ok=True)
    names = given.peers.split(",")
    missing = [name for name in names if not os.path.exists(f"{store_of(name, given)}-tuned.json")]
    truth = Truth(*load(given.folder, given.rows, given.queries)) if missing else None
    for name in missing:
        prepare(name, given, truth)
    if given.prepare:
        return
    text = report(names, *measure(names, given), given)
    print(text)
    if given.out:
        Path(given.out).write_text(text)


if __name__ == "__main__":
    main()
