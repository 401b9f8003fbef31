"""Type aliases, and the mark of an argument that was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Id: TypeAlias = str | int
"""The id of a record as it comes back."""

IdLike: TypeAlias = str | int | np.integer[Any]
"""The id of a record as it is accepted: a string of 1 to 512 bytes, or an integer from 0 to 2**64 - 1."""

Ids: TypeAlias = Sequence[IdLike] | npt.NDArray[Any]
VectorLike: TypeAlias = npt.NDArray[Any] | Sequence[float] | Sequence[Sequence[float]] | Sequence[npt.NDArray[Any]] | Any
"""A vector or a matrix of them: NumPy arrays of any float, int8, uint8 or bool type and any layout, lists, tensors."""

Metadata: TypeAlias = Mapping[str, Any]
"""Metadata of a record: what JSON can say, dates (stored as ISO 8601 text) and NumPy's values."""

Filter: TypeAlias = Mapping[str, Any] | str
"""A condition on metadata: a dict of operators, or a string in the style of SQL's WHERE."""

Include: TypeAlias = Literal["metadata", "text", "vector", "snippet", "fields"]
"""A field that a search can return besides id, score and distance."""

MetricName: TypeAlias = Literal[
    "cosine", "cos", "angular", "l2", "euclidean", "euclid", "dot", "ip", "inner_product", "hamming"
]
DtypeName: TypeAlias = Literal["f32", "float32", "f16", "float16", "i8", "int8", "u8", "uint8", "bits", "binary"]
Durability: TypeAlias = Literal["commit", "interval", "manual"]


class _Unset(Enum):
    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"


Unset: TypeAlias = Literal[_Unset.UNSET]
UNSET: Final = _Unset.UNSET
"""Stands for an argument that was not given, where None has a meaning of its own."""
