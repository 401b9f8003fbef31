"""The verbs of LlamaIndex's vector store, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

import omendb
from omendb.llama_index import OmenDBVectorStore


def node(name: str, text: str, embedding: list[float], source: str, **metadata: object) -> TextNode:
    return TextNode(
        id_=name,
        text=text,
        embedding=embedding,
        metadata=metadata,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)},
    )


NODES = [
    node("a", "crash safe storage", [1.0, 0.0], "s1", year=2020, tags=["x", "y"], author="Ada"),
    node("b", "vector search", [0.0, 1.0], "s1", year=2021, tags=["y"], author="adele 100%"),
    node("c", "open source", [0.7, 0.7], "s2", year=2022, tags=[]),
]


@pytest.fixture
def store(path: Path) -> Iterator[OmenDBVectorStore]:
    made = OmenDBVectorStore(path=str(path), collection="nodes")
    made.add(NODES)
    yield made
    made.client.close()


def ids(
    store: OmenDBVectorStore, *filters: MetadataFilter, condition: FilterCondition = FilterCondition.AND
) -> list[str]:
    found = store.get_nodes(filters=MetadataFilters(filters=list(filters), condition=condition))
    return sorted(each.node_id for each in found)


def test_query_returns_whole_nodes(store: OmenDBVectorStore) -> None:
    result = store.query(VectorStoreQuery(query_embedding=[1.0, 0.1], similarity_top_k=2))
    assert result.ids == ["a", "c"] and result.nodes is not None and result.similarities is not None
    first = result.nodes[0]
    assert first.get_content() == "crash safe storage" and first.metadata == NODES[0].metadata
    assert first.ref_doc_id == "s1" and result.similarities[0] > result.similarities[1]


def test_nodes_come_back_by_id(store: OmenDBVectorStore) -> None:
    found = store.get_nodes(node_ids=["c", "unknown", "a"])
    assert [each.node_id for each in found] == ["c", "a"] and found[0].embedding == pytest.approx([0.7, 0.7])


def test_adding_again_replaces(store: OmenDBVectorStore) -> None:
    store.add([node("a", "new text", [0.0, 1.0], "s1")])
    assert store.get_nodes(node_ids=["a"])[0].get_content() == "new text" and len(store.get_nodes()) == 3


def test_delete_by_document(store: OmenDBVectorStore) -> None:
    store.delete("s1")
    assert [each.node_id for each in store.get_nodes()] == ["c"]


def test_delete_nodes(store: OmenDBVectorStore) -> None:
    store.delete_nodes(node_ids=["a"])
    store.delete_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="year", value=2021)]))
    assert [each.node_id for each in store.get_nodes()] == ["c"]
    store.delete_nodes(
        node_ids=["c"], filters=MetadataFilters(filters=[MetadataFilter(key="year", value=1, operator=FilterOperator.GT)])
    )
    assert store.get_nodes() == []


def test_clear(store: OmenDBVectorStore) -> None:
    store.clear()
    assert store.get_nodes() == []
    assert store.query(VectorStoreQuery(query_embedding=[1.0, 0.0])).ids == []
    store.add(NODES[:1])
    assert len(store.get_nodes()) == 1


@pytest.mark.parametrize(
    ("operator", "key", "value", "expected"),
    [
        (FilterOperator.EQ, "year", 2020, ["a"]),
        (FilterOperator.NE, "year", 2020, ["b", "c"]),
        (FilterOperator.NE, "author", "Ada", ["b", "c"]),
        (FilterOperator.GT, "year", 2020, ["b", "c"]),
        (FilterOperator.GTE, "year", 2021, ["b", "c"]),
        (FilterOperator.LT, "year", 2021, ["a"]),
        (FilterOperator.LTE, "year", 2021, ["a", "b"]),
        (FilterOperator.IN, "year", [2020, 2022], ["a", "c"]),
        (FilterOperator.NIN, "year", [2020, 2022], ["b"]),
        (FilterOperator.ANY, "tags", ["x", "z"], ["a"]),
        (FilterOperator.ALL, "tags", ["x", "y"], ["a"]),
        (FilterOperator.CONTAINS, "tags", "y", ["a", "b"]),
        (FilterOperator.TEXT_MATCH, "author", "Ad", ["a"]),
        (FilterOperator.TEXT_MATCH, "author", "0%", ["b"]),
        (FilterOperator.TEXT_MATCH, "author", "a_", []),
        (FilterOperator.TEXT_MATCH_INSENSITIVE, "author", "AD", ["a", "b"]),
        (FilterOperator.IS_EMPTY, "author", None, ["c"]),
    ],
)
def test_filter_operators(
    store: OmenDBVectorStore, operator: FilterOperator, key: str, value: object, expected: list[str]
) -> None:
    assert ids(store, MetadataFilter(key=key, value=value, operator=operator)) == expected  # type: ignore[arg-type]


def test_filter_conditions(store: OmenDBVectorStore) -> None:
    early, late = MetadataFilter(key="year", value=2020), MetadataFilter(key="year", value=2022)
    assert ids(store, early, late) == []
    assert ids(store, early, late, condition=FilterCondition.OR) == ["a", "c"]
    assert ids(store, early, late, condition=FilterCondition.NOT) == ["b"]


def test_query_filters_by_node_and_document(store: OmenDBVectorStore) -> None:
    query = VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=9, node_ids=["b", "c"])
    assert store.query(query).ids == ["c", "b"]
    query = VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=9, doc_ids=["s1"])
    assert store.query(query).ids == ["a", "b"]


def test_diverse_results(store: OmenDBVectorStore) -> None:
    query = VectorStoreQuery(
        query_embedding=[1.0, 0.2], similarity_top_k=2, mode=VectorStoreQueryMode.MMR, mmr_threshold=0.3
    )
    assert store.query(query).ids == ["a", "b"]


def test_unknown_modes_are_refused(store: OmenDBVectorStore) -> None:
    with pytest.raises(omendb.Unsupported):
        store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], mode=VectorStoreQueryMode.SVM))


async def test_coroutines(path: Path) -> None:
    store = OmenDBVectorStore(path=str(path))
    assert await store.async_add(NODES) == ["a", "b", "c"]
    result = await store.aquery(VectorStoreQuery(query_embedding=[0.0, 1.0], similarity_top_k=1))
    assert result.ids == ["b"]
    await store.adelete_nodes(["b"])
    assert len(await store.aget_nodes()) == 2
    await store.adelete("s2")
    await store.aclear()
    assert await store.aget_nodes() == []
    store.client.close()


def test_nodes_survive_reopening(store: OmenDBVectorStore, path: Path) -> None:
    store.client.close()
    again = OmenDBVectorStore(path=str(path), collection="nodes")
    assert len(again.get_nodes()) == 3
    again.client.close()
