"""Results of searches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from . import _native
from ._types import Id

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

_SHOWN = 20


def html_table(caption: str, header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A small HTML table, everything escaped."""
    head = "".join(f"<th>{escape(str(cell))}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(_short(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _short(cell: object) -> str:
    text = f"{cell:.4g}" if isinstance(cell, float) else str(cell)
    return text if len(text) <= 120 else text[:117] + "..."


class Hits(Sequence[_native.Hit]):
    """The results of one search, best first; a sequence of `Hit`.

    >>> import omendb
    >>> docs = omendb.open(":memory:").create_collection("docs", dim=2, metric="l2")
    >>> _ = docs.upsert(["a", "b"], [[0.0, 0.0], [3.0, 4.0]])
    >>> hits = docs.search([0.0, 0.0], k=3)
    >>> hits.ids, hits.distances.tolist(), hits.complete
    (['a', 'b'], [0.0, 5.0], True)
    """

    __slots__ = ("_list", "_native")

    def __init__(self, native: _native.Hits) -> None:
        self._native = native
        self._list: list[_native.Hit] | None = None

    def _all(self) -> list[_native.Hit]:
        if self._list is None:
            self._list = self._native.to_list()
        return self._list

    @property
    def complete(self) -> bool:
        """True when fewer than `k` came back because no more records match."""
        return self._native.complete

    @property
    def ids(self) -> list[Id]:
        """The ids, best first."""
        return self._native.ids()

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """The scores, higher is better: float32 of shape (len,)."""
        return self._native.scores()

    @property
    def distances(self) -> npt.NDArray[np.float32]:
        """The distances, lower is better: float32 of shape (len,)."""
        return self._native.distances()

    def __len__(self) -> int:
        return len(self._native)

    @overload
    def __getitem__(self, index: int) -> _native.Hit: ...
    @overload
    def __getitem__(self, index: slice) -> list[_native.Hit]: ...
    def __getitem__(self, index: int | slice) -> _native.Hit | list[_native.Hit]:
        return self._all()[index]

    def __iter__(self) -> Iterator[_native.Hit]:
        return iter(self._all())

    def to_dicts(self) -> list[dict[str, Any]]:
        """The hits as plain dicts: id, score, distance, metadata, text, vector, vector_score, text_score, snippet."""
        return [hit.to_dict() for hit in self._all()]

    def _columns(self) -> dict[str, Any]:
        hits = self._all()
        columns: dict[str, Any] = {"id": self.ids, "score": self.scores, "distance": self.distances}
        columns["text"] = [hit.text for hit in hits]
        columns["metadata"] = [hit.metadata for hit in hits]
        vectors = [hit.vector for hit in hits]
        if any(vector is not None for vector in vectors):
            columns["vector"] = vectors
        return columns

    def to_pandas(self) -> pandas.DataFrame:
        """A DataFrame of columns id, score, distance, text, metadata, and vector if it was asked for."""
        import pandas

        return pandas.DataFrame(self._columns())

    def to_arrow(self) -> pyarrow.Table:
        """A `pyarrow.Table` of the same columns; metadata is JSON text, as its fields differ from record to record."""
        import json

        import pyarrow

        columns = self._columns()
        columns["id"] = pyarrow.array(_one_kind(columns["id"]))
        columns["text"] = pyarrow.array(columns["text"], pyarrow.string())
        encoded = [None if each is None else json.dumps(each, ensure_ascii=False) for each in columns["metadata"]]
        columns["metadata"] = pyarrow.array(encoded, pyarrow.string())
        return pyarrow.table(columns)

    def to_polars(self) -> polars.DataFrame:
        """A `polars.DataFrame` of the same columns as `to_arrow`."""
        import json

        import polars

        columns = self._columns()
        columns["id"] = _one_kind(columns["id"])
        columns["text"] = polars.Series(columns["text"], dtype=polars.String)
        encoded = [None if each is None else json.dumps(each, ensure_ascii=False) for each in columns["metadata"]]
        columns["metadata"] = polars.Series(encoded, dtype=polars.String)
        if "vector" in columns:
            columns["vector"] = [None if each is None else each.tolist() for each in columns["vector"]]
        return polars.DataFrame(columns)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Arrow's PyCapsule interface, by way of pyarrow."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        shown = ",\n      ".join(repr(hit) for hit in self._all()[:_SHOWN])
        more = f",\n      ... {len(self) - _SHOWN} more" if len(self) > _SHOWN else ""
        return f"Hits([{shown}{more}], complete={self.complete})"

    def _repr_html_(self) -> str:
        rows = [
            (place, hit.id, hit.score, hit.distance, hit.text or "", hit.metadata or "")
            for place, hit in enumerate(self._all()[:_SHOWN], start=1)
        ]
        note = "no more match" if self.complete else "more may match"
        return html_table(f"{len(self)} hits, {note}", ("", "id", "score", "distance", "text", "metadata"), rows)


def _one_kind(ids: list[Id]) -> list[Id] | list[str]:
    """Integers and strings in one column become strings; a column of one kind stays as it is."""
    kinds = {type(each) for each in ids}
    return ids if len(kinds) <= 1 else [str(each) for each in ids]


class BatchHits(Sequence[Hits]):
    """The results of a batch search: arrays of shape (queries, k), and a sequence of `Hits`, one a query.

    >>> import omendb
    >>> docs = omendb.open(":memory:").create_collection("docs", dim=2, metric="dot")
    >>> _ = docs.upsert([1, 2], [[1.0, 0.0], [0.0, 2.0]])
    >>> many = docs.search_batch([[1.0, 0.0], [0.0, 1.0]], k=1)
    >>> many.ids.tolist(), many.scores.tolist()
    ([[1], [2]], [[1.0], [2.0]])
    """

    def __init__(self, native: _native.BatchHits, k: int) -> None:
        self._native = native
        self._k = k
        self._ids: npt.NDArray[Any] | None = None
        self._scores: npt.NDArray[np.float32] | None = None
        self._distances: npt.NDArray[np.float32] | None = None

    @property
    def ids(self) -> npt.NDArray[Any]:
        """Ids of shape (queries, k): int64 with -1 for no hit if all are integers, else objects with None."""
        if self._ids is None:
            flat = self._native.ids()
            if isinstance(flat, list):
                objects = np.empty(len(flat), dtype=object)
                objects[:] = flat
                flat = objects
            self._ids = flat.reshape(len(self), self._k)
        return self._ids

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """Scores, higher is better: float32 of shape (queries, k), minus infinity where there is no hit."""
        if self._scores is None:
            self._scores = self._native.scores()
        return self._scores

    @property
    def distances(self) -> npt.NDArray[np.float32]:
        """Distances, lower is better: float32 of shape (queries, k), infinity where there is no hit."""
        if self._distances is None:
            self._distances = self._native.distances()
        return self._distances

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Hits of each query: int64 of shape (queries,)."""
        return self._native.counts()

    def __len__(self) -> int:
        return len(self._native)

    @overload
    def __getitem__(self, index: int) -> Hits: ...
    @overload
    def __getitem__(self, index: slice) -> list[Hits]: ...
    def __getitem__(self, index: int | slice) -> Hits | list[Hits]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = index + len(self) if index < 0 else index
        native = self._native.row(row) if row >= 0 else None
        if native is None:
            raise IndexError(f"query {index} of {len(self)}")
        return Hits(native)

    def __repr__(self) -> str:
        return f"BatchHits(queries={len(self)}, k={self._k})"

    def _repr_html_(self) -> str:
        rows = [(row, *self.ids[row].tolist()) for row in range(min(len(self), _SHOWN))]
        return html_table(f"{len(self)} queries, {self._k} ids each", ("query", *range(1, self._k + 1)), rows)


class Group:
    """The records of one value of a field, nearest first."""

    __slots__ = ("hits", "value")

    value: str | int | float | bool
    """The field's value."""
    hits: Hits
    """Its best records; `hits.complete` is true when there are no more of this value."""

    def __init__(self, value: str | int | float | bool, hits: Hits) -> None:
        self.value = value
        self.hits = hits

    def __repr__(self) -> str:
        return f"Group({self.value!r}, ids={self.hits.ids})"


class Groups(Sequence[Group]):
    """The results of a search for groups, that of the nearest record first; a sequence of `Group`."""

    __slots__ = ("_groups", "complete")

    complete: bool
    """True when fewer groups came back than were asked for because there are no more."""

    def __init__(self, groups: list[Group], complete: bool) -> None:
        self._groups = groups
        self.complete = complete

    @property
    def values(self) -> list[str | int | float | bool]:
        """The field's values, best first."""
        return [group.value for group in self._groups]

    def __len__(self) -> int:
        return len(self._groups)

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> list[Group]: ...
    def __getitem__(self, index: int | slice) -> Group | list[Group]:
        return self._groups[index]

    def __repr__(self) -> str:
        shown = ",\n        ".join(repr(group) for group in self._groups[:_SHOWN])
        more = f",\n        ... {len(self) - _SHOWN} more" if len(self) > _SHOWN else ""
        return f"Groups([{shown}{more}], complete={self.complete})"

    def _repr_html_(self) -> str:
        rows = [
            (group.value if place == 0 else "", hit.id, hit.score, hit.distance, hit.text or "", hit.metadata or "")
            for group in self._groups[:_SHOWN]
            for place, hit in enumerate(group.hits)
        ]
        return html_table(f"{len(self)} groups", ("group", "id", "score", "distance", "text", "metadata"), rows)
