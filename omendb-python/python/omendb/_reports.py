"""What maintenance calls tell: plain frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ._hits import Hits

_Report = TypeVar("_Report")


def _known(kind: type[_Report], raw: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return {name: value for name, value in raw.items() if name in names}


@dataclass(frozen=True)
class CheckReport:
    """What a check found. Truthy when there was no problem."""

    files: int = 0
    """Files verified."""
    bytes: int = 0
    """Bytes read."""
    records: int = 0
    """Records seen."""
    problems: tuple[str, ...] = ()
    """What is wrong, one sentence each."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok


@dataclass(frozen=True)
class BackupReport:
    """What a backup wrote."""

    files: int = 0
    """Files copied."""
    bytes: int = 0
    """Bytes copied."""
    records: int = 0
    """Records in the copy."""


@dataclass(frozen=True)
class SalvageReport:
    """What a salvage saved and what it could not."""

    collections: int = 0
    """Collections saved."""
    records_saved: int = 0
    """Records saved."""
    records_lost: int = 0
    """Records that were damaged."""
    problems: tuple[str, ...] = ()
    """What was damaged, one sentence each."""


@dataclass(frozen=True)
class RecoveryReport:
    """What recovery found when the database was opened."""

    log_bytes: int = 0
    """Bytes of log read."""
    frames: int = 0
    """Log frames replayed."""
    records: int = 0
    """Records replayed."""
    truncated_bytes: int = 0
    """Bytes of an unacknowledged write that were cut off."""
    micros: int = 0
    """Duration in microseconds."""


@dataclass(frozen=True)
class Latency:
    """Quantiles of one operation's duration, in microseconds."""

    count: int = 0
    """Operations measured."""
    p50_us: float = 0.0
    """Half were faster."""
    p99_us: float = 0.0
    """99 of 100 were faster."""
    max_us: float = 0.0
    """The slowest."""


@dataclass(frozen=True)
class CollectionStats:
    """Counts and sizes of one collection."""

    name: str = ""
    dim: int = 0
    metric: str = ""
    element: str = ""
    records: int = 0
    """Live records."""
    deleted: int = 0
    """Deleted or replaced records whose space compaction will free."""
    segments: int = 0
    """Immutable segments on disk."""
    memtable_records: int = 0
    """Records in memory and log, not yet in a segment."""
    memtable_bytes: int = 0
    """Memory of those records."""
    id_index_bytes: int = 0
    """Memory of the id index; 0 until the first read by id or write."""
    filter_columns_bytes: int = 0
    """Memory of the metadata columns that filters use and that are in no file yet."""
    indexed_rows: int = 0
    """Rows in segments that have a graph."""
    unindexed_rows: int = 0
    """Rows in segments that are large enough for a graph and wait for one; searches scan them."""
    settled_rows: int = 0
    """Rows in segments whose graph is the careful one."""
    graph_bytes: int = 0
    """Memory of the graphs."""
    text_indexed_rows: int = 0
    """Rows in segments whose texts are indexed; the others are indexed by the first search that needs them."""
    text_index_bytes: int = 0
    """Memory of text indexes that are in no file yet."""


@dataclass(frozen=True)
class Stats:
    """Counts, sizes in bytes and latencies of a database."""

    path: str = ""
    records: int = 0
    collections: tuple[CollectionStats, ...] = ()
    bytes_log: int = 0
    bytes_data: int = 0
    bytes_index: int = 0
    bytes_text: int = 0
    bytes_tombstones: int = 0
    bytes_manifest: int = 0
    log_lag_bytes: int = 0
    """Bytes of log that are not yet in segments."""
    memory_used: int = 0
    memory_budget: int = 0
    damaged: tuple[str, ...] = ()
    """Damage seen so far, one line a file."""
    background_error: str | None = None
    """The last failure of background work, if it has not succeeded since."""
    poisoned: str | None = None
    """Why the handle takes no more writes, if a write could not be made durable."""
    write: Latency = Latency()
    search: Latency = Latency()
    fsync: Latency = Latency()
    flush: Latency = Latency()
    compaction: Latency = Latency()
    index: Latency = Latency()
    """Builds of graphs."""
    index_progress: float = 0.0
    """Share done of the graph that is being built, or of the last one: 0 to 1."""


@dataclass(frozen=True)
class PartPlan:
    """How one part of a collection was searched."""

    segment: int | None = None
    """The segment's number, or None for the records in memory."""
    plan: str = ""
    """"graph": the segment's graph is walked and the best are compared exactly; "codes": the short codes of all records
    that pass the filter are compared, and the best exactly; "scan": every record that passes is compared."""
    reason: str | None = None
    """Why it was scanned."""
    rows: int = 0
    """Its live records."""
    matching: int | None = None
    """Those of them that pass the filter, or None where there is none."""
    rows_visited: int = 0
    """Records looked at: nodes of the graph whose neighbours were compared, or rows scanned."""
    distances: int = 0
    """Distances computed, those between short codes included."""
    estimated_recall: float | None = None
    """The recall to expect, 0 to 1; None where `ef` sets the effort or the graph is too small to be calibrated."""
    micros: int = 0
    """Microseconds, the filter included."""


@dataclass(frozen=True)
class Explanation:
    """How a search was carried out, part by part, and what it found."""

    parts: tuple[PartPlan, ...]
    """The segments, oldest first, then the records in memory."""
    rows_visited: int
    """That of all parts."""
    distances: int
    """That of all parts."""
    estimated_recall: float | None
    """That of the parts, weighted by their rows."""
    micros: int
    """How long the whole search took, its fields fetched, in microseconds."""
    hits: Hits
    """What it found."""

    def _rows(self) -> list[tuple[str, ...]]:
        def or_dash(value: float | None, form: str) -> str:
            return "-" if value is None else format(value, form)

        return [
            (
                "memory" if part.segment is None else f"segment {part.segment}",
                f"{part.rows:,}",
                or_dash(part.matching, ","),
                part.plan,
                f"{part.rows_visited:,}",
                f"{part.distances:,}",
                or_dash(part.estimated_recall, ".3f"),
                f"{part.micros:,}",
                part.reason or "",
            )
            for part in self.parts
        ]

    def _summary(self) -> str:
        recall = "unknown" if self.estimated_recall is None else f"{self.estimated_recall:.3f}"
        return (
            f"{len(self.hits)} hits, {self.rows_visited:,} records visited, {self.distances:,} distances, "
            f"estimated recall {recall}, {self.micros:,} us"
        )

    def __repr__(self) -> str:
        table = [_PLAN_HEADER, *self._rows()]
        widths = [max(len(row[column]) for row in table) for column in range(len(_PLAN_HEADER))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
        return "\n".join([self._summary(), *lines])

    def _repr_html_(self) -> str:
        from ._hits import html_table

        return html_table(self._summary(), _PLAN_HEADER, self._rows())


_PLAN_HEADER = ("part", "records", "matching", "plan", "visited", "distances", "recall", "us", "because")


def explanation(raw: Mapping[str, Any], hits: Hits) -> Explanation:
    parts = tuple(PartPlan(**_known(PartPlan, each)) for each in raw["parts"])
    return Explanation(**{**_known(Explanation, raw), "parts": parts, "hits": hits})


def check_report(raw: Mapping[str, Any]) -> CheckReport:
    return CheckReport(**{**_known(CheckReport, raw), "problems": tuple(raw.get("problems", ()))})


def backup_report(raw: Mapping[str, Any]) -> BackupReport:
    return BackupReport(**_known(BackupReport, raw))


def salvage_report(raw: Mapping[str, Any]) -> SalvageReport:
    return SalvageReport(**{**_known(SalvageReport, raw), "problems": tuple(raw.get("problems", ()))})


def recovery_report(raw: Mapping[str, Any]) -> RecoveryReport:
    return RecoveryReport(**_known(RecoveryReport, raw))


def collection_stats(raw: Mapping[str, Any]) -> CollectionStats:
    return CollectionStats(**_known(CollectionStats, raw))


def stats(raw: Mapping[str, Any]) -> Stats:
    known = _known(Stats, raw)
    known["collections"] = tuple(collection_stats(each) for each in raw.get("collections", ()))
    known["damaged"] = tuple(raw.get("damaged", ()))
    for name in ("write", "search", "fsync", "flush", "compaction", "index"):
        known[name] = Latency(**_known(Latency, raw.get(name, {})))
    return Stats(**known)
