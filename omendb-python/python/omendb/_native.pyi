"""Types of the extension module. Its classes are wrapped by the package; use those."""

from os import PathLike
from typing import Any, final

import numpy as np
import numpy.typing as npt

from ._types import Filter, Id

__version__: str

_Path = str | PathLike[str]
_Floats = npt.NDArray[np.float32]
# The greatest distance, lambda and pool of maximal marginal relevance, the id of a record to search with, the field.
_Special = tuple[float | None, tuple[float, int | None] | None, Any, str | None]
# A field: its name and, of vectors, dimensions, metric, element type and quantization.
_Declared = tuple[str, tuple[int, str, str, str] | None]
# Values of fields: vectors, with which records have one (None: all), and sparse vectors.
_Given = tuple[list[tuple[str, list[bool] | None, npt.NDArray[Any]]], list[tuple[str, list[Any]]]]
# k and offset, the least score, whether to fetch metadata, text, vector, snippet and fields, the filter, recall and ef, and the rest.
_Wanted = tuple[
    tuple[int, int],
    float | None,
    tuple[bool, bool, bool, bool, bool],
    Filter | None,
    tuple[float | None, int | None],
    _Special | None,
]

@final
class Hit:
    """One result of a search."""

    @property
    def id(self) -> Id:
        """The record's id, a str or an int."""
    @property
    def score(self) -> float:
        """The metric's score: higher is better."""
    @property
    def distance(self) -> float:
        """The metric's distance: lower is better."""
    @property
    def vector_score(self) -> float | None:
        """The metric's score, or None if the search had no vector."""
    @property
    def text_score(self) -> float | None:
        """The BM25 score, or None if the search had no text, or one that the record's does not match."""
    @property
    def field_scores(self) -> dict[str, float]:
        """The scores by the further fields that were searched, by the field's name."""
    @property
    def vectors(self) -> dict[str, npt.NDArray[Any]]:
        """The vectors of further fields by name; empty if they were not asked for."""
    @property
    def sparse(self) -> dict[str, dict[int, float]]:
        """The sparse vectors by name, each a dict of weights by id; empty if they were not asked for."""
    @property
    def snippet(self) -> Snippet | None:
        """The piece of the text that matches, or None if there is none or it was not asked for."""
    @property
    def metadata(self) -> dict[str, Any] | None:
        """The metadata, or None if there is none or it was not asked for."""
    @property
    def text(self) -> str | None:
        """The text, or None if there is none or it was not asked for."""
    @property
    def vector(self) -> npt.NDArray[Any] | None:
        """The vector as an array of its stored element type, or None if it was not asked for."""
    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict."""

@final
class Snippet:
    """A piece of a text that holds words of the query."""

    @property
    def text(self) -> str:
        """The piece: a run of whole words of the text."""
    @property
    def highlights(self) -> list[tuple[int, int]]:
        """The words of `text` that match: (start, end) in characters."""
    def marked(self, before: str = "**", after: str = "**") -> str:
        """The piece with each match between `before` and `after`."""
    def to_html(self) -> str:
        """The piece as HTML, escaped, with each match in `<b>`."""

@final
class Record:
    """One stored record."""

    @property
    def id(self) -> Id:
        """The id, a str or an int."""
    @property
    def vector(self) -> npt.NDArray[Any]:
        """The vector as an array of its stored element type (bits: packed bytes)."""
    @property
    def vectors(self) -> dict[str, npt.NDArray[Any]]:
        """The vectors of further fields by name."""
    @property
    def sparse(self) -> dict[str, dict[int, float]]:
        """The sparse vectors by name, each a dict of weights by id."""
    @property
    def metadata(self) -> dict[str, Any] | None:
        """The metadata, or None."""
    @property
    def text(self) -> str | None:
        """The text, or None."""
    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict."""

@final
class Hits:
    @property
    def complete(self) -> bool: ...
    def to_list(self) -> list[Hit]: ...
    def ids(self) -> list[Id]: ...
    def scores(self) -> _Floats: ...
    def distances(self) -> _Floats: ...
    def __len__(self) -> int: ...

@final
class BatchHits:
    def counts(self) -> npt.NDArray[np.int64]: ...
    def ids(self) -> npt.NDArray[np.int64] | list[Id | None]: ...
    def scores(self) -> _Floats: ...
    def distances(self) -> _Floats: ...
    def row(self, row: int) -> Hits | None: ...
    def __len__(self) -> int: ...

@final
class RecordIterator:
    def next_batch(self, count: int) -> list[Record]: ...

@final
class Collection:
    @property
    def name(self) -> str: ...
    @property
    def schema(self) -> tuple[int, str, str, str]: ...
    @property
    def tuning(self) -> tuple[str, str]: ...
    @property
    def fields(self) -> list[_Declared]: ...
    def upsert(
        self,
        ids: list[Any] | npt.NDArray[Any],
        vectors: npt.NDArray[Any],
        metadata: list[Any] | None,
        text: list[Any] | None,
        fields: _Given | None,
    ) -> int: ...
    def add(
        self,
        ids: list[Any] | npt.NDArray[Any],
        vectors: npt.NDArray[Any],
        metadata: list[Any] | None,
        text: list[Any] | None,
        fields: _Given | None,
    ) -> int: ...
    def update(
        self,
        record: Any,
        vector: npt.NDArray[Any] | None,
        metadata: tuple[Any] | None,
        text: tuple[str | None] | None,
        fields: _Given | None,
    ) -> None: ...
    def delete(self, records: list[Any] | npt.NDArray[Any]) -> int: ...
    def delete_matching(self, only: Filter) -> int: ...
    def get_one(self, record: Any) -> Record | None: ...
    def get_many(self, records: list[Any] | npt.NDArray[Any]) -> list[Record | None]: ...
    def contains(self, record: Any) -> bool: ...
    def count(self, only: Filter | None) -> int: ...
    def iterate(self, only: Filter | None) -> RecordIterator: ...
    def search(self, vector: npt.NDArray[Any] | None, wanted: _Wanted) -> Hits: ...
    def search_fused(
        self,
        vector: npt.NDArray[Any] | None,
        text: str | None,
        fields: _Given | None,
        fuse: tuple[str, float | None],
        wanted: _Wanted,
    ) -> Hits: ...
    def search_sparse(self, field: str, query: Any, wanted: _Wanted) -> Hits: ...
    def explain_sparse(self, field: str, query: Any, wanted: _Wanted) -> tuple[dict[str, Any], Hits]: ...
    def search_groups(
        self, vector: npt.NDArray[Any], wanted: _Wanted, field: str, per_group: int
    ) -> tuple[list[tuple[Any, Hits]], bool]: ...
    def explain(self, vector: npt.NDArray[Any], wanted: _Wanted) -> tuple[dict[str, Any], Hits]: ...
    def recall(self, sample: int, wanted: _Wanted) -> dict[str, Any]: ...
    def search_batch(self, vectors: npt.NDArray[Any], wanted: _Wanted, threads: int) -> BatchHits: ...
    def flush(self) -> None: ...
    def compact(self) -> None: ...
    def wait_indexed(self, settled: bool) -> None: ...
    def stats(self) -> dict[str, Any]: ...

@final
class Database:
    def create_collection(
        self,
        name: str,
        dim: int,
        kind: tuple[str, str],
        tuning: tuple[str, str, str],
        fields: list[_Declared],
    ) -> Collection: ...
    def get_or_create_collection(
        self,
        name: str,
        dim: int,
        kind: tuple[str, str],
        tuning: tuple[str, str, str],
        fields: list[_Declared],
    ) -> Collection: ...
    def collection(self, name: str) -> Collection: ...
    def drop_collection(self, name: str) -> None: ...
    def collections(self) -> list[str]: ...
    def flush(self) -> None: ...
    def compact(self) -> None: ...
    def check(self, deep: bool) -> dict[str, Any]: ...
    def backup(self, destination: _Path) -> dict[str, Any]: ...
    def stats(self) -> dict[str, Any]: ...
    def prometheus(self) -> str: ...
    def recovery(self) -> dict[str, Any]: ...
    def close(self) -> None: ...

def open(
    path: _Path | None,
    *,
    durability: str,
    interval_seconds: float,
    read_only: bool,
    create: bool,
    degraded: bool,
    memory_budget: int | None,
    log_cap: int | None,
) -> Database: ...
def verify_backup(path: _Path) -> dict[str, Any]: ...
def restore(source: _Path, destination: _Path) -> dict[str, Any]: ...
def salvage(source: _Path, destination: _Path) -> dict[str, Any]: ...
