"""A LlamaIndex vector store. Needs `llama-index-core`: `pip install "omendb[llama-index]"`, or install it yourself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from ._collection import Collection
from ._database import Database
from ._errors import InvalidInput, Unsupported
from ._native import Hit, Record
from ._stores import LazyCollection, both, last_of_each, shared_database

__all__ = ["OmenDBVectorStore"]

_NODE_ID = "_node_id"


class OmenDBVectorStore(BasePydanticVectorStore):
    """Nodes of LlamaIndex in a collection of OmenDB.

    >>> from llama_index.core.schema import TextNode
    >>> from llama_index.core.vector_stores.types import VectorStoreQuery
    >>> store = OmenDBVectorStore(path=":memory:")
    >>> store.add([TextNode(id_="a", text="crash safe", embedding=[1.0, 0.0])])
    ['a']
    >>> store.query(VectorStoreQuery(query_embedding=[1.0, 0.1], similarity_top_k=1)).ids
    ['a']
    """

    stores_text: bool = True
    flat_metadata: bool = False
    path: str = ":memory:"
    collection: str = "llama_index"
    metric: str = "cosine"

    _lazy: LazyCollection = PrivateAttr()

    def __init__(
        self,
        path: str = ":memory:",
        collection: str = "llama_index",
        *,
        metric: str = "cosine",
        database: Database | None = None,
        **kwargs: Any,
    ) -> None:
        """Opens (or creates) `collection` in the database at `path`, or in an open `database`."""
        place = database.path if database is not None else str(path)
        fields: dict[str, Any] = {"path": place, "collection": collection, "metric": metric, **kwargs}
        super().__init__(**fields)
        self._lazy = LazyCollection(database or shared_database(place), collection, metric)

    @classmethod
    def class_name(cls) -> str:
        """The name that serialised stores carry."""
        return "OmenDBVectorStore"

    @property
    def client(self) -> Database:
        """The database, to flush, back up or close."""
        return self._lazy.database

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Writes nodes with their embeddings, replacing those whose ids are known. Returns their ids."""
        if not nodes:
            return []
        ids, kept = last_of_each([node.node_id for node in nodes], nodes)
        vectors = np.asarray([node.get_embedding() for node in kept], dtype=np.float32)
        metadata = [
            {**node_to_metadata_dict(node, remove_text=True, flat_metadata=self.flat_metadata), _NODE_ID: node.node_id}
            for node in kept
        ]
        text = [node.get_content(metadata_mode=MetadataMode.NONE) for node in kept]
        self._lazy.make(vectors.shape[1]).upsert(ids, vectors, metadata, text)
        return [node.node_id for node in nodes]

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """As `add`, on a thread."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Deletes the nodes of a document."""
        collection = self._lazy.get()
        if collection is not None:
            collection.delete(filter={"ref_doc_id": ref_doc_id})

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """As `delete`, on a thread."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Deletes nodes by id and filters; both given, those that match both."""
        collection = self._lazy.get()
        if collection is None or (node_ids is None and filters is None):
            return
        if filters is None:
            collection.delete(node_ids)
        else:
            collection.delete(filter=_filter(filters, node_ids=node_ids))

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """As `delete_nodes`, on a thread."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    def clear(self) -> None:
        """Deletes all nodes."""
        self._lazy.drop()

    async def aclear(self) -> None:
        """As `clear`, on a thread."""
        await asyncio.to_thread(self.clear)

    def get_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Nodes by id (in that order) and filters; without either, all of them."""
        collection = self._lazy.get()
        if collection is None:
            return []
        if node_ids is not None and filters is None:
            return [_node(record) for record in collection.get(node_ids) if record is not None]
        return [_node(record) for record in collection.iterate(filter=_filter(filters, node_ids=node_ids))]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """As `get_nodes`, on a thread."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes nearest to a query; modes default, MMR, text search and hybrid."""
        collection = self._lazy.get()
        if collection is None:
            return VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
        condition = _filter(query.filters, node_ids=query.node_ids, doc_ids=query.doc_ids)
        if query.mode == VectorStoreQueryMode.MMR:
            hits = _diverse(collection, query, condition, **kwargs)
        else:
            hits = list(collection.search(**_what(query), k=_top_k(query), filter=condition, **kwargs))
        return VectorStoreQueryResult(
            nodes=[_node(hit) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[str(hit.id) for hit in hits],
        )

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """As `query`, on a thread."""
        return await asyncio.to_thread(self.query, query, **kwargs)


def _top_k(query: VectorStoreQuery) -> int:
    if query.mode == VectorStoreQueryMode.HYBRID and query.hybrid_top_k is not None:
        return query.hybrid_top_k
    return query.similarity_top_k


def _what(query: VectorStoreQuery) -> dict[str, Any]:
    """What a query's mode searches for: a vector, a text, or both."""
    if query.mode == VectorStoreQueryMode.DEFAULT:
        return {"vector": query.query_embedding}
    if query.mode == VectorStoreQueryMode.TEXT_SEARCH:
        return {"text": query.query_str}
    if query.mode == VectorStoreQueryMode.HYBRID:
        both = {"vector": query.query_embedding, "text": query.query_str}
        return both if query.alpha is None else {**both, "fuse": "weighted", "alpha": query.alpha}
    raise Unsupported(f"unsupported: query mode {query.mode.value}; use default, mmr, text_search or hybrid")


def _diverse(collection: Collection, query: VectorStoreQuery, condition: Any, **kwargs: Any) -> list[Hit]:
    """Hits chosen one by one, each near to the query and far from those chosen before."""
    fetch = kwargs.pop("mmr_prefetch_k", None) or 4 * query.similarity_top_k
    hits = list(
        collection.search(
            query.query_embedding, k=fetch, filter=condition, include=("metadata", "text", "vector"), **kwargs
        )
    )
    if not hits:
        return []
    weight = 0.5 if query.mmr_threshold is None else query.mmr_threshold
    vectors = np.stack([np.asarray(hit.vector, dtype=np.float32) for hit in hits])
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    target = np.asarray(query.query_embedding, dtype=np.float32)
    nearness = vectors @ (target / max(float(np.linalg.norm(target)), float(np.finfo(np.float32).tiny)))
    chosen: list[int] = []
    closest = np.zeros(len(hits), dtype=np.float32)
    while len(chosen) < min(query.similarity_top_k, len(hits)):
        gain = weight * nearness - (1.0 - weight) * closest
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        similar = vectors @ vectors[chosen[-1]]
        closest = similar if len(chosen) == 1 else np.maximum(closest, similar)
    return [hits[row] for row in chosen]


def _node(found: Hit | Record) -> BaseNode:
    node = metadata_dict_to_node(found.metadata or {}, text=found.text)
    if found.vector is not None:
        node.embedding = found.vector.astype(np.float32).tolist()
    return node


def _filter(
    filters: MetadataFilters | None, *, node_ids: list[str] | None = None, doc_ids: list[str] | None = None
) -> Any:
    return both(
        None if filters is None else _group(filters),
        None if node_ids is None else {_NODE_ID: {"$in": list(node_ids)}},
        None if doc_ids is None else {"ref_doc_id": {"$in": list(doc_ids)}},
    )


def _group(group: MetadataFilters) -> Any:
    parts = [_group(each) if isinstance(each, MetadataFilters) else _one(each) for each in group.filters]
    if not parts:
        return None
    if group.condition == FilterCondition.OR:
        return {"$or": parts}
    if group.condition == FilterCondition.NOT:
        return {"$not": {"$or": parts}}
    return {"$and": parts}


_OPERATORS = {
    FilterOperator.EQ: "$eq",
    FilterOperator.NE: "$ne",
    FilterOperator.GT: "$gt",
    FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt",
    FilterOperator.LTE: "$lte",
    FilterOperator.IN: "$in",
    FilterOperator.NIN: "$nin",
    FilterOperator.ANY: "$in",
    FilterOperator.CONTAINS: "$contains",
}


def _one(condition: MetadataFilter) -> Any:
    key, value, operator = condition.key, condition.value, condition.operator
    if operator in _OPERATORS:
        return {key: {_OPERATORS[operator]: value}}
    if operator == FilterOperator.ALL:
        if not isinstance(value, list):
            raise InvalidInput(f"filter on {key!r}: operator all takes a list, not {type(value).__name__}")
        return {"$and": [{}, *({key: {"$eq": each}} for each in value)]}
    if operator == FilterOperator.IS_EMPTY:
        return {"$or": [{key: None}, {key: ""}, {"$not": {key: {"$exists": True}}}]}
    if operator in (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE) and isinstance(value, str):
        pattern = "".join("\\" + each if each in "%_\\" else each for each in value)
        return {key: {"$like" if operator == FilterOperator.TEXT_MATCH else "$ilike": f"%{pattern}%"}}
    raise InvalidInput(f"filter on {key!r}: operator {operator.value} with {value!r} has no meaning")
