"""LangChain's own suite, and what is ours beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("langchain_tests")

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests.vectorstores import EMBEDDING_SIZE, VectorStoreIntegrationTests

import omendb
from omendb.langchain import OmenDBVectorStore


class TestStandard(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, path: Path) -> Iterator[VectorStore]:
        store = OmenDBVectorStore(self.get_embeddings(), path=path, collection="docs")
        yield store
        store.database.close()


@pytest.fixture
def store(path: Path) -> Iterator[OmenDBVectorStore]:
    embeddings = VectorStoreIntegrationTests.get_embeddings()
    made = OmenDBVectorStore.from_texts(
        ["one", "two", "three"], embeddings, [{"n": 1}, {"n": 2}, {"n": 3}], ids=["1", "2", "3"], path=path
    )
    yield made
    made.database.close()


def test_scores_are_higher_is_better(store: OmenDBVectorStore) -> None:
    (best, score), *rest = store.similarity_search_with_score("two", k=3)
    assert best == Document(page_content="two", metadata={"n": 2}, id="2") and score == pytest.approx(1.0, abs=1e-5)
    assert all(score >= other for _, other in rest)
    relevance = store.similarity_search_with_relevance_scores("two", k=3)
    assert all(0.0 <= each <= 1.0 for _, each in relevance)


def test_two_stores_share_a_database(store: OmenDBVectorStore, path: Path) -> None:
    other = OmenDBVectorStore(store.embeddings, path=path, collection="other")  # type: ignore[arg-type]
    assert other.database is store.database
    other.add_texts(["four"])
    assert len(other.similarity_search("four", k=9)) == 1 and len(store.similarity_search("four", k=9)) == 3


def test_documents_survive_reopening(store: OmenDBVectorStore, path: Path) -> None:
    store.database.close()
    again = OmenDBVectorStore(store.embeddings, path=path)  # type: ignore[arg-type]
    assert [document.page_content for document in again.get_by_ids(["3", "9", "1"])] == ["three", "one"]
    again.database.close()


def test_diverse_results(store: OmenDBVectorStore) -> None:
    chosen = store.max_marginal_relevance_search("one", k=2, fetch_k=3)
    assert chosen[0].page_content == "one" and len(chosen) == 2


def test_an_id_twice_keeps_the_last(store: OmenDBVectorStore) -> None:
    assert store.add_texts(["old", "new"], ids=["x", "x"]) == ["x", "x"]
    assert [document.page_content for document in store.get_by_ids(["x"])] == ["new"]


def test_filters(store: OmenDBVectorStore) -> None:
    found = store.similarity_search("one", k=3, filter={"n": {"$gte": 2}})
    assert {document.id for document in found} == {"2", "3"}
    store.delete(filter="n = 2")
    assert store.get_by_ids(["2"]) == []


def test_delete_without_ids_empties(store: OmenDBVectorStore) -> None:
    assert store.delete() and store.similarity_search("one") == []
    store.add_texts(["again"])
    assert len(store.similarity_search("again")) == 1


def test_other_dimensions_are_refused(store: OmenDBVectorStore) -> None:
    with pytest.raises(omendb.InvalidInput, match="wrong dimension"):
        store.add_embeddings(["x"], [[1.0] * (EMBEDDING_SIZE + 1)])
