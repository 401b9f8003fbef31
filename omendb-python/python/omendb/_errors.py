"""The exceptions of the package. Each message says what was given, what was expected and the fix."""

from __future__ import annotations

__all__ = [
    "AlreadyExists",
    "Cancelled",
    "Corrupt",
    "DiskFull",
    "Indeterminate",
    "InvalidInput",
    "Io",
    "LimitExceeded",
    "Locked",
    "NotFound",
    "OmenError",
    "Unsupported",
    "Unusable",
]


class OmenError(Exception):
    """Base of every error that the database raises.

    >>> import omendb
    >>> try:
    ...     omendb.open(":memory:").get_collection("nothing")
    ... except omendb.OmenError as error:
    ...     print(type(error).__name__)
    NotFound
    """

    def __str__(self) -> str:
        # KeyError shows the repr of its argument; a message is meant to be read.
        return str(self.args[0]) if self.args else type(self).__name__


class InvalidInput(OmenError, ValueError):
    """The input can never be accepted as it is. Nothing was applied."""


class NotFound(OmenError, KeyError):
    """A database, collection or record that was asked for does not exist."""


class AlreadyExists(OmenError, ValueError):
    """A collection or record of that name or id exists already. Nothing was applied."""


class Locked(OmenError):
    """Another process, or another handle of this one, has the database open."""


class Corrupt(OmenError):
    """Bytes on disk are not what was written."""

    file: str = ""
    """The damaged file, relative to the database's directory."""
    offset: int = 0
    """The first byte of the damaged area."""
    what: str = ""
    """What failed to verify."""


class LimitExceeded(OmenError, ValueError):
    """A documented limit was exceeded. Nothing was applied."""


class DiskFull(OmenError, OSError):
    """The device is full. The write was refused; reads and deletes still work."""


class Indeterminate(OmenError, RuntimeError):
    """A write's outcome is unknown, as the operating system failed to make it durable. It is never retried."""


class Unusable(OmenError, RuntimeError):
    """The handle cannot do this: it is closed, read-only, or was inherited through a fork."""


class Unsupported(OmenError, NotImplementedError):
    """This version cannot do it: files of a newer or foreign version, or an option that is not available."""


class Io(OmenError, OSError):
    """The operating system refused a file operation."""

    operation: str = ""
    """The operation, such as ``open``."""
    path: str = ""
    """The file."""


class Cancelled(OmenError):
    """The work was cancelled by its caller."""
