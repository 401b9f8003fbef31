"""The same verbs as coroutines, run by an executor. The database itself is synchronous."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar, cast, overload

from . import _database, _native
from ._collection import _DEFAULT_INCLUDE, Collection
from ._database import Database, _PathLike
from ._hits import BatchHits, Groups, Hits
from ._reports import BackupReport, CheckReport, CollectionStats, Explanation, RecoveryReport, Stats
from ._types import UNSET, Filter, IdLike, Ids, Include, Metadata, Unset, VectorLike

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Runner:
    """Runs calls on an executor. A cancelled await returns at once; a call that has begun still ends by itself."""

    __slots__ = ("_executor",)

    _executor: Executor

    async def _run(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(call, *args, **kwargs))


class AsyncDatabase(_Runner):
    """A `Database` for asyncio.

    >>> import asyncio, omendb
    >>> async def main():
    ...     async with await omendb.AsyncDatabase.open(":memory:") as db:
    ...         docs = await db.create_collection("docs", dim=2)
    ...         await docs.upsert(["a"], [[1.0, 0.0]])
    ...         return (await docs.search([1.0, 0.0], k=1)).ids
    >>> asyncio.run(main())
    ['a']
    """

    __slots__ = ("_owned", "sync")

    sync: Database
    """The database itself."""

    def __init__(self, database: Database, *, executor: Executor | None = None) -> None:
        self.sync = database
        self._owned = executor is None
        self._executor = executor or ThreadPoolExecutor(thread_name_prefix="omendb")

    @classmethod
    async def open(cls, path: _PathLike, *, executor: Executor | None = None, **options: Any) -> AsyncDatabase:
        """Opens a database; options as of `omendb.open`. Calls run on `executor`, or on threads of its own."""
        database = await asyncio.get_running_loop().run_in_executor(
            executor, partial(_database.open, path, **options)
        )
        return cls(database, executor=executor)

    async def create_collection(self, name: str, dim: int, metric: str = "cosine", dtype: str = "f32", **options: Any) -> AsyncCollection:
        """See `Database.create_collection`."""
        return self._wrap(await self._run(self.sync.create_collection, name, dim, metric, dtype, **options))

    async def get_or_create_collection(
        self, name: str, dim: int, metric: str = "cosine", dtype: str = "f32", **options: Any
    ) -> AsyncCollection:
        """See `Database.get_or_create_collection`."""
        return self._wrap(await self._run(self.sync.get_or_create_collection, name, dim, metric, dtype, **options))

    async def get_collection(self, name: str) -> AsyncCollection:
        """See `Database.get_collection`."""
        return self._wrap(await self._run(self.sync.get_collection, name))

    async def list_collections(self) -> list[str]:
        """See `Database.list_collections`."""
        return await self._run(self.sync.list_collections)

    async def delete_collection(self, name: str) -> None:
        """See `Database.delete_collection`."""
        await self._run(self.sync.delete_collection, name)

    async def flush(self) -> None:
        """See `Database.flush`."""
        await self._run(self.sync.flush)

    async def compact(self, progress: bool = False) -> None:
        """See `Database.compact`."""
        await self._run(self.sync.compact, progress)

    async def check(self, deep: bool = False) -> CheckReport:
        """See `Database.check`."""
        return await self._run(self.sync.check, deep)

    async def backup(self, destination: _PathLike, progress: bool = False) -> BackupReport:
        """See `Database.backup`."""
        return await self._run(self.sync.backup, destination, progress)

    async def stats(self) -> Stats:
        """See `Database.stats`."""
        return await self._run(self.sync.stats)

    async def recovery(self) -> RecoveryReport:
        """See `Database.recovery`."""
        return await self._run(self.sync.recovery)

    async def close(self) -> None:
        """See `Database.close`."""
        await self._run(self.sync.close)
        if self._owned:
            self._executor.shutdown(wait=False)

    async def __aenter__(self) -> AsyncDatabase:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Async{self.sync!r}"

    def _wrap(self, collection: Collection) -> AsyncCollection:
        return AsyncCollection(collection, executor=self._executor)


class AsyncCollection(_Runner):
    """A `Collection` for asyncio."""

    __slots__ = ("sync",)

    sync: Collection
    """The collection itself."""

    def __init__(self, collection: Collection, *, executor: Executor) -> None:
        self.sync = collection
        self._executor = executor

    @property
    def name(self) -> str:
        """The name."""
        return self.sync.name

    @property
    def dim(self) -> int:
        """Dimensions of each vector."""
        return self.sync.dim

    @property
    def metric(self) -> str:
        """`cosine`, `l2`, `dot` or `hamming`."""
        return self.sync.metric

    @property
    def dtype(self) -> str:
        """Element type of the stored vectors."""
        return self.sync.dtype

    async def upsert(
        self,
        ids: IdLike | Ids | Any,
        vectors: VectorLike | None = None,
        metadata: Metadata | Sequence[Metadata | None] | None = None,
        text: str | Sequence[str | None] | None = None,
        *,
        named: Mapping[str, Any] | None = None,
        sparse: Mapping[str, Any] | None = None,
    ) -> int:
        """See `Collection.upsert`."""
        return await self._run(self.sync.upsert, ids, vectors, metadata, text, named=named, sparse=sparse)

    async def add(
        self,
        ids: IdLike | Ids | Any,
        vectors: VectorLike | None = None,
        metadata: Metadata | Sequence[Metadata | None] | None = None,
        text: str | Sequence[str | None] | None = None,
        *,
        named: Mapping[str, Any] | None = None,
        sparse: Mapping[str, Any] | None = None,
    ) -> int:
        """See `Collection.add`."""
        return await self._run(self.sync.add, ids, vectors, metadata, text, named=named, sparse=sparse)

    async def update(
        self,
        id: IdLike,
        *,
        vector: VectorLike | None = None,
        metadata: Metadata | None | Unset = UNSET,
        text: str | None | Unset = UNSET,
        named: Mapping[str, Any] | None = None,
        sparse: Mapping[str, Any] | None = None,
    ) -> None:
        """See `Collection.update`."""
        changes = partial(self.sync.update, id, vector=vector, metadata=metadata, text=text)
        await self._run(changes, named=named, sparse=sparse)

    async def delete(self, ids: IdLike | Ids | None = None, *, filter: Filter | None = None) -> int:
        """See `Collection.delete`."""
        return await self._run(self.sync.delete, ids, filter=filter)

    @overload
    async def get(self, ids: IdLike) -> _native.Record | None: ...  # type: ignore[overload-overlap]  # as in Collection
    @overload
    async def get(self, ids: Ids) -> list[_native.Record | None]: ...
    async def get(self, ids: IdLike | Ids) -> _native.Record | list[_native.Record | None] | None:
        """See `Collection.get`."""
        call = cast("Callable[[Any], Any]", self.sync.get)
        found: _native.Record | list[_native.Record | None] | None = await self._run(call, ids)
        return found

    async def contains(self, id: IdLike) -> bool:
        """Whether there is a record of this id."""
        return await self._run(self.sync.__contains__, id)

    async def count(self, *, filter: Filter | None = None) -> int:
        """See `Collection.count`."""
        return await self._run(self.sync.count, filter=filter)

    async def iterate(self, batch_size: int = 1000, *, filter: Filter | None = None) -> AsyncIterator[_native.Record]:
        """See `Collection.iterate`."""
        records = await self._run(self.sync.iterate, batch_size, filter=filter)
        while batch := await self._run(_take, records, batch_size):
            for record in batch:
                yield record

    async def search(
        self,
        vector: VectorLike | None = None,
        k: int = 10,
        *,
        text: str | None = None,
        sparse: Any = None,
        named: Mapping[str, VectorLike] | None = None,
        using: str | None = None,
        like: IdLike | None = None,
        filter: Filter | None = None,
        fuse: Literal["rrf", "adaptive", "weighted"] = "rrf",
        alpha: float | None = None,
        recall: float | None = None,
        ef: int | None = None,
        min_score: float | None = None,
        max_distance: float | None = None,
        mmr: float | None = None,
        mmr_pool: int | None = None,
        offset: int = 0,
        include: Iterable[Include] = _DEFAULT_INCLUDE,
    ) -> Hits:
        """See `Collection.search`."""
        return await self._run(
            self.sync.search,
            vector,
            k,
            text=text,
            sparse=sparse,
            named=named,
            using=using,
            like=like,
            filter=filter,
            fuse=fuse,
            alpha=alpha,
            recall=recall,
            ef=ef,
            min_score=min_score,
            max_distance=max_distance,
            mmr=mmr,
            mmr_pool=mmr_pool,
            offset=offset,
            include=include,
        )

    async def search_batch(
        self,
        vectors: VectorLike,
        k: int = 10,
        *,
        filter: Filter | None = None,
        recall: float | None = None,
        ef: int | None = None,
        min_score: float | None = None,
        max_distance: float | None = None,
        mmr: float | None = None,
        mmr_pool: int | None = None,
        offset: int = 0,
        include: Iterable[Include] = (),
        threads: int = 0,
        using: str | None = None,
    ) -> BatchHits:
        """See `Collection.search_batch`."""
        return await self._run(
            self.sync.search_batch,
            vectors,
            k,
            filter=filter,
            recall=recall,
            ef=ef,
            min_score=min_score,
            max_distance=max_distance,
            mmr=mmr,
            mmr_pool=mmr_pool,
            offset=offset,
            include=include,
            threads=threads,
            using=using,
        )

    async def search_groups(
        self,
        vector: VectorLike,
        by: str,
        k: int = 10,
        *,
        per_group: int = 3,
        filter: Filter | None = None,
        recall: float | None = None,
        ef: int | None = None,
        min_score: float | None = None,
        max_distance: float | None = None,
        include: Iterable[Include] = _DEFAULT_INCLUDE,
        using: str | None = None,
    ) -> Groups:
        """See `Collection.search_groups`."""
        return await self._run(
            self.sync.search_groups,
            vector,
            by,
            k,
            per_group=per_group,
            filter=filter,
            recall=recall,
            ef=ef,
            min_score=min_score,
            max_distance=max_distance,
            include=include,
            using=using,
        )

    async def recall(
        self,
        sample: int = 200,
        k: int = 10,
        *,
        filter: Filter | None = None,
        recall: float | None = None,
        ef: int | None = None,
        using: str | None = None,
    ) -> float:
        """See `Collection.recall`."""
        return await self._run(self.sync.recall, sample, k, filter=filter, recall=recall, ef=ef, using=using)

    async def explain(
        self,
        vector: VectorLike | None = None,
        k: int = 10,
        *,
        sparse: Any = None,
        using: str | None = None,
        filter: Filter | None = None,
        recall: float | None = None,
        ef: int | None = None,
        min_score: float | None = None,
        max_distance: float | None = None,
        include: Iterable[Include] = _DEFAULT_INCLUDE,
    ) -> Explanation:
        """See `Collection.explain`."""
        return await self._run(
            self.sync.explain,
            vector,
            k,
            sparse=sparse,
            using=using,
            filter=filter,
            recall=recall,
            ef=ef,
            min_score=min_score,
            max_distance=max_distance,
            include=include,
        )

    async def flush(self) -> None:
        """See `Collection.flush`."""
        await self._run(self.sync.flush)

    async def compact(self, progress: bool = False) -> None:
        """See `Collection.compact`."""
        await self._run(self.sync.compact, progress)

    async def wait_indexed(self, progress: bool = False, settled: bool = False) -> None:
        """See `Collection.wait_indexed`."""
        await self._run(self.sync.wait_indexed, progress, settled)

    async def stats(self) -> CollectionStats:
        """See `Collection.stats`."""
        return await self._run(self.sync.stats)

    def __repr__(self) -> str:
        return f"Async{self.sync!r}"


def _take(records: Any, count: int) -> list[_native.Record]:
    from itertools import islice

    return list(islice(records, count))
