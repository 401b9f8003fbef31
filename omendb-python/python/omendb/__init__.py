"""OmenDB: an embedded vector database.

>>> import omendb
>>> db = omendb.open(":memory:")
>>> docs = db.create_collection("docs", dim=2)
>>> docs.upsert(ids=["a", "b"], vectors=[[1.0, 0.0], [0.0, 1.0]], metadata=[{"lang": "en"}, {"lang": "de"}])
2
>>> docs.search([0.9, 0.1], k=1).ids
['a']

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._errors import (
    AlreadyExists,
    Cancelled,
    Corrupt,
    DiskFull,
    Indeterminate,
    InvalidInput,
    Io,
    LimitExceeded,
    Locked,
    NotFound,
    OmenError,
    Unsupported,
    Unusable,
)

if TYPE_CHECKING:
    from ._async import AsyncCollection, AsyncDatabase
    from ._collection import Collection
    from ._database import Database, open, restore, salvage, verify_backup
    from ._hits import BatchHits, Group, Groups, Hits
    from ._native import Hit, Record, Snippet, __version__
    from ._reports import (
        BackupReport,
        CheckReport,
        CollectionStats,
        Explanation,
        Latency,
        PartPlan,
        RecoveryReport,
        SalvageReport,
        Stats,
    )
    from ._types import UNSET, Id, IdLike, Include, Metadata, VectorLike

__all__ = [
    "UNSET",
    "AlreadyExists",
    "AsyncCollection",
    "AsyncDatabase",
    "BackupReport",
    "BatchHits",
    "Cancelled",
    "CheckReport",
    "Collection",
    "CollectionStats",
    "Corrupt",
    "Database",
    "DiskFull",
    "Explanation",
    "Group",
    "Groups",
    "Hit",
    "Hits",
    "Id",
    "IdLike",
    "Include",
    "Indeterminate",
    "InvalidInput",
    "Io",
    "Latency",
    "LimitExceeded",
    "Locked",
    "Metadata",
    "NotFound",
    "OmenError",
    "PartPlan",
    "Record",
    "RecoveryReport",
    "SalvageReport",
    "Snippet",
    "Stats",
    "Unsupported",
    "Unusable",
    "VectorLike",
    "__version__",
    "open",
    "restore",
    "salvage",
    "verify_backup",
]

_HOMES = {
    "_async": ("AsyncCollection", "AsyncDatabase"),
    "_collection": ("Collection",),
    "_database": ("Database", "open", "restore", "salvage", "verify_backup"),
    "_hits": ("BatchHits", "Group", "Groups", "Hits"),
    "_native": ("Hit", "Record", "Snippet", "__version__"),
    "_reports": (
        "BackupReport",
        "CheckReport",
        "CollectionStats",
        "Explanation",
        "Latency",
        "PartPlan",
        "RecoveryReport",
        "SalvageReport",
        "Stats",
    ),
    "_types": ("UNSET", "Id", "IdLike", "Include", "Metadata", "VectorLike"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'omendb' has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
