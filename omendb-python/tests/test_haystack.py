"""Haystack's own suites, and what is ours beyond them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("haystack")

from haystack import Pipeline
from haystack.dataclasses import ByteStream, Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.testing import document_store as sync_suite
from haystack.testing import document_store_async as async_suite

import omendb
from omendb.haystack import OmenDBDocumentStore, OmenDBEmbeddingRetriever


def rounded(document: Document) -> Document:
    """The document as it is stored: embeddings are float32."""
    if document.embedding is None:
        return document
    embedding = np.asarray(document.embedding, dtype=np.float32).tolist()
    return Document.from_dict({**document.to_dict(flatten=False), "embedding": embedding})


class OpenStore:
    @pytest.fixture
    def document_store(self, path: Path) -> Iterator[OmenDBDocumentStore]:
        store = OmenDBDocumentStore(path=str(path), embedding_dim=768)
        yield store
        store.database.close()

    # The suite's hook for stores that keep documents in another precision: equality after rounding to float32.
    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        assert received == [rounded(document) for document in expected]


class TestStore(
    OpenStore,
    sync_suite.DocumentStoreBaseExtendedTests,
    sync_suite.CountDocumentsByFilterTest,
    sync_suite.CountUniqueMetadataByFilterTest,
    sync_suite.GetMetadataFieldsInfoTest,
    sync_suite.GetMetadataFieldMinMaxTest,
    sync_suite.GetMetadataFieldUniqueValuesTest,
):
    # The suite leaves the default policy to the store and asks for this test.
    def test_write_documents(self, document_store: OmenDBDocumentStore) -> None:
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])
        self.assert_documents_are_equal(document_store.filter_documents(), [document])


@pytest.mark.asyncio
class TestStoreAsync(
    OpenStore,
    async_suite.DeleteAllAsyncTest,
    async_suite.CountDocumentsAsyncTest,
    async_suite.CountDocumentsByFilterAsyncTest,
    async_suite.CountUniqueMetadataByFilterAsyncTest,
    async_suite.DeleteByFilterAsyncTest,
    async_suite.UpdateByFilterAsyncTest,
    async_suite.WriteDocumentsAsyncTest,
    async_suite.DeleteDocumentsAsyncTest,
    async_suite.GetMetadataFieldsInfoAsyncTest,
    async_suite.GetMetadataFieldMinMaxAsyncTest,
    async_suite.GetMetadataFieldUniqueValuesAsyncTest,
    async_suite.FilterDocumentsAsyncTest,
):
    async def test_write_documents_async(self, document_store: OmenDBDocumentStore) -> None:  # type: ignore[override]
        document = Document(content="test doc")
        assert await document_store.write_documents_async([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async([document])


@pytest.fixture
def store(path: Path) -> Iterator[OmenDBDocumentStore]:
    made = OmenDBDocumentStore(path=str(path), embedding_dim=2)
    made.write_documents(
        [
            Document(id="a", content="crash safe", meta={"year": 2020}, embedding=[1.0, 0.0]),
            Document(id="b", content="vector search", meta={"year": 2021}, embedding=[0.0, 1.0]),
            Document(id="c", content="no embedding", meta={"year": 2022}),
        ]
    )
    yield made
    made.database.close()


def test_retrieval_never_finds_what_has_no_embedding(store: OmenDBDocumentStore) -> None:
    found = store.embedding_retrieval([1.0, 0.1], top_k=9, return_embedding=True)
    assert [document.id for document in found] == ["a", "b"] and found[0].embedding == [1.0, 0.0]
    assert found[0].score is not None and found[1].score is not None and found[0].score > found[1].score
    later = store.embedding_retrieval([1.0, 0.0], {"field": "meta.year", "operator": ">", "value": 2020}, scale_score=True)
    assert [(document.id, document.score) for document in later] == [("b", 0.5)]


def test_documents_round_trip(store: OmenDBDocumentStore) -> None:
    document = Document(id="d", content=None, blob=ByteStream(b"\x00\xff", mime_type="x/y"), meta={"deep": {"list": [1]}})
    store.write_documents([document])
    assert [each for each in store.filter_documents() if each.id == "d"] == [document]


def test_a_list_with_one_bad_document_is_refused_whole(store: OmenDBDocumentStore) -> None:
    with pytest.raises(ValueError, match="embedding_dim"):
        store.write_documents([Document(content="good"), Document(content="bad", embedding=[1.0, 2.0, 3.0])])
    with pytest.raises(DuplicateDocumentError):
        store.write_documents([Document(id="new"), Document(id="a")], DuplicatePolicy.FAIL)
    assert store.count_documents() == 3
    assert store.write_documents([Document(id="a"), Document(id="new"), Document(id="new")], DuplicatePolicy.SKIP) == 1


def test_the_pipeline_component(store: OmenDBDocumentStore) -> None:
    pipeline = Pipeline()
    pipeline.add_component("retriever", OmenDBEmbeddingRetriever(store, top_k=1))
    again = Pipeline.from_dict(pipeline.to_dict(), allowed_modules=["omendb.haystack"])
    for each in (pipeline, again):
        found = each.run({"retriever": {"query_embedding": [0.0, 1.0]}})["retriever"]["documents"]
        assert [document.id for document in found] == ["b"]


def test_malformed_filters_are_refused(store: OmenDBDocumentStore) -> None:
    for filters in ({"field": "meta.year", "operator": "~", "value": 1}, {"operator": "XOR", "conditions": []}):
        with pytest.raises(FilterError):
            store.filter_documents(filters)
    with pytest.raises(FilterError):
        store.delete_by_filter({})


def test_dimensions_must_agree(store: OmenDBDocumentStore, path: Path) -> None:
    with pytest.raises(omendb.InvalidInput, match="2 dimensions"):
        OmenDBDocumentStore(path=str(path), embedding_dim=3)
