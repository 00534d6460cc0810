"""Files of data sets: found or named with the layout that was expected, and read without running what lies in them."""

from __future__ import annotations

import gzip
import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_IDX_TYPES = {0x08: np.dtype(np.uint8)}
_HARMLESS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


def existing(folder: str, names: Sequence[str], layout: str) -> list[Path]:
    """The files of a data set. Raises ``ValueError`` that says where was looked, and for what."""
    root = Path(folder).expanduser()
    missing = [name for name in names if not (root / name).exists()]
    if missing:
        raise ValueError(
            f"folder: {root.absolute()} has no {missing[0]}; expected is {layout}. Nothing is downloaded: put the data "
            "there, or name another folder"
        )
    return [root / name for name in names]


class _Plain(pickle.Unpickler):
    """Reads arrays and plain data, and nothing that would run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _HARMLESS:
            return super().find_class(module, name)
        raise ValueError(f"it holds a {module}.{name}, which no data set needs")


def unpickled(path: Path) -> dict[bytes, Any]:
    """A batch of CIFAR. Raises ``ValueError`` for anything but arrays and plain data."""
    try:
        found: dict[bytes, Any] = _Plain(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError) as error:
        raise ValueError(f"folder: {path} cannot be read: {error}") from error
    return found


def idx(path: Path) -> np.ndarray:
    """An array of the MNIST family: two zero bytes, type, number of dimensions, these, and the values."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    kind, ndim = data[2], data[3]
    if data[:2] != b"\0\0" or kind not in _IDX_TYPES:
        raise ValueError(f"folder: {path} is no IDX file of bytes")
    shape = np.frombuffer(data, ">u4", ndim, 4).astype(int)
    values = np.frombuffer(data, _IDX_TYPES[kind], offset=4 + 4 * ndim)
    if values.size != np.prod(shape):
        raise ValueError(f"folder: {path} holds {values.size} values, and {list(shape)} are announced")
    return values.reshape(shape)


def channels_first(images: np.ndarray, what: str) -> np.ndarray:
    """Images ``[rows, channels, height, width]`` from ``[rows, height, width]`` or with channels last.

    Raises ``ValueError`` for other shapes and for values that are no bytes.
    """
    if images.dtype != np.uint8:
        raise ValueError(f"{what}: must hold bytes (uint8, 0 to 255), got {images.dtype}")
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise ValueError(
            f"{what}: must be [rows, height, width] or [rows, height, width, channels], got {images.shape}"
        )
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if images.shape[3] in (1, 3, 4) else images
