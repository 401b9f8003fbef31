"""Databases: opening, collections, maintenance, copies."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from . import _fields, _native
from ._collection import Collection, _integer
from ._errors import InvalidInput
from ._hits import html_table
from ._reports import (
    BackupReport,
    CheckReport,
    RecoveryReport,
    SalvageReport,
    Stats,
    backup_report,
    check_report,
    recovery_report,
    salvage_report,
    stats,
)
from ._types import Durability

_PathLike = str | os.PathLike[str]
_DURABILITIES = ("commit", "interval", "manual")


def open(  # noqa: A001 - `omendb.open` reads as it should
    path: _PathLike,
    *,
    durability: Durability = "commit",
    interval: float = 1.0,
    read_only: bool = False,
    create: bool = True,
    degraded: bool = False,
    memory_budget: int | None = None,
    log_cap: int | None = None,
) -> Database:
    """Opens a database, creating it if there is none.

    Args:
        path: a directory, or ":memory:" for a database that is gone when it is closed.
        durability: when a write is acknowledged: "commit" when it is on stable storage; "interval" at once, and
            on stable storage at most `interval` seconds later; "manual" at once, and on stable storage after the
            next `flush`.
        interval: seconds, for durability "interval".
        read_only: refuse writes; several processes may read one database while none writes.
        create: False raises NotFound where there is no database.
        degraded: open read-only although files are damaged, without what they hold (see `Database.stats`).
        memory_budget: bytes that unflushed records and id indexes may take, at least 16 MiB; default a quarter of
            what the machine or container has.
        log_cap: most bytes of log, which bounds the time of recovery; default 64 MiB.

    Raises:
        Locked: another process has it open.
        Corrupt: files are damaged; see `degraded` and `salvage`.
        NotFound: there is no database, and `create` or writing is off.

    >>> import omendb
    >>> with omendb.open(":memory:") as db:
    ...     db.list_collections()
    []
    """
    place = os.fspath(path)
    if not isinstance(place, str) or not place:
        raise InvalidInput(f'path = {path!r} was given; a directory as str or PathLike, or ":memory:", was expected')
    if durability not in _DURABILITIES:
        raise InvalidInput(f'durability = {durability!r} was given; "commit", "interval" or "manual" was expected')
    if not isinstance(interval, (int, float)) or not 0.0 < interval <= 86_400.0:
        raise InvalidInput(f"interval = {interval!r} was given; seconds above 0 and at most 86400 were expected")
    in_memory = place == ":memory:"
    if in_memory and (read_only or degraded or not create):
        raise InvalidInput('":memory:" opens a new, empty database; read_only, degraded and create=False need a path')
    native = _native.open(
        None if in_memory else place,
        durability=durability,
        interval_seconds=float(interval),
        read_only=bool(read_only),
        create=bool(create),
        degraded=bool(degraded),
        memory_budget=None if memory_budget is None else _integer(memory_budget, "memory_budget", 1),
        log_cap=None if log_cap is None else _integer(log_cap, "log_cap", 1),
    )
    return Database(native, place)


class Database:
    """An open database. Made by `omendb.open`; a context manager that closes it; safe to use from several threads.

    >>> import omendb
    >>> db = omendb.open(":memory:")
    >>> _ = db.create_collection("docs", dim=384)
    >>> db
    Database(':memory:', collections=['docs'])
    """

    __slots__ = ("__weakref__", "_closed", "_native", "path")

    path: str
    """The directory, or ":memory:"."""

    def __init__(self, native: _native.Database, path: str) -> None:
        self._native = native
        self._closed = False
        self.path = path

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    # Collections

    def create_collection(
        self,
        name: str,
        dim: int,
        metric: str = "cosine",
        dtype: str = "f32",
        *,
        analyzer: str = "english",
        quantization: str = "auto",
        profile: str = "default",
        vectors: Mapping[str, Mapping[str, Any]] | None = None,
        sparse: Iterable[str] = (),
    ) -> Collection:
        """Creates a collection.

        Args:
            name: 1 to 255 bytes.
            dim: dimensions of every vector, 1 to 65,536.
            metric: "cosine" (or "cos", "angular"), "l2" ("euclidean", "euclid"), "dot" ("ip", "inner_product"),
                or "hamming" for bits.
            dtype: how elements are stored: "f32", "f16", "i8", "u8" or "bits"; what is given in another type is
                converted, and refused where it does not fit.
            analyzer: how texts, and queries for them, become terms: "english" or another language whose stems to use,
                "plain" for none; with "-stop" appended the language's stop words are left out ("english-stop").
                Chinese, Japanese and Korean text is indexed by pairs of characters in all of them ("cjk" is "plain").
            quantization: how graphs hold vectors for the walk (what it finds is compared exactly): "auto", the fastest;
                "rabitq", one bit a dimension of each neighbour beside 8 bits of each row, for cosine and l2 up to
                1,024 dimensions; "sq8", 8 bits a dimension, in less memory; "rabitq1" to "rabitq8", RaBitQ codes of
                that many bits a dimension of each row alone, and "pq", a byte for every four dimensions: less memory
                still, for the same rows as "rabitq"; "none", no graph: every search is an exact scan.
            profile: "default", or "compact" for less memory: "auto" is "sq8" then.
            vectors: further vectors that a record may have, by name: `{"title": {"dim": 384, "metric": "cosine"}}`,
                each with a "metric", "dtype" and "quantization" of its own if need be.
            sparse: names of sparse vectors that a record may have: weights by ids from 0 to 2**32 - 1, compared by the
                dot product. At most 16 further fields.

        Raises:
            AlreadyExists: there is a collection of that name.
            InvalidInput: a dimension out of range, an unknown metric, element type, analyzer, quantization or
                profile.
            Unsupported: the quantization "binary", or "rabitq" or "pq" with a metric or dimension that it does not take.

        >>> import omendb
        >>> omendb.open(":memory:").create_collection("docs", dim=3, metric="euclidean").metric
        'l2'
        >>> docs = omendb.open(":memory:").create_collection("docs", 3, vectors={"title": {"dim": 2}}, sparse=["terms"])
        >>> docs.upsert("a", [1.0, 0.0, 0.0], named={"title": [0.6, 0.8]}, sparse={"terms": {7: 0.5, 12: 2.0}})
        1
        >>> docs.search([0.0, 1.0], using="title").ids, docs.search(sparse={12: 1.0}).scores.tolist()
        (['a'], [2.0])
        """
        schema = _schema(name, dim, metric, dtype, analyzer, quantization, profile)
        fields = _fields.declared({} if vectors is None else vectors, sparse)
        return Collection(self._native.create_collection(*schema, fields))

    def get_or_create_collection(
        self,
        name: str,
        dim: int,
        metric: str = "cosine",
        dtype: str = "f32",
        *,
        analyzer: str = "english",
        quantization: str = "auto",
        profile: str = "default",
        vectors: Mapping[str, Mapping[str, Any]] | None = None,
        sparse: Iterable[str] = (),
    ) -> Collection:
        """Opens a collection, or creates it; arguments as of `create_collection`.

        Raises:
            InvalidInput: there is one with other dimensions, metric or element type, or with another analyzer,
                quantization or profile than the one asked for; "english", "auto" and "default" ask for none. Or
                with other fields than those that are given, if any are.

        >>> import omendb
        >>> db = omendb.open(":memory:")
        >>> db.get_or_create_collection("docs", dim=3).name, db.get_or_create_collection("docs", dim=3).name
        ('docs', 'docs')
        """
        schema = _schema(name, dim, metric, dtype, analyzer, quantization, profile)
        fields = _fields.declared({} if vectors is None else vectors, sparse)
        return Collection(self._native.get_or_create_collection(*schema, fields))

    def get_collection(self, name: str) -> Collection:
        """Opens a collection.

        Raises:
            NotFound: there is none of that name.

        >>> import omendb
        >>> db = omendb.open(":memory:")
        >>> _ = db.create_collection("docs", dim=3)
        >>> db.get_collection("docs").dim
        3
        """
        return Collection(self._native.collection(_name(name)))

    def list_collections(self) -> list[str]:
        """The names of the collections.

        >>> import omendb
        >>> omendb.open(":memory:").list_collections()
        []
        """
        return self._native.collections()

    def delete_collection(self, name: str) -> None:
        """Deletes a collection and its records.

        Raises:
            NotFound: there is none of that name.

        >>> import omendb
        >>> db = omendb.open(":memory:")
        >>> _ = db.create_collection("docs", dim=3)
        >>> db.delete_collection("docs")
        >>> db.list_collections()
        []
        """
        self._native.drop_collection(_name(name))

    def __getitem__(self, name: str) -> Collection:
        return self.get_collection(name)

    def __contains__(self, name: object) -> bool:
        return name in self.list_collections()

    # Maintenance

    def flush(self) -> None:
        """Moves the records of memory and log into segments, durable when the call returns.

        >>> import omendb
        >>> omendb.open(":memory:").flush()
        """
        self._native.flush()

    def compact(self, progress: bool = False) -> None:
        """Rewrites segments without what was deleted or replaced, and frees its space.

        Args:
            progress: show on standard error that it goes on (with tqdm if it is installed).

        >>> import omendb
        >>> omendb.open(":memory:").compact()
        """
        if not progress:
            self._native.compact()
            return
        from ._progress import working

        with working("compacting"):
            self._native.compact()

    def check(self, deep: bool = False) -> CheckReport:
        """Verifies the files: names, lengths and checksummed footers, or with `deep` every byte and invariant.

        >>> import omendb
        >>> omendb.open(":memory:").check(deep=True).ok
        True
        """
        return check_report(self._native.check(bool(deep)))

    def backup(self, destination: _PathLike, progress: bool = False) -> BackupReport:
        """Writes a consistent copy to a directory that must not exist, while reads and writes go on.

        Args:
            destination: the directory.
            progress: show the bytes copied on standard error (with tqdm if it is installed).

        >>> import omendb, os, tempfile
        >>> copy = os.path.join(tempfile.mkdtemp(), "copy.omen")
        >>> _ = omendb.open(":memory:").backup(copy)
        >>> omendb.verify_backup(copy).ok
        True
        """
        if not progress:
            return backup_report(self._native.backup(destination))
        from ._progress import waiting

        stats = self.stats()
        total = stats.bytes_data + stats.bytes_log + stats.bytes_tombstones + stats.bytes_manifest

        def left() -> int:
            return max(0, total - _bytes_below(destination))

        with waiting("copying", left, unit="B"):
            return backup_report(self._native.backup(destination))

    def stats(self) -> Stats:
        """Counts, sizes in bytes and latencies in microseconds.

        >>> import omendb
        >>> omendb.open(":memory:").stats().records
        0
        """
        return stats(self._native.stats())

    def prometheus(self) -> str:
        """The statistics in the Prometheus text format."""
        return self._native.prometheus()

    def recovery(self) -> RecoveryReport:
        """What recovery found when this handle was opened."""
        return recovery_report(self._native.recovery())

    def close(self) -> None:
        """Closes the database; collections of it raise Unusable from then on. Closing twice is no error.

        >>> import omendb
        >>> db = omendb.open(":memory:")
        >>> db.close()
        """
        self._closed = True
        self._native.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._closed:
            return f"Database({self.path!r}, closed)"
        return f"Database({self.path!r}, collections={self.list_collections()})"

    def _repr_html_(self) -> str:
        rows = [
            (each.name, f"{each.records:,}", each.dim, each.metric, each.element) for each in self.stats().collections
        ]
        return html_table(f"Database {self.path}", ("collection", "records", "dim", "metric", "dtype"), rows)


def _bytes_below(directory: _PathLike) -> int:
    """The size of what a directory holds so far; files may come and go meanwhile."""
    size = 0
    for place, _, files in os.walk(directory):
        for file in files:
            try:
                size += os.path.getsize(os.path.join(place, file))
            except OSError:
                continue
    return size


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise InvalidInput(f"a collection name of type {type(name).__name__} was given; a str was expected")
    return name


def _schema(
    name: Any, dim: Any, metric: Any, dtype: Any, analyzer: Any, quantization: Any, profile: Any
) -> tuple[str, int, tuple[str, str], tuple[str, str, str]]:
    named = {"metric": metric, "dtype": dtype, "analyzer": analyzer, "quantization": quantization, "profile": profile}
    for argument, value in named.items():
        if not isinstance(value, str):
            raise InvalidInput(f"{argument} of type {type(value).__name__} was given; a str was expected")
    return _name(name), _integer(dim, "dim", 1), (metric, dtype), (quantization, profile, analyzer)


def verify_backup(path: _PathLike) -> CheckReport:
    """Verifies every byte of a backup, without opening it for writing.

    Raises:
        NotFound: there is no backup.
    """
    return check_report(_native.verify_backup(path))


def restore(source: _PathLike, destination: _PathLike) -> CheckReport:
    """Copies a backup to a directory that must not exist, verified; open it there."""
    return check_report(_native.restore(source, destination))


def salvage(source: _PathLike, destination: _PathLike) -> SalvageReport:
    """Copies what is whole in a damaged database to a new one; the source stays as it is."""
    return salvage_report(_native.salvage(source, destination))
