"""Brings records over from Chroma, LanceDB, Qdrant, FAISS, hnswlib and usearch.

Each function reads a source in batches, makes a collection with its dimensions and metric, writes ids, vectors,
metadata and text, and verifies: as many records as the source has, and the vectors read back as they were given.
An import that was interrupted is simply run again: what is there already is replaced by itself.

    import chromadb, omendb
    from omendb import importers

    with omendb.open("library.omen") as db:
        source = chromadb.PersistentClient("chroma").get_collection("docs")
        print(importers.from_chroma(source, db, progress=True))

No package of a source is needed to import this module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from ._database import Database
from ._errors import InvalidInput, OmenError, Unsupported
from ._types import Id

__all__ = [
    "ImportMismatch",
    "ImportReport",
    "from_chroma",
    "from_faiss",
    "from_hnswlib",
    "from_lancedb",
    "from_qdrant",
    "from_usearch",
]


class ImportMismatch(OmenError):
    """What was stored is not what the source gave: a count or a vector differs."""


@dataclass(frozen=True)
class ImportReport:
    """What an import brought over."""

    collection: str
    """The collection that was written."""
    records: int
    """Records that the source has; as many were read, and as many are stored."""
    dim: int
    """Dimensions of their vectors."""
    metric: str
    """The collection's metric."""
    compared: int
    """Records that were read back and compared with the source."""


@dataclass
class _Batch:
    ids: Sequence[Id]
    vectors: npt.NDArray[Any]
    metadata: Sequence[Mapping[str, Any] | None] | None = None
    text: Sequence[str | None] | None = None


@dataclass
class _Source:
    """A source, ready to be read."""

    name: str
    dim: int
    metric: str
    records: int
    batches: Iterable[_Batch]
    dtype: str = "f32"


def _bring(source: _Source, into: Database, name: str | None, progress: bool) -> ImportReport:
    collection = into.get_or_create_collection(name or source.name, source.dim, source.metric, source.dtype)
    before = len(collection)
    read = compared = 0
    with _shown(f"importing {collection.name}", source.records, progress) as show:
        for batch in source.batches:
            rows = len(batch.ids)
            if rows == 0:
                continue
            collection.upsert(list(batch.ids), batch.vectors, batch.metadata, batch.text)
            read += rows
            for row in {0, rows // 2, rows - 1}:
                stored = collection.get(batch.ids[row])
                if stored is None or not np.array_equal(stored.vector, batch.vectors[row].astype(stored.vector.dtype)):
                    raise ImportMismatch(f"record {batch.ids[row]!r} reads back with another vector than the source gave")
                compared += 1
            show(read)
    stored_now = len(collection)
    if read != source.records:
        raise ImportMismatch(f"the source counts {source.records} records, but {read} were read from it; was it written to?")
    if before == 0 and stored_now != read:
        raise ImportMismatch(f"{read} records were read, but {stored_now} are stored: ids stand more than once in the source")
    return ImportReport(collection.name, read, source.dim, collection.metric, compared)


def _shown(label: str, total: int, progress: bool) -> Any:
    if not progress:
        return nullcontext(lambda done: None)
    from ._progress import counting

    return counting(label, total)


def _size(batch_size: int) -> int:
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise InvalidInput(f"batch_size = {batch_size!r} was given; an integer of at least 1 was expected")
    return batch_size


def _metric(given: str | None, known: Mapping[str, str], of: str) -> str:
    """The metric of the same name here."""
    found = known.get(str(given).lower())
    if found is None:
        raise Unsupported(f"unsupported: the metric {given!r} of {of}; cosine, Euclidean distance and dot product can be brought over")
    return found


def from_chroma(
    source: Any, into: Database, name: str | None = None, *, batch_size: int = 5_000, progress: bool = False
) -> ImportReport:
    """Brings a Chroma collection over: ids, embeddings, metadata, documents as text.

    Args:
        source: a `chromadb` collection, as of `client.get_collection(...)`.
        into: an open database.
        name: of the collection to write; default the source's.
        batch_size: records read at a time.
        progress: show it on standard error.

    Raises:
        Unsupported: the source's metric has no counterpart.
        ImportMismatch: what is stored is not what was read.
    """
    size = _size(batch_size)
    spaces = {"l2": "l2", "cosine": "cosine", "ip": "dot"}
    first = source.get(limit=1, include=["embeddings"])["embeddings"]
    if first is None or len(first) == 0:
        raise InvalidInput(f"the Chroma collection {source.name!r} is empty; there is nothing to bring over")

    def batches() -> Iterator[_Batch]:
        offset = 0
        while True:
            found = source.get(limit=size, offset=offset, include=["embeddings", "metadatas", "documents"])
            if not found["ids"]:
                return
            offset += len(found["ids"])
            metadata = found["metadatas"]
            vectors = np.asarray(found["embeddings"], dtype=np.float32)
            yield _Batch(found["ids"], vectors, metadata and [each and dict(each) for each in metadata], found["documents"])

    metric = _metric(_chroma_space(source), spaces, "the Chroma collection")
    return _bring(_Source(source.name, len(first[0]), metric, source.count(), batches()), into, name, progress)


def _chroma_space(source: Any) -> str:
    """Where the metric stands differs from version to version of Chroma."""
    configuration = getattr(source, "configuration", None)
    for part in ("hnsw", "spann"):
        if isinstance(configuration, Mapping) and configuration.get(part):
            return str(configuration[part].get("space", "l2"))
    return str((source.metadata or {}).get("hnsw:space", "l2"))


def from_lancedb(
    source: Any,
    into: Database,
    name: str | None = None,
    *,
    id_column: str | None = "id",
    vector_column: str = "vector",
    text_column: str | None = "text",
    metric: str = "l2",
    batch_size: int = 5_000,
    progress: bool = False,
) -> ImportReport:
    """Brings a LanceDB table over: one column as ids, one as vectors, one as text, the others as metadata.

    Args:
        source: a `lancedb` table, as of `db.open_table(...)`.
        into: an open database.
        name: of the collection to write; default the table's.
        id_column: strings or integers; None numbers the rows from 0.
        vector_column: fixed-size lists of numbers.
        text_column: strings; a name that the table lacks, or None, is no text.
        metric: of the collection to write; a table has none of its own before it is indexed. LanceDB's default is l2.
        batch_size: records read at a time.
        progress: show it on standard error.

    Raises:
        InvalidInput: there is no such column.
        ImportMismatch: what is stored is not what was read.
    """
    size = _size(batch_size)
    columns = list(source.schema.names)
    for role, column in (("vector_column", vector_column), ("id_column", id_column)):
        if column is not None and column not in columns:
            raise InvalidInput(f"{role} = {column!r} was given, but the table has {', '.join(columns)}; name one of them")
    text = text_column if text_column in columns else None
    others = [column for column in columns if column not in (vector_column, id_column, text)]

    def batches() -> Iterator[_Batch]:
        offset = 0
        for batch in source.search().limit(source.count_rows()).to_batches(size):
            rows = batch.num_rows
            flat = batch.column(vector_column).flatten().to_numpy(zero_copy_only=False)
            ids = range(offset, offset + rows) if id_column is None else batch.column(id_column).to_pylist()
            metadata = batch.select(others).to_pylist() if others else None
            offset += rows
            yield _Batch(list(ids), flat.reshape(rows, -1), metadata, batch.column(text).to_pylist() if text else None)

    dim = source.schema.field(vector_column).type.list_size
    return _bring(_Source(source.name, dim, metric, source.count_rows(), batches()), into, name, progress)


def from_qdrant(
    source: Any,
    into: Database,
    collection: str,
    name: str | None = None,
    *,
    vector_name: str | None = None,
    text_key: str | None = None,
    batch_size: int = 1_000,
    progress: bool = False,
) -> ImportReport:
    """Brings a Qdrant collection over: ids (integers, or UUIDs as strings), vectors, payloads as metadata.

    Args:
        source: a `qdrant_client.QdrantClient`, local or remote.
        into: an open database.
        collection: the name of the Qdrant collection.
        name: of the collection to write; default the same.
        vector_name: which of the named vectors, where it has several.
        text_key: the payload's field that is to become the text.
        batch_size: records read at a time.
        progress: show it on standard error.

    Raises:
        InvalidInput: the collection has several vectors and none was named.
        Unsupported: the source's metric has no counterpart.
        ImportMismatch: what is stored is not what was read.
    """
    size = _size(batch_size)
    params = source.get_collection(collection).config.params.vectors
    if isinstance(params, Mapping):
        if vector_name is None and len(params) == 1:
            vector_name = next(iter(params))
        if vector_name not in params:
            raise InvalidInput(f"vector_name = {vector_name!r} was given; the collection has {', '.join(params)}: name one of them")
        params = params[vector_name]
    spaces = {"cosine": "cosine", "euclid": "l2", "dot": "dot"}
    metric = _metric(getattr(params.distance, "value", params.distance), spaces, "the Qdrant collection")

    def batches() -> Iterator[_Batch]:
        offset = None
        while True:
            points, offset = source.scroll(collection, limit=size, offset=offset, with_payload=True, with_vectors=True)
            several = [point.vector for point in points]
            vectors = [each[vector_name] if isinstance(each, Mapping) else each for each in several]
            metadata = [dict(point.payload or {}) for point in points]
            text = None if text_key is None else [each.pop(text_key, None) for each in metadata]
            yield _Batch([point.id for point in points], np.asarray(vectors, dtype=np.float32), metadata, text)
            if offset is None:
                return

    records = source.count(collection, exact=True).count
    return _bring(_Source(collection, int(params.size), metric, records, batches()), into, name, progress)


def _rows(
    ids: npt.NDArray[Any],
    vectors: Callable[[int, int], npt.NDArray[Any]],
    size: int,
    names: Mapping[int, Id] | None,
    metadata: Mapping[Any, Mapping[str, Any]] | None,
    text: Mapping[Any, str] | None,
) -> Iterator[_Batch]:
    """Batches of an index that holds numbered vectors alone."""
    for start in range(0, len(ids), size):
        numbers = [int(number) for number in ids[start : start + size]]
        if min(numbers) < 0:
            raise InvalidInput(f"the index has the id {min(numbers)}; ids are at least 0: number its vectors anew")
        if names is not None and any(number not in names for number in numbers):
            lacking = next(number for number in numbers if number not in names)
            raise InvalidInput(f"names lacks the id {lacking} of the index; it needs one for each")
        own: list[Id] = [number if names is None else names[number] for number in numbers]
        yield _Batch(
            own,
            vectors(start, start + len(numbers)),
            None if metadata is None else [metadata.get(each) for each in own],
            None if text is None else [text.get(each) for each in own],
        )


def from_faiss(
    source: Any,
    into: Database,
    name: str = "faiss",
    *,
    names: Mapping[int, Id] | None = None,
    metadata: Mapping[Any, Mapping[str, Any]] | None = None,
    text: Mapping[Any, str] | None = None,
    batch_size: int = 10_000,
    progress: bool = False,
) -> ImportReport:
    """Brings the vectors of a FAISS index over. An index that compresses them gives them as it can reconstruct them.

    Args:
        source: a `faiss` index, or the path of one: flat, HNSW, IVF or scalar-quantised, with or without an IDMap.
        into: an open database.
        name: of the collection to write.
        names: ids for the numbers of the index; default the numbers themselves.
        metadata, text: of each record, by its id here; those without stay without.
        batch_size: records read at a time.
        progress: show it on standard error.

    Raises:
        Unsupported: the metric has no counterpart, or the index cannot give its vectors back.
        InvalidInput: a negative id, or one that `names` lacks.
        ImportMismatch: what is stored is not what was read.
    """
    faiss: Any = import_module("faiss")
    size = _size(batch_size)
    # An inner index lives only as long as the outer one.
    outer = faiss.read_index(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else source
    index = faiss.downcast_index(outer)
    metric = {faiss.METRIC_L2: "l2", faiss.METRIC_INNER_PRODUCT: "dot"}.get(index.metric_type)
    metric = _metric(metric, {"l2": "l2", "dot": "dot"}, "the FAISS index")
    ids = np.arange(index.ntotal, dtype=np.int64)
    if isinstance(index, (faiss.IndexIDMap, faiss.IndexIDMap2)):
        ids = faiss.vector_to_array(index.id_map).copy()
        index = faiss.downcast_index(index.index)
    if isinstance(index, faiss.IndexIVF):
        lists = index.invlists
        filled = [n for n in range(lists.nlist) if lists.list_size(n)]
        stored = [faiss.rev_swig_ptr(lists.get_ids(n), lists.list_size(n)).copy() for n in filled]
        numbers = np.sort(np.concatenate(stored)) if stored else ids
        if not np.array_equal(numbers, np.arange(index.ntotal)):
            raise Unsupported("unsupported: an IVF index with ids of its own; wrap it in an IndexIDMap, which keeps them")
        index.make_direct_map()

    def vectors(start: int, end: int) -> npt.NDArray[Any]:
        try:
            return np.asarray(index.reconstruct_n(start, end - start), dtype=np.float32)
        except RuntimeError as error:
            raise Unsupported(f"unsupported: the index {type(index).__name__} does not give its vectors back: {error}") from error

    batches = _rows(ids, vectors, size, names, metadata, text)
    return _bring(_Source(name, outer.d, metric, outer.ntotal, batches), into, name, progress)


def from_hnswlib(
    source: Any,
    into: Database,
    name: str = "hnswlib",
    *,
    names: Mapping[int, Id] | None = None,
    metadata: Mapping[Any, Mapping[str, Any]] | None = None,
    text: Mapping[Any, str] | None = None,
    batch_size: int = 10_000,
    progress: bool = False,
) -> ImportReport:
    """Brings the vectors of an hnswlib index over. Those of the space "cosine" come normalised, as hnswlib keeps them.

    Args:
        source: an `hnswlib.Index`; load one from a file with `load_index` first, as the file does not say its space.
        into, name, names, metadata, text, batch_size, progress: as of `from_faiss`.

    Raises:
        InvalidInput, Unsupported, ImportMismatch: as of `from_faiss`.
    """
    size = _size(batch_size)
    metric = _metric(source.space, {"l2": "l2", "cosine": "cosine", "ip": "dot"}, "the hnswlib index")
    ids = np.sort(np.asarray(source.get_ids_list(), dtype=np.int64))

    def vectors(start: int, end: int) -> npt.NDArray[Any]:
        return np.asarray(source.get_items(ids[start:end]), dtype=np.float32)

    batches = _rows(ids, vectors, size, names, metadata, text)
    return _bring(_Source(name, source.dim, metric, len(ids), batches), into, name, progress)


def from_usearch(
    source: Any,
    into: Database,
    name: str = "usearch",
    *,
    names: Mapping[int, Id] | None = None,
    metadata: Mapping[Any, Mapping[str, Any]] | None = None,
    text: Mapping[Any, str] | None = None,
    batch_size: int = 10_000,
    progress: bool = False,
) -> ImportReport:
    """Brings the vectors of a usearch index over, as exactly as its element type holds them.

    Args:
        source: a `usearch.index.Index`, or the path of one.
        into, name, names, metadata, text, batch_size, progress: as of `from_faiss`.

    Raises:
        InvalidInput, Unsupported, ImportMismatch: as of `from_faiss`.
    """
    size = _size(batch_size)
    if isinstance(source, (str, os.PathLike)):
        from usearch.index import Index

        path = os.fspath(source)
        source = Index.restore(path)
        if source is None:
            raise InvalidInput(f"{path!r} is not an index of usearch; give the path that it was saved to")
    kind = str(getattr(source.metric_kind, "name", source.metric_kind))
    metric = _metric(kind, {"cos": "cosine", "l2sq": "l2", "ip": "dot", "hamming": "hamming"}, "the usearch index")
    bits = metric == "hamming"
    ids = np.sort(np.asarray(source.keys[:], dtype=np.uint64))

    def vectors(start: int, end: int) -> npt.NDArray[Any]:
        found = np.asarray(source.get(ids[start:end]))
        return found.astype(np.uint8) if bits else found.astype(np.float32)

    batches = _rows(ids, vectors, size, names, metadata, text)
    origin = _Source(name, source.ndim, metric, len(source), batches, "bits" if bits else "f32")
    return _bring(origin, into, name, progress)
