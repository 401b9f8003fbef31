"""Vectors in any form as arrays the engine reads without another copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ._errors import InvalidInput

_NATIVE = frozenset(np.dtype(kind) for kind in (np.float32, np.float16, np.int8, np.uint8))
_FLOAT32 = np.dtype(np.float32)


def query(vector: Any, *, bits: int | None) -> npt.NDArray[Any]:
    """One vector as a contiguous array of shape (dim,), or of (bytes,) for a collection of ``bits`` dimensions."""
    if type(vector) is np.ndarray and vector.ndim == 1 and vector.dtype is _FLOAT32 and vector.flags.carray:
        return vector
    array = _array(vector, "the vector", bits)
    if array.ndim == 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 1:
        raise InvalidInput(
            f"a vector of shape {array.shape} was given; one vector of shape (dim,) was expected: "
            "use search_batch for several"
        )
    return array


def matrix(vectors: Any, *, bits: int | None) -> npt.NDArray[Any]:
    """Vectors as a contiguous array of shape (rows, dim), or of (rows, bytes) for a collection of ``bits`` dimensions."""
    array = _array(vectors, "vectors", bits)
    if array.ndim == 1 and array.size == 0:
        return array.reshape(0, 0)
    if array.ndim != 2:
        raise InvalidInput(f"vectors of shape {array.shape} were given; an array of shape (rows, dim) was expected")
    return array


def _array(given: Any, name: str, bits: int | None) -> npt.NDArray[Any]:
    if given is None or isinstance(given, (str, bytes, dict, set)):
        raise InvalidInput(f"{name} of type {type(given).__name__} was given; an array or lists of numbers were expected")
    try:
        array = np.asarray(_on_host(given))
    except Exception as error:
        raise InvalidInput(f"{name} cannot be read as an array of numbers: {error}; every row needs the same length") from error
    if bits is not None:
        array = _packed(array, bits, name)
    elif array.dtype not in _NATIVE:
        array = _as_float32(array, name)
    return np.require(array, requirements=("C", "A"))


def _on_host(given: Any) -> Any:
    """Tensors that remember gradients or live on a device give up their numbers only when asked to."""
    detach = getattr(given, "detach", None)
    if detach is None or not hasattr(given, "cpu"):
        return given
    return detach().cpu()


def _as_float32(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    if array.dtype.kind not in "fiub" and not (array.dtype == object and _all_numbers(array)):
        raise InvalidInput(
            f"{name} of element type {array.dtype} was given; float32 (or float64, float16, int8, uint8, bool) was "
            "expected, with rows of one length"
        )
    # What overflows float32 becomes infinite, and infinity is refused by the engine with the row's number.
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32)


def _all_numbers(array: npt.NDArray[Any]) -> bool:
    return all(isinstance(item, (int, float, np.number)) for item in array.flat)


def _packed(array: npt.NDArray[Any], dim: int, name: str) -> npt.NDArray[Any]:
    """Bits eight to a byte, least significant first; bytes of the packed width are taken as they are."""
    width = array.shape[-1] if array.ndim else 0
    if array.dtype == np.uint8 and width == (dim + 7) // 8 and (width != dim or dim == 1):
        return array
    zero_or_one = array.dtype == np.bool_ or (
        array.dtype.kind in "iuf" and bool(np.isin(array, (0, 1)).all()) and width == dim
    )
    if not zero_or_one or (width != dim and array.size):
        raise InvalidInput(
            f"{name} of shape {array.shape} and element type {array.dtype} was given to a collection of {dim} bits; "
            f"bools (or 0 and 1) of shape (..., {dim}) or packed uint8 of shape (..., {(dim + 7) // 8}) were expected"
        )
    return np.packbits(array.astype(np.bool_), axis=-1, bitorder="little")
