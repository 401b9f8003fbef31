"""Collections: writing, reading, searching."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from . import _fields, _native, _tables, _vectors
from ._errors import InvalidInput
from ._hits import BatchHits, Group, Groups, Hits, html_table
from ._reports import CollectionStats, Explanation, collection_stats, explanation
from ._types import UNSET, Filter, Id, IdLike, Ids, Include, Metadata, Unset, VectorLike

if TYPE_CHECKING:
    import numpy.typing as npt

_INCLUDES: dict[tuple[str, ...], tuple[bool, bool, bool, bool, bool]] = {}
_FIELDS = ("metadata", "text", "vector", "snippet", "fields")
_DEFAULT_INCLUDE: tuple[Include, ...] = ("metadata", "text")
_DEFAULT_QUALITY = (None, None)


def _include(fields: Iterable[str]) -> tuple[bool, bool, bool, bool, bool]:
    key = (fields,) if isinstance(fields, str) else tuple(fields)
    flags = _INCLUDES.get(key)
    if flags is None:
        unknown = [field for field in key if field not in _FIELDS]
        if unknown:
            raise InvalidInput(
                f'include names {unknown[0]!r}; "metadata", "text", "vector", "snippet" and "fields" can be included'
            )
        metadata, text, vector, snippet, more = (field in key for field in _FIELDS)
        flags = _INCLUDES[key] = (metadata, text, vector, snippet, more)
    return flags


def _integer(value: Any, name: str, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise InvalidInput(f"{name} = {value!r} was given; an integer of at least {least} was expected")
    return number


def _quality(recall: float | None, ef: int | None) -> tuple[float | None, int | None]:
    if recall is not None and (not isinstance(recall, (int, float)) or isinstance(recall, bool)):
        raise InvalidInput(f"recall = {recall!r} was given; a number from 0.5 to 1 was expected")
    return recall, None if ef is None else _integer(ef, "ef", 1)


def _fusion(fuse: str, alpha: float | None) -> tuple[str, float | None]:
    if not isinstance(fuse, str):
        raise InvalidInput(f'fuse = {fuse!r} was given; "rrf", "adaptive" or "weighted" was expected')
    if alpha is not None and (not isinstance(alpha, (int, float)) or isinstance(alpha, bool)):
        raise InvalidInput(f"alpha = {alpha!r} was given; a number from 0 to 1 was expected")
    return fuse, alpha


class Collection:
    """A collection of records: id, vector, metadata, text. Made by a `Database`; safe to use from several threads.

    >>> import omendb
    >>> db = omendb.open(":memory:")
    >>> docs = db.create_collection("docs", dim=2)
    >>> docs
    Collection('docs', dim=2, metric='cosine', dtype='f32', records=0)
    """

    __slots__ = ("_bits", "_fields", "_native", "analyzer", "dim", "dtype", "metric", "name")

    name: str
    """The name."""
    dim: int
    """Dimensions of each vector."""
    metric: str
    """`cosine`, `l2`, `dot` or `hamming`."""
    dtype: str
    """Element type of the stored vectors: `f32`, `f16`, `i8`, `u8` or `bits`."""
    analyzer: str
    """How texts become terms: see `Database.create_collection`."""

    @property
    def vectors(self) -> dict[str, dict[str, Any]]:
        """The further vectors that records may have: as given to `Database.create_collection`."""
        names = ("dim", "metric", "dtype", "quantization")
        return {name: dict(zip(names, vector, strict=True)) for name, vector in self._fields.vectors.items()}

    @property
    def sparse(self) -> list[str]:
        """The names of the sparse vectors that records may have."""
        return list(self._fields.sparse)

    @property
    def quantization(self) -> str:
        """How graphs hold vectors: `auto`, `none`, `sq8` or `rabitq`."""
        return self._native.tuning[0]

    @property
    def profile(self) -> str:
        """`default`, or `compact` for less memory."""
        return self._native.tuning[1]

    def __init__(self, native: _native.Collection) -> None:
        self._native = native
        self.name = native.name
        self.dim, self.metric, self.dtype, self.analyzer = native.schema
        self._bits = self.dim if self.dtype == "bits" else None
        self._fields = _fields.Fields(native.fields)

    # Writing

    def upsert(
        self,
        ids: IdLike | Ids | Any,
        vectors: VectorLike | None = None,
        metadata: Metadata | Sequence[Metadata | None] | None = None,
        text: str | Sequence[str | None] | None = None,
        *,
        named: Mapping[str, Any] | None = None,
        sparse: Mapping[str, Any] | None = None,
    ) -> int:
        """Writes records, replacing those whose ids are known. Returns how many were written.

        The records are durable when the call returns (see `omendb.open`), and written whole or not at all.

        Args:
            ids: n ids: strings of 1 to 512 bytes or integers from 0 to 2**64 - 1; one id for one record. Or a
                table (pandas, polars, Arrow) with columns `id` and `vector`, optionally `text` and `metadata`;
                its other columns become metadata fields.
            vectors: shape (n, dim), finite numbers: float32 in C order is read in place, every other type and
                layout is converted. For `bits` collections: bools of shape (n, dim), or packed uint8 (least
                significant bit first) of shape (n, ceil(dim / 8)).
            metadata: n dicts (or None): nested JSON values, dates, NumPy values. At most 1 MiB each.
            text: n strings (or None). At most 16 MiB each.
            named: further vectors by the field's name: an array as `vectors`, or a list with None for records
                without one.
            sparse: sparse vectors by the field's name: n dicts of weights by id (or pairs of ids and weights, or None),
                or a sparse matrix of SciPy. At most 65,536 entries each.

        Raises:
            InvalidInput: wrong shapes or types, NaN, infinity, a zero vector under cosine, an id given twice.
            LimitExceeded: an id, a text, metadata or the batch (1 GiB) is too large.

        >>> import omendb
        >>> docs = omendb.open(":memory:").create_collection("docs", dim=2)
        >>> docs.upsert("a", [1.0, 0.0], {"year": 2020})
        1
        >>> docs.upsert(["a", "b"], [[0.0, 1.0], [1.0, 1.0]], text=["replaced", "new"])
        2
        """
        return self._native.upsert(*self._batch(ids, vectors, metadata, text, named, sparse))

    def add(
        self,
        ids: IdLike | Ids | Any,
        vectors: VectorLike | None = None,
        metadata: Metadata | Sequence[Metadata | None] | None = None,
        text: str | Sequence[str | None] | None = None,
        *,
        named: Mapping[str, Any] | None = None,
        sparse: Mapping[str, Any] | None = None,
    ) -> int:
        """Writes new records; arguments and errors as of `upsert`.

        Raises:
            AlreadyExists: an id is known. Nothing is written.

        >>> import omendb
        >>> docs = omendb.open(":memory:").create_collection("docs", dim=2)
        >>> docs.add([1], [[1.0, 0.0]])
        1
        >>> try:
        ...     docs.add([1, 2], [[1.0, 0.0], [0.0, 1.0]])
        ... except omendb.AlreadyExists:
        ...     print(len(docs))
        1
        """
        return self._native.add(*self._batch(ids, vectors, metadata, text, named, sparse))

    def update(
        self,
        id: IdLike,
        *,
        vector: VectorLike | None = None,
        metadata: Metadata | None | Unset = UNSET,
        text: str | None | Unset = UNSET,
        named: Mapping[str, Any] | None = None,
        sparse: Mapping[str, Any] | None = None,
    ) -> None:
        """Changes what is given of one record. New metadata replaces the old whole; None removes metadata or text.

        `named` and `sparse` change further fields, by name; None as a value removes one.

        Raises:
            NotFound: there is no such record.

        >>> import omendb
        >>> docs = omendb.open(":memory:").create_collection("docs", dim=2)
        >>> _ = docs.upsert("a", [1.0, 0.0], {"year": 2020}, "old")
        >>> docs.update("a", metadata={"year": 2021}, text=None)
        >>> docs.get("a")
        Record(id='a', metadata={'year': 2021}, vector=<2 float32>)
        """
        array = None if vector is None else _vectors.query(vector, bits=self._bits)
        if metadata is not UNSET and metadata is not None and not isinstance(metadata, dict):
            metadata = _as_dict(metadata, "metadata")
        if text is not UNSET and text is not None and not isinstance(text, str):
            raise InvalidInput(f"text of type {type(text).__name__} was given; a str or None was expected")
        fields = self._fields.batch(named, sparse, 1, single=True)
        self._native.update(
            id, array, None if metadata is UNSET else (metadata,), None if text is UNSET else (text,), fields
        )

    def delete(self, ids: IdLike | Ids | None = None, *, filter: Filter | None = None) -> int:
        """Deletes records by id, or those that match a filter. Returns how many existed.

        A filter deletes the records that match when the call begins and still do when they are deleted.

        >>> import omendb
        >>> docs = omendb.open(":memory:").create_collection("docs", dim=2)
        >>> _ = docs.upsert(["a", "b", "c"], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [{"n": n} for n in range(3)])
        >>> docs.delete(["a", "unknown"]), docs.delete(filter="n >= 2"), len(docs)
        (1, 1, 1)
        """
        if (ids is None) == (filter is None):
            raise InvalidInput("delete takes either ids or a filter; to empty a collection, delete and create it anew")
        if filter is not None:
            return self._native.delete_matching(filter)
        return self._native.delete(_id_list(ids))

    # Reading

    @overload
    def get(self, ids: IdLike) -> _native.Record | None: ...  # type: ignore[overload-overlap]  # a str is a sequence of str too
    @overload
    def get(self, ids: Ids) -> list[_native.Record | None]: ...
    def get(self, ids: IdLike | Ids) -> _native.Record | list[_native.Record | None] | None:
        """The record of an id, or None; for a list of ids the list of their records in that order.

        >>> import omendb
        >>> docs = omendb.open(":memory:").create_collection("docs", dim=2)
        >>> _ = docs.upsert("a", [3.0, 4.0])
        >>> docs.get("a").vector.tolist(), docs.get(["b", "a"])[0]
        ([3.0, 4.0], None)
        """
        if isinstance(ids, (str, int, np.integer)):
            return self._native.get_one(ids)
        return self._native.get_many(_id_list(ids))

    def count(self, *, filter: Filter | None = None) -> int:
        """Number of records, or of those that match a filter.

        >>> import omendb
        >>> docs = omendb.open(":memory:").create_collection("docs", dim=2)
        >>> _ = docs.upsert([1, 2], [[1.0, 0.0], [0.0, 1.0]], [{"lang": "en"}, {"lang": "de"}])
        >>> docs.count(), docs.count(filter={"lang": "en"})
        (2, 1)
        """
        return self._native.count(filter)

    def iterate(self, batch_size: int = 1000, *, filter: Filter | None = None) -> Iterator[_native.Record]:
        """Every record of one consistent view, or those that match a filter, in storage order.

        `batch_size` records are read at a time. Writes made meanwhile are not seen.

        >>> import omendb
        >>> docs = omendb.open(":memory:").create_collection("docs", dim=2)
        >>> _ = docs.upsert([1, 2], [[1.0, 0.0], [0.0, 1.0]], [{"lang": "en"}, {"lang": "de"}])
        >>> sorted(record.id for record in docs), [record.id for record in docs.iterate(filter="lang = 'de'")]
        ([1, 2], [2])
        """
        _integer(batch_size, "batch_size", 1)
        return _records(self._native.iterate(filter), batch_size)

    def __iter__(self) -> Iterator[_native.Record]:
        return self.iterate()

    def __contains__(self, id: object) -> bool:
        return self._native.contains(id)

    def __len__(self) -> int:
        return self._native.count(None)

    def __bool__(self) -> bool:
        return True

    # Searching

    def search(
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
        """The `k` best records, best first: by a vector, a text, sparse and named vectors, or any of them in one order.

        Args:
            vector: shape (dim,). Equal distances keep one order while nothing changes.
            k: how many hits to return, 1 to 100,000 less `offset`.
            text: words to search for in the texts, scored by BM25: `crash safety` (any of them), `"crash safe"`,
                `+must -must_not`, `a AND (b OR c) AND NOT d`, `prefix*`, `fuzzy~`. Every string is a query.
            sparse: a sparse vector, as a dict of weights by id or a pair of ids and weights; or several, in a dict by
                the field's name. Found is what has the highest dot products, exactly; 0 is no hit.
            named: vectors to search by in further fields, by the field's name.
            using: the field whose vectors `vector` or `like` is compared with, instead of the records' own; without
                them, the field of `sparse`, which need not be named where there is only one.
            like: the id of a record to search with, in place of a vector; the record itself is left out.
            filter: only records whose metadata match: a dict of operators such as
                `{"lang": "en", "year": {"$gte": 2020}}`, or a string in the style of SQL such as
                `"lang = 'en' AND year >= 2020"`. See the README for all operators.
            fuse: of several things to search by, how their orders become one: "rrf", reciprocal rank fusion (a score of 1
                is the first of all); "adaptive", the same with ranks that follow the scores, where the order whose best
                stands out counts more; or "weighted", `alpha` times the scores by vectors and `1 - alpha` times those by
                text and sparse vectors, each scaled to 0...1. Hits show all of them: `vector_score` and `text_score`
                (None: no match), and `field_scores` by the field's name.
            alpha: the weight of vectors in "weighted", 0 to 1; 0.5 by default.
            recall: the share of the true nearest to find on average, 0.5 to 1; 0.95 by default, 1 is an exact scan.
                Records that have no graph yet are scanned exactly.
            ef: a fixed effort instead of `recall`: how many nodes of a graph to expand, 1 to 100,000.
            min_score: only hits of at least this score.
            max_distance: only hits within this distance: all of them, as far as `k` lets, by an exact scan unless
                `recall` or `ef` says otherwise. `hits.complete` tells whether there may be more.
            mmr: choose hits that differ from each other (maximal marginal relevance): one after the other that of
                the highest `mmr * score - (1 - mmr) * highest score against the hits before it`, of the `mmr_pool`
                nearest. 1: the nearest; 0: as different as can be. `k + offset` is 1,000 at most.
            mmr_pool: candidates for `mmr`, up to 10,000; default four times as many as are wanted, 50 at least.
            offset: how many of the best hits to skip.
            include: which of "metadata", "text", "vector", "snippet" (the piece of the text that matches) and "fields"
                (named and sparse vectors) to fetch.

        Raises:
            InvalidInput: a vector of another dimension, NaN, an argument out of range, a malformed filter (says where).
            LimitExceeded: a filter too deep or too large, `k + offset` over 100,000.
            NotFound: there is no record `like`.

        >>> import omendb
        >>> docs = omendb.open(":memory:").create_collection("docs", dim=2)
        >>> _ = docs.upsert(["a", "b"], [[1.0, 0.0], [0.0, 1.0]], metadata=[{"lang": "en"}, None])
        >>> docs.search([1.0, 0.0], k=1)
        Hits([Hit(id='a', score=1.0, distance=0.0, metadata={'lang': 'en'})], complete=False)
        >>> docs.search([0.0, 1.0], k=2, filter={"lang": "en"}).ids
        ['a']
        >>> docs.search(like="a").ids, docs.search([1.0, 0.0], max_distance=0.5).ids
        (['b'], ['a'])
        >>> _ = docs.upsert(["c", "d"], [[1.0, 0.1], [0.1, 1.0]], text=["crash safe storage", "a crash"])
        >>> docs.search(text="crash* -safe").ids, docs.search([1.0, 0.0], k=2, text="crash storage").ids
        (['d'], ['c', 'd'])
        >>> docs = omendb.open(":memory:").create_collection("docs", dim=2, sparse=["terms"])
        >>> _ = docs.upsert([1, 2], [[1.0, 0.0], [0.0, 1.0]], sparse={"terms": [{3: 0.5}, {3: 2.0, 9: 1.0}]})
        >>> docs.search(sparse={3: 1.0}).ids, docs.search([1.0, 0.0], sparse={3: 1.0}, k=1)[0].field_scores
        ([2, 1], {'terms': 0.5})
        """
        quality = _DEFAULT_QUALITY if recall is None and ef is None else _quality(recall, ef)
        flags = _INCLUDES[_DEFAULT_INCLUDE] if include is _DEFAULT_INCLUDE else _include(include)
        if type(k) is not int or k < 1:
            k = _integer(k, "k", 1)
        if offset:
            offset = _integer(offset, "offset", 0)
        if min_score is not None:
            min_score = _number(min_score, "min_score")
        special = None
        by_vector = vector is not None or like is not None
        own = using if by_vector else None
        if max_distance is not None or mmr is not None or like is not None or mmr_pool is not None or own is not None:
            special = _special(max_distance, mmr, mmr_pool, like, own)
        wanted = ((k, offset), min_score, flags, filter, quality, special)
        query = None if vector is None else _vectors.query(vector, bits=self._bits_of(using))
        if vector is not None and like is not None:
            raise InvalidInput("search was given both a vector and the id of a record (like); give one of them")
        if text is not None and not isinstance(text, str):
            raise InvalidInput(f"text of type {type(text).__name__} was given; a str was expected")
        if sparse is None and named is None:
            if text is not None:
                return Hits(self._native.search_fused(query, text, None, _fusion(fuse, alpha), wanted))
            if query is None and like is None:
                raise InvalidInput("search was given neither a vector nor text nor the id of a record; give one of them")
            return Hits(self._native.search(query, wanted))
        by_name = {} if sparse is None else self._fields.by_name(sparse, None if by_vector else using)
        fields = self._fields.query(named, by_name)
        if not (by_vector or fields[0] or text is not None) and len(by_name) == 1:
            field, only = fields[1][0]
            return Hits(self._native.search_sparse(field, only[0], wanted))
        return Hits(self._native.search_fused(query, text, fields, _fusion(fuse, alpha), wanted))

    def search_batch(
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
        """Searches with every row of `vectors`, shape (queries, dim), on `threads` threads (0: all cores).

        Arguments and errors as of `search`; metadata, text and vectors are left out unless `include` names them.
        Ctrl-C stops it. Writes that end meanwhile may show in the later queries of a large batch.

        >>> import omendb
        >>> docs = omendb.open(":memory:").create_collection("docs", dim=2, metric="l2")
        >>> _ = docs.upsert(["a", "b"], [[0.0, 0.0], [3.0, 4.0]])
        >>> docs.search_batch([[0.0, 0.0], [3.0, 4.0]], k=2).distances.tolist()
        [[0.0, 5.0], [0.0, 5.0]]
        """
        k = _integer(k, "k", 1)
        least = None if min_score is None else _number(min_score, "min_score")
        numbers = (k, _integer(offset, "offset", 0))
        special = _special(max_distance, mmr, mmr_pool, None, using)
        native = self._native.search_batch(
            _vectors.matrix(vectors, bits=self._bits_of(using)),
            (numbers, least, _include(include), filter, _quality(recall, ef), special),
            _integer(threads, "threads", 0),
        )
        return BatchHits(native, k)

    def search_groups(
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
        """The `k` values of a field whose records lie nearest to a vector, with the nearest records of each.

        Args:
            vector: shape (dim,).
            by: the field, such as "author" or "author.name". Its values are strings, numbers and booleans; records
                where it is missing, null, a list or a dict are in no group.
            k: how many groups to return.
            per_group: how many records of each; `k * per_group` is 100,000 at most.
            filter, recall, ef, min_score, max_distance, include, using: as of `search`.

        Raises:
            InvalidInput, LimitExceeded: as `search`.

        >>> import omendb
        >>> docs = omendb.open(":memory:").create_collection("docs", dim=1, metric="l2")
        >>> _ = docs.upsert([1, 2, 3, 4], [[0.0], [1.0], [2.0], [3.0]], [{"by": name} for name in ("x", "x", "x", "y")])
        >>> docs.search_groups([0.0], "by", k=2, per_group=2)
        Groups([Group('x', ids=[1, 2]),
                Group('y', ids=[4])], complete=False)
        """
        if not isinstance(by, str):
            raise InvalidInput(f"by of type {type(by).__name__} was given; the name of a field was expected")
        wanted = self._wanted(k, filter, recall, ef, min_score, max_distance, include, using)
        query = _vectors.query(vector, bits=self._bits_of(using))
        pairs, complete = self._native.search_groups(query, wanted, by, _integer(per_group, "per_group", 1))
        return Groups([Group(value, Hits(hits)) for value, hits in pairs], complete)

    def recall(
        self,
        sample: int = 200,
        k: int = 10,
        *,
        filter: Filter | None = None,
        recall: float | None = None,
        ef: int | None = None,
        using: str | None = None,
    ) -> float:
        """The share of the true `k` nearest that searches find, measured against exact search: 0 to 1.

        `sample` stored records are the queries, and each search is blind to the record that it asks with. Takes an
        exact scan of the collection for each 16 queries. Ctrl-C ends the wait, not the work.

        Args:
            sample: how many records to search with.
            k, filter, recall, ef, using: as of `search`; the recall that is measured is that of such a search.

        >>> import omendb
        >>> docs = omendb.open(":memory:").create_collection("docs", dim=2)
        >>> _ = docs.upsert([1, 2], [[1.0, 0.0], [0.0, 1.0]])
        >>> docs.recall(k=1)
        1.0
        """
        wanted = self._wanted(k, filter, recall, ef, None, None, (), using)
        measured: float = self._native.recall(_integer(sample, "sample", 1), wanted)["recall"]
        return measured

    def explain(
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
        """Searches, and tells how: the plan of each segment, what it cost, and the recall to expect.

        Arguments and errors as of `search`, with either a vector or a sparse vector.

        >>> import omendb
        >>> docs = omendb.open(":memory:").create_collection("docs", dim=2)
        >>> _ = docs.upsert([1, 2], [[1.0, 0.0], [0.0, 1.0]], [{"lang": "en"}, None])
        >>> told = docs.explain([1.0, 0.0], k=1, filter={"lang": "en"})
        >>> told.parts[0].plan, told.parts[0].matching, told.distances, told.estimated_recall, told.hits.ids
        ('scan', 1, 1, 1.0, [1])
        """
        if (vector is None) == (sparse is None):
            raise InvalidInput("explain takes either a vector or a sparse vector; give one of them")
        own = None if vector is None else using
        wanted = self._wanted(k, filter, recall, ef, min_score, max_distance, include, own)
        if vector is not None:
            raw, hits = self._native.explain(_vectors.query(vector, bits=self._bits_of(using)), wanted)
            return explanation(raw, Hits(hits))
        _, queries = self._fields.query(None, self._fields.by_name(sparse, using))
        if len(queries) != 1:
            raise InvalidInput(f"explain was given {len(queries)} sparse vectors; give one")
        raw, hits = self._native.explain_sparse(queries[0][0], queries[0][1][0], wanted)
        return explanation(raw, Hits(hits))

    def _wanted(
        self,
        k: int,
        filter: Filter | None,
        recall: float | None,
        ef: int | None,
        min_score: float | None,
        max_distance: float | None,
        include: Iterable[str],
        using: str | None,
    ) -> _native._Wanted:
        least = None if min_score is None else _number(min_score, "min_score")
        numbers = (_integer(k, "k", 1), 0)
        special = _special(max_distance, None, None, None, using)
        return numbers, least, _include(include), filter, _quality(recall, ef), special

    def _bits_of(self, using: str | None) -> int | None:
        """The dimensions of the vectors that are searched, if they are of bits."""
        return self._bits if using is None else self._fields.bits(using)

    # Maintenance

    def flush(self) -> None:
        """Moves the records of memory and log into segments, durable when the call returns.

        >>> import omendb
        >>> omendb.open(":memory:").create_collection("docs", dim=2).flush()
        """
        self._native.flush()

    def compact(self, progress: bool = False) -> None:
        """Rewrites segments without what was deleted or replaced, and frees its space.

        Args:
            progress: show on standard error that it goes on (with tqdm if it is installed).

        >>> import omendb
        >>> omendb.open(":memory:").create_collection("docs", dim=2).compact()
        """
        if not progress:
            self._native.compact()
            return
        from ._progress import working

        with working(f"compacting {self.name}"):
            self._native.compact()

    def wait_indexed(self, progress: bool = False, settled: bool = False) -> None:
        """Flushes, and waits until every large segment has its graph. Ctrl-C ends the wait, not the work.

        Args:
            progress: show it on standard error (with tqdm if it is installed).
            settled: wait for the careful graphs that replace the first, quick ones.

        >>> import omendb
        >>> omendb.open(":memory:").create_collection("docs", dim=2).wait_indexed()
        """
        if not progress:
            self._native.wait_indexed(bool(settled))
            return
        from ._progress import waiting

        def left() -> int:
            stats = self.stats()
            return stats.memtable_records + stats.unindexed_rows

        with waiting(f"indexing {self.name}", left):
            self._native.wait_indexed(bool(settled))

    def stats(self) -> CollectionStats:
        """Counts and sizes.

        >>> import omendb
        >>> omendb.open(":memory:").create_collection("docs", dim=2).stats().records
        0
        """
        return collection_stats(self._native.stats())

    def __repr__(self) -> str:
        return (
            f"Collection({self.name!r}, dim={self.dim}, metric={self.metric!r}, dtype={self.dtype!r}, "
            f"records={len(self)})"
        )

    def _repr_html_(self) -> str:
        stats = self.stats()
        rows = [
            ("records", f"{stats.records:,}"),
            ("dim", self.dim),
            ("metric", self.metric),
            ("dtype", self.dtype),
            ("segments", stats.segments),
            ("not yet in a segment", f"{stats.memtable_records:,}"),
            ("deleted, not yet compacted", f"{stats.deleted:,}"),
        ]
        return html_table(f"Collection {self.name}", ("", ""), rows)

    def _batch(
        self, ids: Any, vectors: Any, metadata: Any, text: Any, named: Any, sparse: Any
    ) -> tuple[
        list[Any] | npt.NDArray[Any], npt.NDArray[Any], list[Any] | None, list[Any] | None, _native._Given | None
    ]:
        """The columns of a batch, checked for shape and type as far as they need to be to be told apart."""
        if vectors is None:
            if not _tables.is_table(ids):
                raise InvalidInput("vectors are missing; give ids and vectors, or a table with columns id and vector")
            if metadata is not None or text is not None:
                raise InvalidInput("a table carries its own text and metadata columns; give them there or not at all")
            ids, vectors, metadata, text = _tables.columns(ids)
        single = isinstance(ids, (str, int, np.integer))
        if single:
            array = _vectors.query(vectors, bits=self._bits).reshape(1, -1)
            ids = [ids]
            metadata = [metadata] if metadata is None or not isinstance(metadata, (list, tuple)) else metadata
            text = [text] if text is None or isinstance(text, str) else text
        else:
            array = _vectors.matrix(vectors, bits=self._bits)
        rows = len(array)
        fields = self._fields.batch(named, sparse, rows, single)
        return _id_list(ids), array, _column(metadata, "metadata", rows), _column(text, "text", rows), fields


def _records(native: _native.RecordIterator, batch_size: int) -> Iterator[_native.Record]:
    while batch := native.next_batch(batch_size):
        yield from batch


def _number(value: Any, name: str) -> float:
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and not math.isnan(float(value)):
        return float(value)
    raise InvalidInput(f"{name} = {value!r} was given; a number was expected")


def _special(
    max_distance: float | None, mmr: float | None, mmr_pool: int | None, like: IdLike | None, using: str | None
) -> _native._Special | None:
    if max_distance is None and mmr is None and mmr_pool is None and like is None and using is None:
        return None
    if using is not None and not isinstance(using, str):
        raise InvalidInput(f"using of type {type(using).__name__} was given; the name of a field was expected")
    radius = None if max_distance is None else _number(max_distance, "max_distance")
    pool = None if mmr_pool is None else _integer(mmr_pool, "mmr_pool", 1)
    if mmr is None and pool is not None:
        raise InvalidInput("mmr_pool was given without mmr; give both, or leave it out")
    return radius, None if mmr is None else (_number(mmr, "mmr"), pool), like, using


def _as_dict(value: Any, name: str) -> dict[str, Any]:
    try:
        return dict(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} of type {type(value).__name__} was given; a dict or None was expected") from error


def _id_list(ids: Any) -> list[Any] | npt.NDArray[Any]:
    """Ids as the list or integer array that the extension module reads."""
    if type(ids) is list:
        return ids
    if isinstance(ids, (str, int, np.integer)):
        return [ids]
    if isinstance(ids, np.ndarray):
        if ids.ndim != 1:
            raise InvalidInput(f"ids of shape {ids.shape} were given; one axis was expected")
        if ids.dtype == np.int64 or ids.dtype == np.uint64:
            return ids
        listed: list[Any] = ids.tolist()
        return listed
    if isinstance(ids, (bytes, dict)) or not isinstance(ids, Iterable):
        raise InvalidInput(f"ids of type {type(ids).__name__} were given; a list of str or int was expected")
    to_pylist = getattr(ids, "to_pylist", None)  # Arrow's columns iterate over scalars of their own
    return list(ids if to_pylist is None else to_pylist())


def _column(values: Any, name: str, rows: int) -> list[Any] | None:
    if values is None:
        return None
    if isinstance(values, (str, bytes, dict)) or not isinstance(values, Iterable):
        raise InvalidInput(
            f"{name} of type {type(values).__name__} was given for {rows} records; a list of one a record was expected"
        )
    column = values if type(values) is list else list(values)
    if len(column) != rows:
        raise InvalidInput(f"{rows} vectors but {len(column)} rows of {name} were given; one a record was expected")
    if name == "metadata":
        return [each if each is None or type(each) is dict else _as_dict(each, f"metadata[{row}]") for row, each in enumerate(column)]
    return column


_include(_DEFAULT_INCLUDE)
