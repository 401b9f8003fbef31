#!/usr/bin/env python3
"""Filtered search of OmenDB beside LanceDB, zvec, qdrant-edge and Chroma, each as its Python package is used.

  filtered.py FOLDER [--n ROWS] [--queries Q] [--peers omendb,zvec,qdrant,lancedb,chroma] [--out FILE]

FOLDER is a data set of compare.py. Every row gets two integer labels: `even`, without any order, and `near`, its rank by
distance from one row, so that a filter `near < w` passes a ball. For each share of rows that pass, each peer is asked
with growing effort until its recall@10 is .95; the table shows the rate of that effort, on one core, one query at a
time, or of the highest effort where none is enough. Exact answers are computed with numpy.
"""
import argparse
import json
import os
import shutil
import sys
import tempfile
import time

import numpy as np

K = 10
SHARES = [100, 50, 20, 10, 5, 1, 0.1, 0.01]
SCALE = 1_000_000
EFFORTS = [32, 64, 128, 256, 512, 1024]


def labels(rows, metric):
    n = len(rows)
    even = (np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(11)).astype(np.float64) / 2**53
    centre = rows[n // 2]
    far = -(rows @ centre) if metric == "cosine" else (rows**2).sum(1) - 2 * (rows @ centre)
    near = np.empty(n, np.int64)
    near[np.argsort(far, kind="stable")] = np.arange(n) * SCALE // n
    return {"even": (even * SCALE).astype(np.int64), "near": near}


def truth(rows, queries, mask, metric):
    """The tenth smallest distance of each query among the rows of the mask, and how many there are."""
    some = rows[mask]
    squares = (some**2).sum(1)
    far = []
    for query in queries:
        d = -(some @ query) if metric == "cosine" else squares - 2 * (some @ query)
        k = min(K, len(d))
        far.append(np.partition(d, k - 1)[k - 1] if k else np.inf)
    return far


class Omendb:
    EFFORTS = [0.9, 0.95, 0.98, 0.99]

    def build(self, path, rows, labels, metric):
        import omendb
        self.db = omendb.open(path)
        self.docs = self.db.create_collection("docs", dim=rows.shape[1], metric="cosine" if metric == "cosine" else "l2")
        for s in range(0, len(rows), 20_000):
            meta = [{"even": int(e), "near": int(n)} for e, n in zip(labels["even"][s:s + 20_000], labels["near"][s:s + 20_000])]
            self.docs.upsert(ids=list(range(s, s + len(meta))), vectors=rows[s:s + 20_000], metadata=meta)
        self.docs.wait_indexed(settled=True)

    def search(self, query, field, width, effort):
        condition = {field: {"$lt": width}} if field else None
        return self.docs.search(query, k=K, recall=effort, filter=condition, include=[]).ids


class Zvec:
    EFFORTS = EFFORTS

    def build(self, path, rows, labels, metric):
        import zvec
        self.zvec = zvec
        zvec.init(query_threads=1, optimize_threads=2, log_dir=path + "-log")
        kind = zvec.MetricType.COSINE if metric == "cosine" else zvec.MetricType.L2
        invert = zvec.InvertIndexParam(enable_range_optimization=True)
        schema = zvec.CollectionSchema(
            name="docs",
            fields=[zvec.FieldSchema(f, zvec.DataType.INT64, index_param=invert) for f in ("even", "near")],
            vectors=[zvec.VectorSchema("v", zvec.DataType.VECTOR_FP32, rows.shape[1],
                                       zvec.HnswIndexParam(metric_type=kind, m=16, ef_construction=200))])
        self.docs = zvec.create_and_open(path=path, schema=schema)
        for s in range(0, len(rows), 1_000):
            self.docs.insert([
                zvec.Doc(id=str(i), vectors={"v": rows[i].tolist()}, fields={f: int(labels[f][i]) for f in labels})
                for i in range(s, min(s + 1_000, len(rows)))])
        self.docs.optimize()
        self.docs.flush()

    def search(self, query, field, width, effort):
        z = self.zvec
        found = self.docs.query(z.Query(field_name="v", vector=query, param=z.HnswQueryParam(ef=effort)), topk=K,
                                filter=f"{field} < {width}" if field else None, output_fields=[])
        return [int(doc.id) for doc in found]


class Qdrant:
    EFFORTS = EFFORTS

    def build(self, path, rows, labels, metric):
        import qdrant_edge as q
        self.q = q
        os.makedirs(path)
        kind = q.Distance.Cosine if metric == "cosine" else q.Distance.Euclid
        hnsw = q.HnswIndexConfig(m=16, ef_construct=200, full_scan_threshold=10_000, max_indexing_threads=2)
        config = q.EdgeConfig(vectors=q.EdgeVectorParams(size=rows.shape[1], distance=kind), hnsw_config=hnsw)
        self.shard = q.EdgeShard.create(path, config)
        for field in labels:
            self.shard.update(q.UpdateOperation.create_field_index(field, q.PayloadSchemaType.Integer))
        for s in range(0, len(rows), 5_000):
            self.shard.update(q.UpdateOperation.upsert_points([
                q.Point(id=i, vector=rows[i].tolist(), payload={f: int(labels[f][i]) for f in labels})
                for i in range(s, min(s + 5_000, len(rows)))]))
        while self.shard.optimize():
            pass

    def search(self, query, field, width, effort):
        q = self.q
        condition = q.Filter(must=[q.FieldCondition(field, range=q.RangeFloat(lt=width))]) if field else None
        request = q.SearchRequest(query=q.Query.Nearest(query.tolist()), limit=K, filter=condition,
                                  params=q.SearchParams(hnsw_ef=effort), with_payload=False, with_vector=False)
        return [point.id for point in self.shard.search(request)]


class Lancedb:
    EFFORTS = [1, 2, 4, 8, 16, 32]

    def build(self, path, rows, labels, metric):
        import lancedb
        import pyarrow as pa
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
        table = pa.table({"id": np.arange(len(rows)), "vector": vectors, **labels})
        self.metric = "cosine" if metric == "cosine" else "l2"
        self.table = lancedb.connect(path).create_table("docs", table)
        from lancedb.index import BTree, HnswSq
        partitions = max(1, len(rows) // 50_000)
        config = HnswSq(distance_type=self.metric, num_partitions=partitions, m=16, ef_construction=200)
        self.table.create_index("vector", config=config)
        for field in labels:
            self.table.create_index(field, config=BTree())

    def search(self, query, field, width, effort):
        search = self.table.search(query).distance_type(self.metric).limit(K).select(["id"])
        search = search.nprobes(20).ef(64 * effort).refine_factor(4)
        if field:
            search = search.where(f"{field} < {width}", prefilter=True)
        return search.to_arrow()["id"].to_pylist()


class Chroma:
    EFFORTS = [100, 400]

    def build(self, path, rows, labels, metric):
        import chromadb
        from chromadb.config import Settings
        self.client = chromadb.PersistentClient(path, Settings(anonymized_telemetry=False))
        space = "cosine" if metric == "cosine" else "l2"
        hnsw = {"space": space, "ef_construction": 200, "max_neighbors": 16, "ef_search": 100, "num_threads": 2}
        self.docs = self.client.create_collection("docs", configuration={"hnsw": hnsw})
        for s in range(0, len(rows), 5_000):
            ids = range(s, min(s + 5_000, len(rows)))
            self.docs.add(ids=[str(i) for i in ids], embeddings=rows[s:s + 5_000],
                          metadatas=[{f: int(labels[f][i]) for f in labels} for i in ids])
        self.effort = 100

    def search(self, query, field, width, effort):
        if effort != self.effort:
            self.docs.modify(configuration={"hnsw": {"ef_search": effort}})
            self.effort = effort
        where = {field: {"$lt": width}} if field else None
        return [int(i) for i in self.docs.query(query_embeddings=[query], n_results=K, where=where, include=[])["ids"][0]]


PEERS = {"omendb": Omendb, "zvec": Zvec, "qdrant": Qdrant, "lancedb": Lancedb, "chroma": Chroma}


def ask(peer, queries, field, width, effort, seconds):
    """The answers of all queries, and how many a second of processor time; a slow peer answers fewer."""
    peer.search(queries[0], field, width, effort)
    found, clock, start = [], time.perf_counter(), time.process_time()
    for query in queries:
        found.append(peer.search(query, field, width, effort))
        if time.perf_counter() - clock > seconds:
            break
    return found, len(found) / (time.process_time() - start)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder")
    arguments.add_argument("--n", type=int, default=100_000)
    arguments.add_argument("--queries", type=int, default=200)
    arguments.add_argument("--peers", default=",".join(PEERS))
    arguments.add_argument("--seconds", type=float, default=5, help="longest measurement of one effort")
    arguments.add_argument("--out")
    given = arguments.parse_args()
    metric = json.load(open(f"{given.folder}/meta.json"))["metric"]
    every = np.load(f"{given.folder}/base.npy", mmap_mode="r")
    rows = np.ascontiguousarray(every[:given.n], np.float32)
    asked = np.load(f"{given.folder}/queries.npy", mmap_mode="r")
    queries = np.ascontiguousarray(asked[:: max(1, len(asked) // given.queries)][:given.queries], np.float32)
    if metric == "cosine":
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
        queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-30)
    marks = labels(rows, metric)
    squares = (rows**2).sum(1)
    cases = []
    for field in ("even", "near"):
        for share in SHARES[0 if field == "even" else 1:]:
            width = int(share / 100 * SCALE)
            mask = marks[field] < width
            cases.append((field if share < 100 else None, share, width, mask.sum(), truth(rows, queries, mask, metric)))
    table = {}
    for name in given.peers.split(","):
        path = tempfile.mkdtemp(prefix=f"filtered-{name}-")
        shutil.rmtree(path)
        peer = PEERS[name]()
        clock = time.perf_counter()
        try:
            peer.build(path, rows, marks, metric)
            print(f"{name}: built in {time.perf_counter() - clock:.1f} s", file=sys.stderr, flush=True)
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            for number, (field, share, width, count, tenth) in enumerate(cases):
                for effort in peer.EFFORTS:
                    found, rate = ask(peer, queries, field, width, effort, given.seconds)
                    hits = 0
                    for query, ids, limit in zip(queries, found, tenth):
                        some = rows[ids]
                        far = -(some @ query) if metric == "cosine" else squares[ids] - 2 * (some @ query)
                        hits += int((far <= limit + abs(limit) * 1e-5 + 1e-6).sum())
                    recall = hits / (len(found) * min(K, count))
                    if recall >= 0.95:
                        break
                table[name, number] = f"{rate:.0f} ({recall:.3f})"
                print(name, field, share, effort, table[name, number], file=sys.stderr, flush=True)
        except Exception as failure:  # One peer that fails must not hide the others.
            print(f"{name} failed: {failure!r}", file=sys.stderr, flush=True)
        os.sched_setaffinity(0, range(os.cpu_count()))
        shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(path + "-log", ignore_errors=True)
    names = given.peers.split(",")
    lines = [f"{len(rows)} rows x {rows.shape[1]}, {len(queries)} queries; queries a second of one core (recall@10)", "",
             "| filter | pass | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for number, (field, share, _, count, _) in enumerate(cases):
        cells = [table.get((name, number), "failed") for name in names]
        lines.append(f"| {field or 'none'} | {share} % ({count}) | " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out:
        open(given.out, "w").write(text)


if __name__ == "__main__":
    main()
