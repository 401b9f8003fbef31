"""A Haystack document store and its retriever. Needs `haystack-ai`: `pip install "omendb[haystack]"`, or install it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import numpy as np
from haystack import component, default_from_dict, default_to_dict
from haystack.dataclasses import Document
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy
from haystack.document_stores.types.filter_policy import apply_filter_policy
from haystack.errors import FilterError

from ._collection import Collection
from ._database import Database
from ._errors import AlreadyExists, InvalidInput
from ._native import Hit, Record
from ._stores import LazyCollection, both, shared_database

__all__ = ["OmenDBDocumentStore", "OmenDBEmbeddingRetriever"]

# A record's metadata: the document's meta under `meta`, what else it carries under `rest`, and `embedded`, as a
# document without an embedding still has a vector, which no search may find.
_EMBEDDED = {"embedded": True}
_STORED_ELSEWHERE = ("id", "content", "embedding", "score", "meta")
_KINDS = {bool: "boolean", int: "long", float: "float", str: "keyword", list: "list", dict: "object"}


class OmenDBDocumentStore:
    """Documents of Haystack in a collection of OmenDB.

    Embeddings are stored as float32. Filters take `meta.` fields, at any depth.

    >>> from haystack.dataclasses import Document
    >>> store = OmenDBDocumentStore(path=":memory:", embedding_dim=2)
    >>> store.write_documents([Document(content="crash safe", meta={"year": 2020}, embedding=[1.0, 0.0])])
    1
    >>> store.embedding_retrieval([1.0, 0.0], top_k=1)[0].content
    'crash safe'
    """

    def __init__(
        self,
        path: str = ":memory:",
        collection: str = "haystack",
        embedding_dim: int = 768,
        *,
        metric: str = "cosine",
        database: Database | None = None,
    ) -> None:
        """Opens (or creates) `collection` in the database at `path`, or in an open `database`."""
        self.path = database.path if database is not None else str(path)
        self.collection = collection
        self.embedding_dim = embedding_dim
        self.metric = metric
        self._lazy = LazyCollection(database or shared_database(self.path), collection, metric)
        found = self._lazy.get()
        if found is not None and found.dim != embedding_dim:
            raise InvalidInput(
                f"embedding_dim = {embedding_dim} was given; collection {collection!r} has {found.dim} dimensions"
            )

    @property
    def database(self) -> Database:
        """The database, to flush, back up or close."""
        return self._lazy.database

    def to_dict(self) -> dict[str, Any]:
        """The arguments of this store, to make it anew."""
        arguments = {name: getattr(self, name) for name in ("path", "collection", "embedding_dim", "metric")}
        return dict(default_to_dict(self, **arguments))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> OmenDBDocumentStore:
        """The store of these arguments."""
        store: OmenDBDocumentStore = default_from_dict(cls, data)
        return store

    def _open(self) -> Collection:
        return self._lazy.make(self.embedding_dim)

    # Documents

    def count_documents(self) -> int:
        """Number of documents."""
        return self._open().count()

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """The documents that match, in storage order; without filters, all of them."""
        return [_document(record) for record in self._open().iterate(filter=_filter(filters))]

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Writes documents whole or not at all; returns how many. NONE fails on duplicates, as FAIL does.

        Raises:
            DuplicateDocumentError: an id is known, and the policy is NONE or FAIL.
            ValueError: not a list of documents, or an embedding of another dimension.
        """
        if not isinstance(documents, Iterable) or isinstance(documents, (str, bytes)):
            raise InvalidInput(f"documents of type {type(documents).__name__} were given; a list was expected")
        given = list(documents)
        for document in given:
            if not isinstance(document, Document):
                raise InvalidInput(f"a document of type {type(document).__name__} was given; a Document was expected")
        collection = self._open()
        if policy == DuplicatePolicy.SKIP:
            known = collection.get([document.id for document in given]) if given else []
            given = [document for document, found in zip(given, known, strict=True) if found is None]
            given = list({document.id: document for document in reversed(given)}.values())[::-1]
        elif policy == DuplicatePolicy.OVERWRITE:
            given = list({document.id: document for document in given}.values())
        elif len({document.id for document in given}) < len(given):
            raise DuplicateDocumentError("the documents name an id twice; remove one, or use another policy")
        if not given:
            return 0
        write = collection.upsert if policy == DuplicatePolicy.OVERWRITE else collection.add
        try:
            return write(
                [document.id for document in given],
                np.stack([self._vector(document) for document in given]),
                [_metadata(document) for document in given],
                [document.content for document in given],
            )
        except AlreadyExists as error:
            raise DuplicateDocumentError(str(error)) from error

    def _vector(self, document: Document) -> Any:
        if document.embedding is not None:
            vector = np.asarray(document.embedding, dtype=np.float32)
            if vector.shape == (self.embedding_dim,):
                return vector
            raise InvalidInput(
                f"document {document.id}: an embedding of {vector.size} elements was given; embedding_dim is "
                f"{self.embedding_dim}"
            )
        # No search finds it, but cosine wants a direction.
        vector = np.zeros(self.embedding_dim, dtype=np.float32)
        vector[0] = 1.0
        return vector

    def delete_documents(self, document_ids: list[str]) -> None:
        """Deletes documents by id; unknown ids are no error."""
        self._open().delete(document_ids)

    def delete_all_documents(self, recreate_collection: bool = False) -> None:
        """Deletes all documents; `recreate_collection` drops the collection and makes a new one, which is faster."""
        if recreate_collection:
            self._lazy.drop()
            self._open()
            return
        collection = self._open()
        collection.delete([record.id for record in collection.iterate()])

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Deletes the documents that match; returns how many."""
        condition = _filter(filters)
        if condition is None:
            raise FilterError("delete_by_filter was given no filter; use delete_all_documents to delete everything")
        return self._open().delete(filter=condition)

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Sets fields of `meta` in the documents that match; returns how many."""
        collection = self._open()
        records = list(collection.iterate(filter=_filter(filters)))
        if not records:
            return 0
        changed = []
        for record in records:
            stored = record.metadata or {}
            changed.append({**stored, "meta": {**stored.get("meta", {}), **meta}})
        return collection.upsert(
            [record.id for record in records],
            np.stack([record.vector for record in records]),
            changed,
            [record.text for record in records],
        )

    # Retrieval

    def embedding_retrieval(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool = False,
    ) -> list[Document]:
        """The `top_k` documents nearest to an embedding, with scores (higher is better).

        `scale_score` maps the score of metric cosine or dot from -1...1 to 0...1.
        """
        hits = self._open().search(
            query_embedding,
            top_k,
            filter=both(_EMBEDDED, _filter(filters)),
            include=("metadata", "text", "vector") if return_embedding else ("metadata", "text"),
        )
        return [_scored(hit, scale_score) for hit in hits]

    def bm25_retrieval(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int = 10
    ) -> list[Document]:
        """The `top_k` documents whose content matches the words of a query best."""
        hits = self._open().search(text=query, k=top_k, filter=_filter(filters))
        return [_scored(hit, False) for hit in hits]

    # Metadata

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """Number of documents that match."""
        return self._open().count(filter=_filter(filters))

    def count_unique_metadata_by_filter(
        self, filters: dict[str, Any], metadata_fields: list[str]
    ) -> dict[str, int]:
        """Number of distinct values of each field among the documents that match."""
        seen: dict[str, set[str]] = {field: set() for field in metadata_fields}
        for meta in self._metas(filters):
            for field in metadata_fields:
                value = _value(meta, field)
                if value is not None:
                    seen[field].add(_key(value))
        return {field: len(values) for field, values in seen.items()}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """The fields of the documents' meta and the types of their values."""
        kinds: dict[str, set[str]] = {}
        for meta in self._metas(None):
            for field, value in meta.items():
                if value is not None:
                    kinds.setdefault(field, set()).add(_KINDS.get(type(value), "object"))
        return {field: {"type": found.pop() if len(found) == 1 else "mixed"} for field, found in kinds.items()}

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """The least and greatest value of a field; numbers if there are any, else strings; None if it has none."""
        values = [value for meta in self._metas(None) if (value := _value(meta, metadata_field)) is not None]
        numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
        ordered: list[Any] = numbers or [value for value in values if isinstance(value, str)]
        return {"min": min(ordered, default=None), "max": max(ordered, default=None)}

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int | None = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """A page of a field's distinct values, sorted, and how many there are.

        `search_term` keeps values that contain it, whatever the case; 1, 1.0, "1" and True are distinct.
        """
        values: dict[str, Any] = {}
        for meta in self._metas(filters):
            value = _value(meta, metadata_field)
            for each in value if isinstance(value, list) else [value]:
                if each is not None and (search_term is None or search_term.lower() in str(each).lower()):
                    values.setdefault(_key(each), each)
        ordered = sorted(values.values(), key=lambda value: (str(value), type(value).__name__))
        return ordered[from_ : None if size is None else from_ + size], len(ordered)

    def _metas(self, filters: dict[str, Any] | None) -> Iterable[dict[str, Any]]:
        for record in self._open().iterate(filter=_filter(filters)):
            yield (record.metadata or {}).get("meta", {})

    # The same verbs as coroutines, on threads

    async def count_documents_async(self) -> int:
        """As `count_documents`."""
        return await asyncio.to_thread(self.count_documents)

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """As `filter_documents`."""
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """As `write_documents`."""
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """As `delete_documents`."""
        await asyncio.to_thread(self.delete_documents, document_ids)

    async def delete_all_documents_async(self, recreate_collection: bool = False) -> None:
        """As `delete_all_documents`."""
        await asyncio.to_thread(self.delete_all_documents, recreate_collection)

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        """As `delete_by_filter`."""
        return await asyncio.to_thread(self.delete_by_filter, filters)

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """As `update_by_filter`."""
        return await asyncio.to_thread(self.update_by_filter, filters, meta)

    async def embedding_retrieval_async(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool = False,
    ) -> list[Document]:
        """As `embedding_retrieval`."""
        return await asyncio.to_thread(
            self.embedding_retrieval, query_embedding, filters, top_k, scale_score, return_embedding
        )

    async def bm25_retrieval_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int = 10
    ) -> list[Document]:
        """As `bm25_retrieval`."""
        return await asyncio.to_thread(self.bm25_retrieval, query, filters, top_k)

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        """As `count_documents_by_filter`."""
        return await asyncio.to_thread(self.count_documents_by_filter, filters)

    async def count_unique_metadata_by_filter_async(
        self, filters: dict[str, Any], metadata_fields: list[str]
    ) -> dict[str, int]:
        """As `count_unique_metadata_by_filter`."""
        return await asyncio.to_thread(self.count_unique_metadata_by_filter, filters, metadata_fields)

    async def get_metadata_fields_info_async(self) -> dict[str, dict[str, str]]:
        """As `get_metadata_fields_info`."""
        return await asyncio.to_thread(self.get_metadata_fields_info)

    async def get_metadata_field_min_max_async(self, metadata_field: str) -> dict[str, Any]:
        """As `get_metadata_field_min_max`."""
        return await asyncio.to_thread(self.get_metadata_field_min_max, metadata_field)

    async def get_metadata_field_unique_values_async(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int | None = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """As `get_metadata_field_unique_values`."""
        return await asyncio.to_thread(
            self.get_metadata_field_unique_values, metadata_field, search_term, from_, size, filters
        )


@component
class OmenDBEmbeddingRetriever:
    """Retrieves the documents nearest to a query's embedding, in a pipeline."""

    def __init__(
        self,
        document_store: OmenDBDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool = False,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        if not isinstance(document_store, OmenDBDocumentStore):
            raise InvalidInput(f"a {type(document_store).__name__} was given; an OmenDBDocumentStore was expected")
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.scale_score = scale_score
        self.return_embedding = return_embedding
        self.filter_policy = FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy

    def to_dict(self) -> dict[str, Any]:
        """The arguments of this component."""
        return dict(
            default_to_dict(
                self,
                document_store=self.document_store.to_dict(),
                filters=self.filters,
                top_k=self.top_k,
                scale_score=self.scale_score,
                return_embedding=self.return_embedding,
                filter_policy=self.filter_policy.value,
            )
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> OmenDBEmbeddingRetriever:
        """The component of these arguments."""
        arguments = dict(data["init_parameters"])
        arguments["document_store"] = OmenDBDocumentStore.from_dict(arguments["document_store"])
        return cls(**arguments)

    def _arguments(
        self, filters: dict[str, Any] | None, top_k: int | None
    ) -> tuple[dict[str, Any] | None, int, bool, bool]:
        merged = apply_filter_policy(self.filter_policy, self.filters, filters)
        return merged, top_k or self.top_k, self.scale_score, self.return_embedding

    @component.output_types(documents=list[Document])
    def run(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """The documents nearest to `query_embedding`."""
        found = self.document_store.embedding_retrieval(query_embedding, *self._arguments(filters, top_k))
        return {"documents": found}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """As `run`."""
        arguments = self._arguments(filters, top_k)
        return {"documents": await self.document_store.embedding_retrieval_async(query_embedding, *arguments)}


def _metadata(document: Document) -> dict[str, Any]:
    fields = document.to_dict(flatten=False)
    rest = {name: value for name, value in fields.items() if name not in _STORED_ELSEWHERE and value is not None}
    metadata: dict[str, Any] = {"meta": document.meta, "embedded": document.embedding is not None}
    return {**metadata, "rest": rest} if rest else metadata


def _document(found: Hit | Record, score: float | None = None) -> Document:
    metadata = found.metadata
    if metadata is None or "embedded" not in metadata:
        raise DocumentStoreError(f"record {found.id!r} was not written by a Haystack document store")
    vector = found.vector if metadata["embedded"] else None
    document: Document = Document.from_dict(
        {
            **metadata.get("rest", {}),
            "id": str(found.id),
            "content": found.text,
            "meta": metadata.get("meta", {}),
            "embedding": None if vector is None else vector.astype(np.float32).tolist(),
            "score": score,
        }
    )
    return document


def _scored(hit: Hit, scale: bool) -> Document:
    return _document(hit, (hit.score + 1.0) / 2.0 if scale else hit.score)


def _key(value: Any) -> str:
    return f"{type(value).__name__} {json.dumps(value, sort_keys=True)}"


def _value(meta: dict[str, Any], field: str) -> Any:
    value: Any = meta
    for key in field.removeprefix("meta.").split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


# Filters: Haystack's nested comparisons and logic as OmenDB's

_ORDERS = {">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
_NOTHING: dict[str, Any] = {"$not": {}}


def _filter(filters: dict[str, Any] | None) -> Any:
    if not filters:
        return None
    if not isinstance(filters, dict):
        raise FilterError(f"filters of type {type(filters).__name__} were given; a dict was expected")
    return _comparison(filters) if "field" in filters else _logic(filters)


def _logic(group: dict[str, Any]) -> Any:
    if "operator" not in group or "conditions" not in group:
        missing = "operator" if "operator" not in group else "conditions"
        raise FilterError(f"{missing!r} is missing in the filter {group!r}")
    if not isinstance(group["conditions"], list):
        raise FilterError(f"'conditions' must be a list in the filter {group!r}")
    parts = [_comparison(each) if "field" in each else _logic(each) for each in group["conditions"]]
    every = {"$and": parts} if parts else {}
    if group["operator"] == "AND":
        return every
    if group["operator"] == "OR":
        return {"$or": parts} if parts else _NOTHING
    if group["operator"] == "NOT":
        return {"$not": every}
    raise FilterError(f"logical operator {group['operator']!r} is not known; use AND, OR or NOT")


def _comparison(condition: dict[str, Any]) -> Any:
    for name in ("operator", "value"):
        if name not in condition:
            raise FilterError(f"{name!r} is missing in the filter {condition!r}")
    operator, value = condition["operator"], condition["value"]
    field = "meta." + str(condition["field"]).removeprefix("meta.")
    if operator in ("==", "!="):
        if isinstance(value, (list, dict)):
            raise FilterError(f"operator {operator!r} compares with a single value, not {type(value).__name__}")
        return {field: {"$eq" if operator == "==" else "$ne": value}}
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise FilterError(f"operator {operator!r} takes a list, not {type(value).__name__}")
        return {field: {"$in" if operator == "in" else "$nin": value}}
    if operator in _ORDERS:
        return _NOTHING if value is None else {field: {_ORDERS[operator]: _ordered(value, operator)}}
    raise FilterError(f"operator {operator!r} is not known; use ==, !=, >, >=, <, <=, in or not in")


def _ordered(value: Any, operator: str) -> Any:
    """A number or a date; other strings have no order that Haystack defines."""
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError as error:
            raise FilterError(f"operator {operator!r} compares numbers and ISO dates; {value!r} is neither") from error
    elif not isinstance(value, (int, float, datetime)) or isinstance(value, bool):
        raise FilterError(f"operator {operator!r} compares numbers and ISO dates, not {type(value).__name__}")
    return value
