"""States of environments that are no arrays, as rows of bytes: ``[N, L]`` uint8, one row for each environment.

A row is the length of its bytes, the bytes, and zeros up to the longest, so rows can be chosen, repeated and widened.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

_LENGTH_BYTES = 4


def packed(rows: Sequence[bytes]) -> np.ndarray:
    """``[N, L]`` uint8."""
    found = np.zeros((len(rows), _LENGTH_BYTES + max(map(len, rows), default=0)), np.uint8)
    for into, row in zip(found, rows, strict=True):
        whole = len(row).to_bytes(_LENGTH_BYTES, "little") + row
        into[: len(whole)] = np.frombuffer(whole, np.uint8)
    return found


def unpacked(rows: np.ndarray) -> list[bytes]:
    """Inverse of ``packed``."""
    return [
        row[_LENGTH_BYTES : _LENGTH_BYTES + int.from_bytes(row[:_LENGTH_BYTES].tobytes(), "little")].tobytes()
        for row in rows
    ]


def packed_plain(values: Sequence[Any]) -> np.ndarray:
    """Plain data as JSON, ``[N, L]`` uint8."""
    return packed([json.dumps(value, separators=(",", ":")).encode() for value in values])


def unpacked_plain(rows: np.ndarray) -> list[Any]:
    """Inverse of ``packed_plain``."""
    return [json.loads(row) for row in unpacked(rows)]


def packed_generators(generators: Sequence[np.random.Generator]) -> np.ndarray:
    """Where generators stand, ``[N, L]`` uint8."""
    return packed_plain([generator.bit_generator.state for generator in generators])


def restore_generators(generators: Sequence[np.random.Generator], rows: np.ndarray) -> None:
    """Puts generators of the same kind where ``packed_generators`` found theirs."""
    for generator, state in zip(generators, unpacked_plain(rows), strict=True):
        generator.bit_generator.state = state


def joined(parts: Sequence[np.ndarray | None], rows: int) -> np.ndarray:
    """Arrays of ``rows`` rows each, one after the other; narrower rows of bytes are widened, ``None`` becomes zeros."""
    given = [part for part in parts if part is not None]
    shape = np.max([part.shape[1:] for part in given], axis=0, initial=0).astype(int)
    whole = np.zeros((len(parts), rows, *shape), given[0].dtype)
    for into, part in zip(whole, parts, strict=True):
        if part is not None:
            into[(slice(None), *map(slice, part.shape[1:]))] = part
    return whole.reshape(-1, *shape)
