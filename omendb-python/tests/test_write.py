"""What can be written, in which forms, and what is refused whole."""

from __future__ import annotations

import math
from datetime import date, datetime, timezone
from typing import Any

import numpy as np
import pytest

import omendb


def stored(docs: omendb.Collection, ids: list[Any]) -> np.ndarray:
    records = docs.get(ids)
    assert all(record is not None for record in records)
    return np.stack([record.vector for record in records if record is not None])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "uint8", "int64", "bool"])
def test_every_element_type_is_accepted(docs: omendb.Collection, dtype: str) -> None:
    vectors = np.array([[0, 1, 0, 1], [1, 1, 0, 0]]).astype(dtype)
    assert docs.upsert(["a", "b"], vectors) == 2
    assert stored(docs, ["a", "b"]).tolist() == vectors.astype(np.float32).tolist()


def test_every_layout_is_accepted(docs: omendb.Collection, rng: np.random.Generator) -> None:
    base = rng.standard_normal((6, 8)).astype(np.float32)
    raw = np.zeros(6 * 4 * 4 + 1, dtype=np.uint8)
    misaligned = raw[1:].view(np.float32).reshape(6, 4)
    misaligned[:] = base[:, :4]
    layouts = {
        "contiguous": base[:, :4].copy(),
        "fortran": np.asfortranarray(base[:, :4]),
        "columns": base[:, ::2],
        "reversed": base[::-1, :4],
        "transposed": np.ascontiguousarray(base[:, :4].T).T,
        "big endian": base[:, :4].astype(">f4"),
        "misaligned": misaligned,
        "read-only": np.frombuffer(base[:, :4].tobytes(), dtype=np.float32).reshape(6, 4),
    }
    for name, vectors in layouts.items():
        ids = [f"{name}{row}" for row in range(6)]
        docs.upsert(ids, vectors)
        assert np.array_equal(stored(docs, ids), np.asarray(vectors, dtype=np.float32)), name


def test_lists_tuples_and_rows_of_arrays(docs: omendb.Collection) -> None:
    for vectors in ([[1, 2, 3, 4]], ((1.0, 2.0, 3.0, 4.0),), [np.arange(1, 5)], [np.arange(1, 5, dtype=np.float16)]):
        docs.upsert(["a"], vectors)
        assert stored(docs, ["a"]).tolist() == [[1, 2, 3, 4]]


def test_one_record_without_lists(docs: omendb.Collection) -> None:
    assert docs.upsert("a", [1, 2, 3, 4], {"n": 1}, "text") == 1
    assert docs.upsert(7, np.ones(4)) == 1
    record = docs.get("a")
    assert record is not None and (record.metadata, record.text) == ({"n": 1}, "text")


def test_ids_are_strings_or_integers(docs: omendb.Collection) -> None:
    docs.upsert([5, "5", np.int32(6), 2**64 - 1, "🙂"], np.ones((5, 4)))
    assert 5 in docs and "5" in docs and 6 in docs and 2**64 - 1 in docs and "🙂" in docs and "six" not in docs
    for dtype in ("int64", "uint64", "int32"):
        docs.upsert(np.arange(100, 103, dtype=dtype), np.ones((3, 4)))
    docs.upsert(np.array(["x", "y"]), np.ones((2, 4)))
    assert {record.id for record in docs} == {5, "5", 6, 2**64 - 1, "🙂", 100, 101, 102, "x", "y"}


@pytest.mark.parametrize("bad", [-1, 1.5, True, None, b"bytes", 2**64, "", "x" * 513, "\ud800", ("a",)])
def test_bad_ids_are_refused_whole(docs: omendb.Collection, bad: Any) -> None:
    with pytest.raises((omendb.InvalidInput, omendb.LimitExceeded)):
        docs.upsert(["good", bad], np.ones((2, 4)))
    assert len(docs) == 0


def test_negative_array_ids_are_refused(docs: omendb.Collection) -> None:
    with pytest.raises(omendb.InvalidInput, match=r"ids\[1\] is -3"):
        docs.upsert(np.array([1, -3]), np.ones((2, 4)))
    with pytest.raises(omendb.InvalidInput, match="one axis"):
        docs.upsert(np.array([[1], [2]]), np.ones((2, 4)))


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((2, 3)), "wrong dimension: 3"),
        (np.ones((1, 8)), "wrong dimension: 8"),
        (np.ones((3, 4)), "2 ids but 3 vectors"),
        (np.ones(8), "shape"),
        (np.ones((2, 2, 2)), "shape"),
        ([[1, 2, 3, 4], [1, 2, 3]], "same length"),
        ([[1, 2, 3, 4], [1, 2, 3, math.nan]], "NaN"),
        ([[1, 2, 3, 4], [1, 2, 3, math.inf]], "infinity"),
        ([[1, 2, 3, 4], [1, 2, 3, 1e300]], "infinity"),
        ([[1, 2, 3, 4], [1, 2, 3, None]], "float32"),
        ([["1", "2", "3", "4"]] * 2, "float32"),
        (np.ones((2, 4), dtype=np.complex64), "float32"),
        ("vectors", "str"),
        (None, "missing"),
        ({}, "dict"),
    ],
)
def test_bad_vectors_are_refused_whole(docs: omendb.Collection, vectors: Any, message: str) -> None:
    with pytest.raises(omendb.InvalidInput, match=message):
        docs.upsert(["a", "b"], vectors)
    assert len(docs) == 0


def test_zero_vector_has_no_cosine(db: omendb.Database) -> None:
    docs = db.create_collection("cosine", dim=2)
    with pytest.raises(omendb.InvalidInput, match="zero"):
        docs.upsert(["a", "b"], [[1.0, 0.0], [0.0, 0.0]])
    assert len(docs) == 0


def test_metadata_round_trips(docs: omendb.Collection) -> None:
    metadata = {
        "none": None,
        "flag": True,
        "integer": -(2**63),
        "large": 2**64 - 1,
        "float": 0.1,
        "whole": 1.0,
        "text": "ünïcode 🙂",
        "list": [1, "two", [3.0, None]],
        "nested": {"deep": {"deeper": []}},
        "": "empty key",
    }
    docs.upsert(["a"], np.ones((1, 4)), [metadata])
    record = docs.get("a")
    assert record is not None and record.metadata == metadata
    assert [type(value) for value in record.metadata.values()] == [type(value) for value in metadata.values()]
    assert record.metadata is record.metadata


def test_dates_and_numpy_values_become_json(docs: omendb.Collection) -> None:
    given = {
        "moment": datetime(2020, 5, 17, 10, 30, tzinfo=timezone.utc),
        "day": date(2020, 5, 17),
        "day64": np.datetime64("2020-05-17"),
        "nanoseconds": np.datetime64("2020-05-17T10:30:00.000000001", "ns"),
        "i": np.int16(3),
        "f": np.float32(0.5),
        "b": np.bool_(True),
        "array": np.arange(3),
        "tuple": (1, 2),
    }
    docs.upsert(["a"], np.ones((1, 4)), [given])
    record = docs.get("a")
    assert record is not None and record.metadata == {
        "moment": "2020-05-17T10:30:00+00:00",
        "day": "2020-05-17",
        "day64": "2020-05-17",
        "nanoseconds": "2020-05-17T10:30:00.000000001",
        "i": 3,
        "f": 0.5,
        "b": True,
        "array": [0, 1, 2],
        "tuple": [1, 2],
    }


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"down": value}
    return value


def endless() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"a": {"b": [1, object()]}}, r"metadata\[1\]\.a\.b\[1\] is of type object"),
        ({"x": math.nan}, r"metadata\[1\]\.x is NaN"),
        ({"x": 2**64}, "beyond 64 bits"),
        ({"x": b"bytes"}, "bytes"),
        ({"x": {1, 2}}, "set"),
        ({1: "x"}, "keys are strings"),
        ({"x": "\ud800"}, "surrogate"),
        ("text", "dict"),
        (5, "dict"),
        ({"x": "y" * (1 << 20)}, "limit"),
        (deep(100), "deeper"),
        (endless(), "deeper"),
    ],
)
def test_bad_metadata_is_refused_whole(docs: omendb.Collection, metadata: Any, message: str) -> None:
    with pytest.raises((omendb.InvalidInput, omendb.LimitExceeded), match=message):
        docs.upsert(["a", "b"], np.ones((2, 4)), [{"good": 1}, metadata])
    assert len(docs) == 0


def test_columns_of_another_length_are_refused(docs: omendb.Collection) -> None:
    with pytest.raises(omendb.InvalidInput, match="1 rows of metadata"):
        docs.upsert(["a", "b"], np.ones((2, 4)), [{"n": 1}])
    with pytest.raises(omendb.InvalidInput, match="3 rows of text"):
        docs.upsert(["a", "b"], np.ones((2, 4)), text=["a", "b", "c"])
    with pytest.raises(omendb.InvalidInput, match="dict"):
        docs.upsert(["a", "b"], np.ones((2, 4)), {"n": 1})
    with pytest.raises(omendb.InvalidInput, match="str"):
        docs.upsert(["a", "b"], np.ones((2, 4)), text="ab")
    with pytest.raises(omendb.InvalidInput, match=r"text\[1\] is of type int"):
        docs.upsert(["a", "b"], np.ones((2, 4)), text=["a", 5])  # type: ignore[list-item]
    assert len(docs) == 0


def test_add_refuses_known_ids_whole(docs: omendb.Collection) -> None:
    assert docs.add(["a"], np.ones((1, 4))) == 1
    with pytest.raises(omendb.AlreadyExists, match="a"):
        docs.add(["b", "a"], np.ones((2, 4)))
    assert len(docs) == 1


def test_an_id_twice_in_a_batch_is_refused(docs: omendb.Collection) -> None:
    with pytest.raises(omendb.InvalidInput):
        docs.upsert(["a", "a"], np.ones((2, 4)))
    assert len(docs) == 0


def test_empty_batches_write_nothing(docs: omendb.Collection) -> None:
    assert docs.upsert([], []) == 0
    assert docs.upsert([], np.empty((0, 4))) == 0
    assert docs.delete([]) == 0
    assert docs.get([]) == []


def test_update_changes_only_what_is_given(docs: omendb.Collection) -> None:
    docs.upsert("a", [1, 2, 3, 4], {"n": 1}, "text")
    docs.update("a", metadata={"n": 2})
    docs.update("a", vector=[4, 3, 2, 1])
    record = docs.get("a")
    assert record is not None
    assert (record.vector.tolist(), record.metadata, record.text) == ([4, 3, 2, 1], {"n": 2}, "text")
    docs.update("a", metadata=None, text=None)
    record = docs.get("a")
    assert record is not None and (record.metadata, record.text) == (None, None)
    with pytest.raises(omendb.NotFound):
        docs.update("b", text="new")
    with pytest.raises(omendb.InvalidInput):
        docs.update("a", vector=[1, 2])
    with pytest.raises(omendb.InvalidInput):
        docs.update("a", text=5)  # type: ignore[arg-type]


def test_delete_says_how_many_existed(docs: omendb.Collection) -> None:
    docs.upsert([1, 2, 3], np.ones((3, 4)))
    assert docs.delete([1, 9]) == 1
    assert docs.delete(2) == 1
    assert docs.delete(np.array([3])) == 1
    assert len(docs) == 0
    with pytest.raises(omendb.InvalidInput, match="either"):
        docs.delete()


@pytest.mark.parametrize(
    ("dtype", "numpy_dtype"), [("f32", "float32"), ("f16", "float16"), ("i8", "int8"), ("u8", "uint8")]
)
def test_stored_element_types(db: omendb.Database, dtype: str, numpy_dtype: str) -> None:
    docs = db.create_collection(dtype, dim=3, metric="l2", dtype=dtype)
    docs.upsert(["a", "b"], np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float64))
    record = docs.get("a")
    assert record is not None and record.vector.dtype == numpy_dtype and record.vector.tolist() == [1, 2, 3]
    assert docs.search([4, 5, 6], k=1).ids == ["b"]
    if dtype in ("i8", "u8"):
        with pytest.raises(omendb.InvalidInput, match="no exact place"):
            docs.upsert(["c"], [[0.5, 1.0, 2.0]])


def test_bits_packed_and_unpacked(db: omendb.Database, rng: np.random.Generator) -> None:
    docs = db.create_collection("bits", dim=12, metric="hamming", dtype="bits")
    bits = rng.integers(0, 2, (4, 12)).astype(bool)
    packed = np.packbits(bits, axis=-1, bitorder="little")
    docs.upsert(["bool"], bits[:1])
    docs.upsert(["zero and one"], bits[:1].astype(np.int64).tolist())
    docs.upsert(["packed"], packed[:1])
    for name in ("bool", "zero and one", "packed"):
        record = docs.get(name)
        assert record is not None and record.vector.tolist() == packed[0].tolist()
    assert docs.search(bits[1], k=1).distances[0] == (bits[0] ^ bits[1]).sum()
    with pytest.raises(omendb.InvalidInput, match="12 bits"):
        docs.upsert(["c"], np.full((1, 12), 2))
    with pytest.raises(omendb.InvalidInput, match="12 bits"):
        docs.upsert(["c"], np.ones((1, 11), dtype=bool))


def test_float32_input_is_read_in_place(docs: omendb.Collection) -> None:
    vectors = np.ones((3, 4), dtype=np.float32)
    assert omendb._vectors.matrix(vectors, bits=None) is vectors
    assert omendb._vectors.query(vectors[0], bits=None).base is vectors
