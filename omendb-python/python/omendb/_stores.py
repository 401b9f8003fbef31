"""What the integrations share: one handle a directory, collections made when the first vector shows their dimensions."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from ._collection import Collection
from ._database import Database
from ._database import open as open_database
from ._errors import InvalidInput, NotFound

_T = TypeVar("_T")
_databases: WeakValueDictionary[str, Database] = WeakValueDictionary()
_lock = threading.Lock()


def shared_database(path: str | os.PathLike[str]) -> Database:
    """The open database of a directory: stores of one process share a handle, as a database has one writer."""
    place = os.fspath(path)
    if place == ":memory:":
        return open_database(place)
    key = os.path.realpath(place)
    with _lock:
        database = _databases.get(key)
        if database is None or database.closed:
            database = _databases[key] = open_database(place)
        return database


class LazyCollection:
    """A collection that may not exist yet."""

    def __init__(self, database: Database, name: str, metric: str) -> None:
        self.database = database
        self.name = name
        self.metric = metric
        self._collection: Collection | None = None

    def get(self) -> Collection | None:
        """The collection, or None as long as nothing was written."""
        if self._collection is None:
            try:
                self._collection = self.database.get_collection(self.name)
            except NotFound:
                return None
        return self._collection

    def make(self, dim: int) -> Collection:
        """The collection, created for vectors of `dim` dimensions if there is none."""
        found = self.get()
        if found is None:
            found = self._collection = self.database.get_or_create_collection(self.name, dim, self.metric)
        return found

    def drop(self) -> None:
        """Deletes the collection; the next write makes a new one."""
        self._collection = None
        try:
            self.database.delete_collection(self.name)
        except NotFound:
            return


def last_of_each(ids: Sequence[str], rows: Sequence[_T]) -> tuple[list[str], list[_T]]:
    """The rows without those whose id comes again later: a batch names each record once."""
    if len(rows) != len(ids):
        raise InvalidInput(f"{len(ids)} ids but {len(rows)} records were given; one id a record was expected")
    last = dict(zip(ids, rows, strict=True))
    return list(last), list(last.values())


def both(*conditions: Any) -> Any:
    """The filter that holds where all conditions hold; None where there is none."""
    given = [condition for condition in conditions if condition]
    return None if not given else given[0] if len(given) == 1 else {"$and": given}
