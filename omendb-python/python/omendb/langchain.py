"""A LangChain vector store. Needs `langchain-core`: `pip install "omendb[langchain]"`, or install it yourself."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from ._database import Database
from ._hits import Hits
from ._native import Hit, Record
from ._stores import LazyCollection, last_of_each, shared_database
from ._types import Filter, Include

__all__ = ["OmenDBVectorStore"]


class OmenDBVectorStore(VectorStore):
    """Documents of LangChain in a collection of OmenDB.

    Scores are OmenDB's: higher is better (cosine similarity, dot product, negative Euclidean distance).
    Searches take `filter=`, a dict or string on the documents' metadata.

    >>> from langchain_core.embeddings import DeterministicFakeEmbedding
    >>> store = OmenDBVectorStore(DeterministicFakeEmbedding(size=8), path=":memory:")
    >>> _ = store.add_texts(["crash safe storage", "vector search"], [{"year": 2020}, {"year": 2021}])
    >>> store.similarity_search("vector search", k=1)[0].metadata
    {'year': 2021}
    """

    def __init__(
        self,
        embedding: Embeddings,
        path: str | os.PathLike[str] = ":memory:",
        collection: str = "langchain",
        *,
        metric: str = "cosine",
        database: Database | None = None,
    ) -> None:
        """Opens (or creates) `collection` in the database at `path`, or in an open `database`."""
        self._embedding = embedding
        self._lazy = LazyCollection(database or shared_database(path), collection, metric)

    @property
    def embeddings(self) -> Embeddings:
        """The embedding model."""
        return self._embedding

    @property
    def database(self) -> Database:
        """The database, to flush, back up or close."""
        return self._lazy.database

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> OmenDBVectorStore:
        """A store that holds `texts`; further arguments as of the class."""
        store = cls(embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embeds and writes texts, replacing those whose ids are known. Returns their ids."""
        listed = list(texts)
        if not listed:
            return []
        return self.add_embeddings(listed, self._embedding.embed_documents(listed), metadatas, ids)

    def add_embeddings(
        self,
        texts: Sequence[str],
        embeddings: Sequence[Sequence[float]],
        metadatas: Sequence[dict[str, Any]] | None = None,
        ids: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Writes texts whose embeddings are known, replacing those whose ids are known. Returns their ids."""
        if not texts:
            return []
        named = [id or str(uuid.uuid4()) for id in ids or [None] * len(texts)]
        rows = list(zip(embeddings, metadatas or [{}] * len(texts), texts, strict=True))
        unique, kept = last_of_each(named, rows)
        vectors = np.asarray([embedding for embedding, _, _ in kept], dtype=np.float32)
        self._lazy.make(vectors.shape[1]).upsert(
            unique, vectors, [dict(metadata or {}) for _, metadata, _ in kept], [text for _, _, text in kept]
        )
        return named

    def delete(self, ids: list[str] | None = None, *, filter: Filter | None = None, **kwargs: Any) -> bool:
        """Deletes documents by id or filter; without either, all of them."""
        collection = self._lazy.get()
        if collection is None:
            return True
        if ids is None and filter is None:
            self._lazy.drop()
        else:
            collection.delete(ids, filter=filter)
        return True

    def delete_collection(self) -> None:
        """Deletes the collection and all of its documents."""
        self._lazy.drop()

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents of these ids, in their order, without those that do not exist."""
        collection = self._lazy.get()
        if collection is None:
            return []
        return [_document(record) for record in collection.get(list(ids)) if record is not None]

    def similarity_search(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """The `k` documents nearest to a query."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The `k` documents nearest to a query, with their scores (higher is better)."""
        return self.similarity_search_by_vector_with_score(self._embedding.embed_query(query), k, filter, **kwargs)

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """The `k` documents nearest to a vector."""
        return [document for document, _ in self.similarity_search_by_vector_with_score(embedding, k, filter, **kwargs)]

    def similarity_search_by_vector_with_score(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The `k` documents nearest to a vector, with their scores (higher is better)."""
        hits = self._search(embedding, k, filter, ("metadata", "text"), **kwargs)
        return [(_document(hit), hit.score) for hit in hits]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """`k` of the `fetch_k` documents nearest to a query, chosen to differ from one another."""
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, **kwargs)

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """`k` of the `fetch_k` documents nearest to a vector, chosen to differ from one another."""
        filter = kwargs.pop("filter", None)
        hits = self._search(embedding, fetch_k, filter, ("metadata", "text", "vector"), **kwargs)
        vectors = [[] if hit.vector is None else hit.vector.tolist() for hit in hits]
        chosen = maximal_marginal_relevance(np.asarray(embedding, dtype=np.float32), vectors, lambda_mult, k)
        return [_document(hits[row]) for row in chosen]

    def _search(
        self, embedding: Sequence[float], k: int, filter: Filter | None, include: tuple[Include, ...], **kwargs: Any
    ) -> Hits | list[Hit]:
        collection = self._lazy.get()
        if collection is None:
            return []
        return collection.search(embedding, k, filter=filter, include=include, **kwargs)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Scores on LangChain's scale of 0 to 1."""
        if self._lazy.metric in ("l2", "euclidean", "euclid"):
            return lambda score: max(0.0, self._euclidean_relevance_score_fn(-score))
        return lambda score: min(1.0, max(0.0, score))


def _document(found: Hit | Record) -> Document:
    return Document(id=str(found.id), page_content=found.text or "", metadata=found.metadata or {})
