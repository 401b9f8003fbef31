"""Importers, each against the real package where it is installed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import omendb
from omendb import importers

N, DIM = 1_234, 16


def package(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.fixture
def vectors(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((N, DIM)).astype(np.float32)


METADATA = [{"n": n, "lang": ["en", "de"][n % 2]} for n in range(N)]
TEXT = [f"text {n}" for n in range(N)]


def same(docs: omendb.Collection, ids: list[Any], vectors: np.ndarray, *, fields: bool = True) -> None:
    """Every record is there, as it was in the source."""
    assert len(docs) == len(ids)
    for row, record in enumerate(docs.get(ids)):
        assert record is not None and np.allclose(record.vector, vectors[row], atol=1e-6), ids[row]
        if fields:
            assert record.metadata == METADATA[row] and record.text == TEXT[row]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(("space", "metric"), [("cosine", "cosine"), ("l2", "l2"), ("ip", "dot")])
def test_chroma(db: omendb.Database, vectors: np.ndarray, tmp_path: Path, space: str, metric: str) -> None:
    chromadb = package("chromadb")
    client = chromadb.PersistentClient(str(tmp_path / "chroma"), settings=chromadb.Settings(anonymized_telemetry=False))
    source = client.create_collection("docs", configuration={"hnsw": {"space": space}}, embedding_function=None)
    ids = [f"id {n}" for n in range(N)]
    source.add(ids, vectors.tolist(), METADATA, TEXT)
    report = importers.from_chroma(source, db, batch_size=500, progress=True)
    assert (report.collection, report.records, report.dim, report.metric) == ("docs", N, DIM, metric)
    assert report.compared == 9
    same(db["docs"], ids, vectors)
    assert importers.from_chroma(source, db).records == N and len(db["docs"]) == N, "a second run changes nothing"
    bare = client.create_collection("bare", embedding_function=None)
    with pytest.raises(omendb.InvalidInput, match="empty"):
        importers.from_chroma(bare, db)
    bare.add(ids[:10], vectors[:10].tolist())
    assert importers.from_chroma(bare, db, "renamed").collection == "renamed"
    record = db["renamed"].get("id 3")
    assert record is not None and record.metadata is None and record.text is None


def test_lancedb(db: omendb.Database, vectors: np.ndarray, tmp_path: Path) -> None:
    lancedb = package("lancedb")
    rows = [{"id": f"id {n}", "vector": vectors[n], "text": TEXT[n], **METADATA[n]} for n in range(N)]
    table = lancedb.connect(tmp_path / "lance").create_table("docs", rows)
    report = importers.from_lancedb(table, db, batch_size=500, metric="cosine")
    assert (report.records, report.dim, report.metric) == (N, DIM, "cosine")
    same(db["docs"], [f"id {n}" for n in range(N)], vectors)
    importers.from_lancedb(table, db, "numbered", id_column=None, text_column=None)
    record = db["numbered"].get(7)
    assert record is not None and record.metadata == {"id": "id 7", "text": "text 7", **METADATA[7]}
    with pytest.raises(omendb.InvalidInput, match="vector_column = 'embedding'"):
        importers.from_lancedb(table, db, vector_column="embedding")


@pytest.mark.parametrize("distance", ["Cosine", "Euclid", "Dot"])
def test_qdrant(db: omendb.Database, vectors: np.ndarray, tmp_path: Path, distance: str) -> None:
    models = package("qdrant_client").models
    client = importlib.import_module("qdrant_client").QdrantClient(path=str(tmp_path / "qdrant"))
    client.create_collection("docs", models.VectorParams(size=DIM, distance=models.Distance(distance)))
    points = [models.PointStruct(id=n, vector=vectors[n].tolist(), payload={**METADATA[n], "body": TEXT[n]}) for n in range(N)]
    client.upsert("docs", points)
    report = importers.from_qdrant(client, db, "docs", text_key="body", batch_size=500)
    assert (report.records, report.metric) == (N, {"Cosine": "cosine", "Euclid": "l2", "Dot": "dot"}[distance])
    same(db["docs"], list(range(N)), unit(vectors) if distance == "Cosine" else vectors)
    params = models.VectorParams(size=DIM, distance=models.Distance(distance))
    client.create_collection("named", {"a": params, "b": params})
    client.upsert("named", [models.PointStruct(id=1, vector={"a": vectors[1].tolist(), "b": vectors[2].tolist()})])
    with pytest.raises(omendb.InvalidInput, match="a, b"):
        importers.from_qdrant(client, db, "named")
    importers.from_qdrant(client, db, "named", vector_name="b")
    record = db["named"].get(1)
    expected = unit(vectors)[2] if distance == "Cosine" else vectors[2]
    assert record is not None and np.allclose(record.vector, expected, atol=1e-6)
    client.create_collection("other", models.VectorParams(size=DIM, distance=models.Distance.MANHATTAN))
    with pytest.raises(omendb.Unsupported, match="Manhattan"):
        importers.from_qdrant(client, db, "other")
    client.close()


def by_id(ids: list[Any]) -> tuple[dict[Any, Any], dict[Any, str]]:
    return dict(zip(ids, METADATA, strict=False)), dict(zip(ids, TEXT, strict=False))


def test_faiss(db: omendb.Database, vectors: np.ndarray, tmp_path: Path) -> None:
    faiss = package("faiss")
    flat = faiss.IndexFlatL2(DIM)
    flat.add(vectors)
    metadata, text = by_id(list(range(N)))
    report = importers.from_faiss(flat, db, "flat", metadata=metadata, text=text, batch_size=500)
    assert (report.records, report.metric) == (N, "l2")
    same(db["flat"], list(range(N)), vectors)

    numbers = np.arange(N)[::-1] * 3 + 5
    mapped = faiss.IndexIDMap2(faiss.IndexHNSWFlat(DIM, 16, faiss.METRIC_INNER_PRODUCT))
    mapped.add_with_ids(vectors, numbers)
    faiss.write_index(mapped, str(tmp_path / "mapped.faiss"))
    names = {int(number): f"name {number}" for number in numbers}
    report = importers.from_faiss(tmp_path / "mapped.faiss", db, "mapped", names=names)
    assert report.metric == "dot"
    same(db["mapped"], [f"name {number}" for number in numbers], vectors, fields=False)
    with pytest.raises(omendb.InvalidInput, match="names lacks"):
        importers.from_faiss(mapped, db, "lacking", names={5: "five"})

    ivf = faiss.IndexIVFFlat(faiss.IndexFlatL2(DIM), DIM, 8)
    ivf.train(vectors)
    ivf.add(vectors)
    importers.from_faiss(ivf, db, "ivf")
    same(db["ivf"], list(range(N)), vectors, fields=False)
    other = faiss.IndexIVFFlat(faiss.IndexFlatL2(DIM), DIM, 8)
    other.train(vectors)
    other.add_with_ids(vectors, numbers)
    with pytest.raises(omendb.Unsupported, match="IDMap"):
        importers.from_faiss(other, db, "ivf with ids")
    negative = faiss.IndexIDMap2(faiss.IndexFlatL2(DIM))
    negative.add_with_ids(vectors[:2], np.array([-1, 4]))
    with pytest.raises(omendb.InvalidInput, match="-1"):
        importers.from_faiss(negative, db, "negative")
    with pytest.raises(omendb.Unsupported, match="metric"):
        importers.from_faiss(faiss.IndexFlat(DIM, faiss.METRIC_L1), db, "l1")


@pytest.mark.parametrize(("space", "metric"), [("cosine", "cosine"), ("l2", "l2"), ("ip", "dot")])
def test_hnswlib(db: omendb.Database, vectors: np.ndarray, space: str, metric: str) -> None:
    hnswlib = package("hnswlib")
    index = hnswlib.Index(space, DIM)
    index.init_index(N, random_seed=1)
    numbers = np.arange(N) * 2 + 1
    index.add_items(vectors, numbers)
    metadata, text = by_id([int(number) for number in numbers])
    report = importers.from_hnswlib(index, db, metadata=metadata, text=text)
    assert (report.collection, report.records, report.metric) == ("hnswlib", N, metric)
    same(db["hnswlib"], numbers.tolist(), unit(vectors) if space == "cosine" else vectors)


def test_usearch(db: omendb.Database, vectors: np.ndarray, tmp_path: Path) -> None:
    usearch = package("usearch.index")
    numbers = np.arange(N, dtype=np.uint64) + 10
    for kind, metric in (("cos", "cosine"), ("l2sq", "l2"), ("ip", "dot")):
        index = usearch.Index(ndim=DIM, metric=kind, dtype="f32")
        index.add(numbers, vectors)
        index.save(str(tmp_path / kind))
        metadata, text = by_id(numbers.tolist())
        report = importers.from_usearch(tmp_path / kind, db, kind, metadata=metadata, text=text, batch_size=1000)
        assert (report.records, report.metric) == (N, metric)
        same(db[kind], numbers.tolist(), vectors)
    bits = np.random.default_rng(1).integers(0, 256, (N, 4)).astype(np.uint8)
    binary = usearch.Index(ndim=32, metric="hamming", dtype="b1")
    binary.add(numbers, bits)
    importers.from_usearch(binary, db, "bits")
    assert (db["bits"].dtype, db["bits"].metric) == ("bits", "hamming")
    same(db["bits"], numbers.tolist(), bits, fields=False)


class Liar:
    """A Chroma collection that counts more than it has."""

    name, metadata = "liar", None

    def count(self) -> int:
        return 3

    def get(self, limit: int, offset: int = 0, include: Any = ()) -> dict[str, Any]:
        ids = ["a", "b"][offset : offset + limit]
        return {"ids": ids, "embeddings": [[1.0, 2.0] for _ in ids], "metadatas": None, "documents": None}


def test_what_does_not_add_up_is_told(db: omendb.Database) -> None:
    with pytest.raises(importers.ImportMismatch, match="counts 3 records, but 2"):
        importers.from_chroma(Liar(), db)
    assert issubclass(importers.ImportMismatch, omendb.OmenError)
    with pytest.raises(omendb.InvalidInput, match="batch_size"):
        importers.from_chroma(Liar(), db, batch_size=0)
