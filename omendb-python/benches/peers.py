"""The same small program with OmenDB and its peers: how long it is, what it installs, and how fast it is from Python.

In an environment of its own, with a release build of this package:

    pip install -r omendb-python/requirements-importers.txt
    maturin build --release --manifest-path omendb-python/Cargo.toml --out target/wheels
    pip install --no-index --no-deps --force-reinstall target/wheels/omendb-*.whl
    python omendb-python/benches/peers.py

Data: the 20,000 words, definitions and 100-dimensional vectors of `omendb demo`, under cosine. Each peer runs in a
process of its own, with the index that it recommends; what is not installed is left out.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Each program gets ids, vectors, metadata and text, and leaves `search` and `filtered`: functions of a query.
PROGRAMS = {
    "omendb": """
        import omendb
        docs = omendb.open("words.omen").create_collection("words", dim=100)
        docs.upsert(ids, vectors, metadata, text)
        docs.wait_indexed()
        search = lambda query: docs.search(query, k=10).ids
        filtered = lambda query: docs.search(query, k=10, filter={"pos": "verb"}).ids
    """,
    "chromadb": """
        import chromadb
        client = chromadb.PersistentClient("words.chroma", settings=chromadb.Settings(anonymized_telemetry=False))
        docs = client.create_collection("words", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None)
        for start in range(0, len(ids), 5000):
            part = slice(start, start + 5000)
            docs.add(ids[part], vectors[part], metadata[part], text[part])
        search = lambda query: docs.query(query, n_results=10)["ids"][0]
        filtered = lambda query: docs.query(query, n_results=10, where={"pos": "verb"})["ids"][0]
    """,
    "lancedb": """
        import lancedb
        import pyarrow
        column = pyarrow.FixedSizeListArray.from_arrays(vectors.ravel(), 100)
        pos = [each["pos"] for each in metadata]
        table = pyarrow.table({"id": ids, "vector": column, "pos": pos, "text": text})
        docs = lancedb.connect("words.lance").create_table("words", table)
        docs.create_index(metric="cosine", index_type="IVF_HNSW_SQ")
        docs.create_scalar_index("pos")
        find = lambda query: docs.search(query).limit(10)
        search = lambda query: [row["id"] for row in find(query).to_list()]
        filtered = lambda query: [row["id"] for row in find(query).where("pos = 'verb'", prefilter=True).to_list()]
    """,
    "zvec": """
        import zvec
        string, dense = zvec.DataType.STRING, zvec.DataType.VECTOR_FP32
        fields = [zvec.FieldSchema("pos", string, index_param=zvec.InvertIndexParam()), zvec.FieldSchema("text", string)]
        vector = zvec.VectorSchema("vector", dense, 100, zvec.HnswIndexParam(metric_type=zvec.MetricType.COSINE))
        docs = zvec.create_and_open("words.zvec", zvec.CollectionSchema("words", fields, [vector]))
        rows = zip(ids, vectors.tolist(), metadata, text)
        all_docs = [zvec.Doc(id, vectors={"vector": v}, fields={"pos": m["pos"], "text": t}) for id, v, m, t in rows]
        for start in range(0, len(all_docs), 1000):
            docs.insert(all_docs[start : start + 1000])
        docs.flush()
        docs.optimize()
        near = lambda query: zvec.Query("vector", vector=query.tolist())
        search = lambda query: [hit.id for hit in docs.query(near(query), topk=10)]
        filtered = lambda query: [hit.id for hit in docs.query(near(query), topk=10, filter="pos = 'verb'")]
    """,
    "qdrant_edge": """
        import qdrant_edge as qdrant
        from pathlib import Path
        Path("words.qdrant").mkdir()
        params = qdrant.EdgeVectorParams(size=100, distance=qdrant.Distance.Cosine)
        docs = qdrant.EdgeShard.create("words.qdrant", qdrant.EdgeConfig(vectors={"": params}))
        rows = enumerate(zip(ids, vectors.tolist(), metadata, text))
        points = [qdrant.Point(n, v, {"id": id, "text": t, **m}) for n, (id, v, m, t) in rows]
        docs.update(qdrant.UpdateOperation.upsert_points(points))
        docs.update(qdrant.UpdateOperation.create_field_index("pos", qdrant.PayloadSchemaType.Keyword))
        docs.flush()
        docs.optimize()
        verbs = qdrant.Filter(must=[qdrant.FieldCondition(key="pos", match=qdrant.MatchValue("verb"))])
        near, wanted = lambda query: qdrant.Query.Nearest(query.tolist()), {"limit": 10, "with_payload": True}
        words = lambda request: [hit.payload["id"] for hit in docs.search(request)]
        search = lambda query: words(qdrant.SearchRequest(near(query), **wanted))
        filtered = lambda query: words(qdrant.SearchRequest(near(query), filter=verbs, **wanted))
    """,
}
PACKAGES = {"qdrant_edge": "qdrant-edge-py"}
SEARCHES = 1_000


def lines(program: str) -> list[str]:
    return [line[8:] for line in program.splitlines() if line.strip()]


def words() -> tuple[list[str], np.ndarray, list[dict[str, Any]], list[str]]:
    data = Path(__file__).resolve().parents[2] / "omendb-cli/data"
    with gzip.open(data / "words.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    with gzip.open(data / "vectors.f16.gz") as packed:
        vectors = np.frombuffer(packed.read(), dtype="<f2").reshape(len(rows), 100).astype(np.float32)
    return [row["word"] for row in rows], vectors, [{"pos": row["pos"]} for row in rows], [row["gloss"] for row in rows]


def measure(name: str) -> dict[str, float]:
    """Runs one program in this process and directory."""
    ids, vectors, metadata, text = words()
    rng = np.random.default_rng(1)
    picks = rng.choice(len(ids), SEARCHES, replace=False)
    queries = vectors[picks] + rng.standard_normal((SEARCHES, 100)).astype(np.float32) * 0.1
    names: dict[str, Any] = {"ids": ids, "vectors": vectors, "metadata": metadata, "text": text}
    program = lines(PROGRAMS[name])
    imports = [line for line in program if re.match(r"(import|from) ", line)]
    exec("\n".join(imports), names)
    start = time.perf_counter()
    exec("\n".join(line for line in program if line not in imports), names)
    names["search"](queries[0])
    ingest = time.perf_counter() - start

    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similar = unit @ queries.T
    verb = np.array([each["pos"] == "verb" for each in metadata])

    def timed(search: Callable[[np.ndarray], list[str]], among: np.ndarray) -> tuple[float, float]:
        place = {word: row for row, word in enumerate(ids)}
        times, found = [], 0.0
        for column, query in enumerate(queries):
            begin = time.perf_counter()
            hits = search(query)
            times.append(time.perf_counter() - begin)
            scores = np.where(among, similar[:, column], -np.inf)
            limit = np.partition(scores, -10)[-10] - 1e-6 * np.linalg.norm(query)
            found += sum(scores[place[hit]] >= limit for hit in hits[:10]) / 10
        return statistics.median(times) * 1e6, found / len(queries)

    search_us, recall = timed(names["search"], np.ones(len(ids), dtype=bool))
    filtered_us, filtered_recall = timed(names["filtered"], verb)
    figures = {"ingest": ingest, "search_us": search_us, "recall": recall}
    return {**figures, "filtered_us": filtered_us, "filtered_recall": filtered_recall}


def installed(package: str, seen: set[str]) -> float:
    """Megabytes of a package's files and of all that it needs, each counted once."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    name = canonicalize_name(package)
    if name in seen:
        return 0.0
    seen.add(name)
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return 0.0
    total = 0.0
    for file in distribution.files or ():
        path = Path(str(file.locate()))
        if path.is_file() and path.suffix != ".pyc":
            total += path.stat().st_size / 1e6
    for line in distribution.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            total += installed(requirement.name, seen)
    return total


def import_ms(module: str) -> float:
    program = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    times = [float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout) for _ in range(7)]
    return statistics.median(times[2:]) * 1e3


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] == "--one":
        print(json.dumps(measure(sys.argv[2])))
        return
    rows = []
    for name, program in PROGRAMS.items():
        package = PACKAGES.get(name, name)
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            print(f"{package} is not installed and left out", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, str(Path(__file__).resolve()), "--one", name]
            done = subprocess.run(command, capture_output=True, text=True, cwd=scratch)
        if done.returncode != 0:
            print(f"{package}: {done.stderr[-2000:]}", file=sys.stderr)
            continue
        figures = json.loads(done.stdout.splitlines()[-1])
        rows.append(
            f"| {package} {version} | {len(lines(program))} | {installed(package, set()):,.0f} MB | {import_ms(name):,.0f} ms "
            f"| {figures['ingest']:.2f} s | {figures['search_us']:,.0f} us, {figures['recall']:.3f} "
            f"| {figures['filtered_us']:,.0f} us, {figures['filtered_recall']:.3f} |"
        )
    print("| package | lines | installed | import | ingest until indexed | a search, recall@10 | with a filter, recall@10 |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
