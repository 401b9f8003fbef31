"""Further fields of records, vectors and sparse vectors, in the forms that the extension module reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import _vectors
from ._errors import InvalidInput

if TYPE_CHECKING:
    import numpy.typing as npt

    from ._native import _Declared, _Given

_SETTINGS = frozenset(("dim", "metric", "dtype", "quantization"))


def declared(vectors: Any, sparse: Any) -> list[_Declared]:
    """The fields of a new collection: `vectors` is a dict of settings by name, `sparse` a list of names."""
    fields: list[_Declared] = []
    for name, given in _mapping(vectors, "vectors").items():
        if not isinstance(given, Mapping) or not _SETTINGS.issuperset(given) or not isinstance(given.get("dim"), int):
            raise InvalidInput(
                f'vectors[{name!r}] = {given!r} was given; a dict such as {{"dim": 384, "metric": "cosine"}} was '
                'expected, with "dtype" and "quantization" if need be'
            )
        settings = [given.get("metric", "cosine"), given.get("dtype", "f32"), given.get("quantization", "auto")]
        if given["dim"] < 1 or isinstance(given["dim"], bool) or not all(isinstance(each, str) for each in settings):
            raise InvalidInput(f"vectors[{name!r}] = {given!r} was given; dim is a positive integer, the rest are str")
        fields.append((_name(name), (given["dim"], settings[0], settings[1], settings[2])))
    if isinstance(sparse, (str, bytes)) or not isinstance(sparse, Iterable):
        raise InvalidInput(f"sparse of type {type(sparse).__name__} was given; a list of names was expected")
    fields.extend((_name(name), None) for name in sparse)
    return fields


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise InvalidInput(f"a field called {name!r} was given; a str was expected")
    return name


def _mapping(given: Any, name: str) -> Mapping[Any, Any]:
    if not isinstance(given, Mapping):
        raise InvalidInput(f"{name} of type {type(given).__name__} was given; a dict by the field's name was expected")
    return given


class Fields:
    """The fields of a collection, by name."""

    __slots__ = ("sparse", "vectors")

    def __init__(self, fields: list[_Declared]) -> None:
        self.vectors = {name: vector for name, vector in fields if vector is not None}
        self.sparse = [name for name, vector in fields if vector is None]

    def bits(self, name: Any) -> int | None:
        """The dimensions of a field of bits; None for others."""
        vector = self.vectors.get(name)
        return vector[0] if vector is not None and vector[2] == "bits" else None

    def batch(self, named: Any, sparse: Any, rows: int, single: bool) -> _Given | None:
        """The fields of a batch of `rows` records, or of one record that is given as itself."""
        if named is None and sparse is None:
            return None
        vectors, values = [], []
        for name, given in _mapping({} if named is None else named, "named").items():
            if single:
                present = None if given is not None else [False]
                column = [] if given is None else [_vectors.query(given, bits=self.bits(name))]
            elif isinstance(given, (list, tuple)) and any(each is None for each in given):
                self._count(f"named[{name!r}]", len(given), rows)
                present = [each is not None for each in given]
                column = [each for each in given if each is not None]
            else:
                present, column = None, given
            array = _vectors.matrix(column, bits=self.bits(name))
            if present is None:
                self._count(f"named[{name!r}]", len(array), rows)
            vectors.append((_name(name), present, array))
        for name, given in _mapping({} if sparse is None else sparse, "sparse").items():
            column = [given] if single else _rows(given, f"sparse[{name!r}]")
            self._count(f"sparse[{name!r}]", len(column), rows)
            values.append((_name(name), [_sparse(each) for each in column]))
        return vectors, values

    def query(self, named: Any, sparse: Mapping[str, Any]) -> _Given:
        """The fields that are searched by."""
        vectors: list[tuple[str, list[bool] | None, npt.NDArray[Any]]] = [
            (_name(name), None, _vectors.query(given, bits=self.bits(name)).reshape(1, -1))
            for name, given in _mapping({} if named is None else named, "named").items()
        ]
        return vectors, [(_name(name), [_sparse(given)]) for name, given in sparse.items()]

    def by_name(self, sparse: Any, using: str | None) -> dict[str, Any]:
        """Sparse queries by the field's name: `sparse` is that, or one query for `using` or the only field."""
        if isinstance(sparse, Mapping) and sparse and all(isinstance(key, str) for key in sparse):
            return dict(sparse)
        if using is not None:
            return {using: sparse}
        if len(self.sparse) != 1:
            raise InvalidInput(
                f"a sparse vector was given to a collection of the sparse fields {self.sparse}; say which is meant "
                "with using, or give a dict by the field's name"
            )
        return {self.sparse[0]: sparse}

    @staticmethod
    def _count(name: str, given: int, rows: int) -> None:
        if given != rows:
            raise InvalidInput(f"{rows} records but {given} rows of {name} were given; one a record was expected")


def _rows(given: Any, name: str) -> list[Any]:
    """Sparse vectors of a batch: a list, or a sparse matrix of SciPy."""
    tocsr = getattr(given, "tocsr", None)
    if tocsr is not None:
        matrix = tocsr()
        matrix.sum_duplicates()
        bounds = matrix.indptr
        return [
            (matrix.indices[start:end].tolist(), matrix.data[start:end].tolist())
            for start, end in zip(bounds[:-1], bounds[1:], strict=True)
        ]
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise InvalidInput(f"{name} of type {type(given).__name__} was given; a list of one a record was expected")
    return list(given)


def _sparse(given: Any) -> Any:
    """One sparse vector as a dict, or a pair of lists; what else it may be is refused by the extension module."""
    if given is None or type(given) is dict:
        return given
    if isinstance(given, Mapping):
        return dict(given)
    if hasattr(given, "tocsr"):
        rows = _rows(given, "sparse")
        if len(rows) != 1:
            raise InvalidInput(f"a sparse matrix of {len(rows)} rows was given; one row was expected")
        return rows[0]
    indices, values = getattr(given, "indices", None), getattr(given, "values", None)
    if indices is not None and values is not None and not callable(values):
        return (list(indices), list(values))  # Qdrant's SparseVector
    if isinstance(given, (tuple, list)) and len(given) == 2:
        first, second = given
        if isinstance(first, Iterable) and isinstance(second, Iterable):
            return (list(first), list(second))
    return given
