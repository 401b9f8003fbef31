"""Tables of pandas, polars and anything that speaks Arrow's PyCapsule interface, as columns of a batch."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np

from ._errors import InvalidInput

_ID = ("id", "ids", "_id")
_VECTOR = ("vector", "vectors", "embedding", "embeddings")
_TEXT = ("text", "document", "documents")
_METADATA = ("metadata", "metadatas")
_FRAMES = ("pandas", "polars")


class Columns(NamedTuple):
    """The columns of a batch."""

    ids: Any
    vectors: Any
    metadata: list[dict[str, Any] | None] | None
    text: list[str | None] | None


def is_table(given: Any) -> bool:
    """Whether ``given`` is a table: a DataFrame, or anything with Arrow's PyCapsule interface."""
    return hasattr(given, "__arrow_c_stream__") or hasattr(given, "__arrow_c_array__") or _kind(given) in _FRAMES


def columns(table: Any) -> Columns:
    """The batch of a table: id and vector, and if present text and metadata; what is left becomes metadata fields."""
    kind = _kind(table)
    reader = _Pandas(table) if kind == "pandas" else _Polars(table) if kind == "polars" else _Arrow(table)
    names = reader.names()
    id_name = _find(names, _ID)
    vector_name = _find(names, _VECTOR)
    if id_name is None or vector_name is None:
        missing = "id" if id_name is None else "vector"
        raise InvalidInput(f"a table of columns {names} was given; a column named {missing!r} was expected: rename it")
    text_name = _find(names, _TEXT)
    metadata_name = _find(names, _METADATA)
    fields = [name for name in names if name not in (id_name, vector_name, text_name, metadata_name)]
    text = None if text_name is None else [_plain(value) for value in reader.values(text_name)]
    return Columns(reader.ids(id_name), reader.vectors(vector_name), _metadata(reader, metadata_name, fields), text)


def _metadata(reader: _Reader, name: str | None, fields: list[str]) -> list[dict[str, Any] | None] | None:
    if name is None and not fields:
        return None
    rows: list[dict[str, Any] | None] = []
    if name is not None:
        rows = [_object(value) for value in reader.values(name)]
    for field in fields:
        values = reader.values(field)
        if not rows:
            rows = [None] * len(values)
        for row, value in enumerate(values):
            plain = _plain(value)
            if plain is not None:
                rows[row] = {**(rows[row] or {}), field: plain}
    return rows


def _object(value: Any) -> dict[str, Any] | None:
    plain = _plain(value)
    if isinstance(plain, str):
        try:
            plain = json.loads(plain)
        except ValueError as error:
            raise InvalidInput(f"a metadata column of text must hold JSON objects: {error}") from error
    if isinstance(plain, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in plain):
        plain = dict(plain)  # Arrow's map type
    if plain is not None and not isinstance(plain, dict):
        raise InvalidInput(f"a metadata column holds {type(plain).__name__}; objects (structs, maps, JSON) were expected")
    return plain


def _plain(value: Any) -> Any:
    """None for the values that tables use for a missing one (NaN, NaT, NA)."""
    if value is None or isinstance(value, (str, dict, list)):
        return value
    if isinstance(value, float) and value != value:
        return None
    return None if type(value).__name__ in ("NaTType", "NAType") else value


def _find(names: list[str], accepted: tuple[str, ...]) -> str | None:
    return next((name for name in accepted if name in names), None)


def _kind(table: Any) -> str:
    return type(table).__module__.partition(".")[0]


class _Reader:
    def names(self) -> list[str]:
        raise NotImplementedError

    def values(self, name: str) -> list[Any]:
        raise NotImplementedError

    def ids(self, name: str) -> Any:
        return self.values(name)

    def vectors(self, name: str) -> Any:
        return _stacked(self.values(name))


class _Pandas(_Reader):
    def __init__(self, table: Any) -> None:
        if not hasattr(table, "columns"):
            raise InvalidInput(f"a pandas {type(table).__name__} was given; a DataFrame was expected")
        self._table = table

    def names(self) -> list[str]:
        return [str(name) for name in self._table.columns]

    def values(self, name: str) -> list[Any]:
        values: list[Any] = self._table[name].tolist()
        return values


class _Polars(_Reader):
    def __init__(self, table: Any) -> None:
        if hasattr(table, "collect"):
            table = table.collect()
        if not hasattr(table, "columns"):
            raise InvalidInput(f"a polars {type(table).__name__} was given; a DataFrame was expected")
        self._table = table

    def names(self) -> list[str]:
        return list(self._table.columns)

    def values(self, name: str) -> list[Any]:
        values: list[Any] = self._table[name].to_list()
        return values

    def vectors(self, name: str) -> Any:
        series = self._table[name]
        if type(series.dtype).__name__ == "Array" and not series.null_count():
            return series.to_numpy()
        return _stacked(series.to_list())


class _Arrow(_Reader):
    def __init__(self, table: Any) -> None:
        try:
            import pyarrow
        except ImportError as error:
            raise InvalidInput(
                f"a table of type {type(table).__name__} was given; reading it needs pyarrow: install it, or pass "
                "ids, vectors, metadata and text as arrays and lists"
            ) from error
        self._table = table if isinstance(table, pyarrow.Table) else pyarrow.table(table)

    def names(self) -> list[str]:
        return list(self._table.column_names)

    def values(self, name: str) -> list[Any]:
        values: list[Any] = self._table.column(name).to_pylist()
        return values

    def vectors(self, name: str) -> Any:
        import pyarrow

        column = self._table.column(name)
        if not pyarrow.types.is_fixed_size_list(column.type) or column.null_count:
            return _stacked(column.to_pylist())
        width = column.type.list_size
        # flatten() honours slices; the values of one chunk are read where they lie.
        parts = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, width) for chunk in column.chunks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty((0, width), np.float32)


def _stacked(rows: list[Any]) -> Any:
    missing = next((row for row, vector in enumerate(rows) if vector is None), None)
    if missing is not None:
        raise InvalidInput(f"row {missing} has no vector; each record needs one: drop the rows without")
    try:
        return np.asarray(rows) if not rows or not isinstance(rows[0], np.ndarray) else np.stack(rows)
    except ValueError as error:
        raise InvalidInput(f"the vectors cannot be read as one array: {error}; every row needs the same length") from error
