"""Past actions of a segment's environments: a file that grows at each commit by what is new.

Its name holds the step of the first action. Environments that start anew begin another one, so the bytes that a commit
names are never written again.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from plasticbench.append_log import append_log
from plasticbench.storage import Location

if TYPE_CHECKING:
    import numpy as np

_PREFIX = "actions-"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredActions:
    """The first ``num_bytes`` of a file below the checkpoints folder, and their CRC-32: rows of ``shape`` each."""

    path: str
    num_bytes: int
    crc32: int
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> StoredActions | None:
        """What a manifest holds; those of earlier versions hold nothing."""
        return None if data is None else cls(**{**data, "shape": tuple(data["shape"])})


class ActionJournal:
    """The journal of one segment in one process."""

    def __init__(self, folder: Location, segment: str) -> None:
        self._folder, self._segment = folder, segment
        self._stored: StoredActions | None = None

    def go_on(self, stored: StoredActions | None) -> None:
        """What was written after a commit is forgotten when more is saved. Another segment's file stays as it is."""
        if stored is not None and stored.path.startswith(f"{self._segment}/"):
            append_log(self._folder / stored.path).cut(stored.num_bytes)
            self._stored = stored

    def save(self, first_step: int, actions: np.ndarray) -> StoredActions | None:
        """Appends what is new of ``actions`` [T, ...], the first of which was taken at ``first_step``."""
        if not len(actions):
            return None
        path = f"{self._segment}/{_PREFIX}{first_step:012d}"
        log = append_log(self._folder / path)
        if self._stored is None or self._stored.path != path:
            log.cut(0)
            self._stored = StoredActions(
                path=path, num_bytes=0, crc32=0, dtype=str(actions.dtype), shape=actions.shape[1:]
            )
        saved = self._stored
        data = actions[saved.num_bytes // actions[0].nbytes :].tobytes()
        if data:
            log.write(saved.num_bytes, data)
            crc32 = zlib.crc32(data, saved.crc32)
            self._stored = replace(saved, num_bytes=saved.num_bytes + len(data), crc32=crc32)
        return self._stored


def load_actions(folder: Location, stored: StoredActions) -> np.ndarray:
    """Actions ``[T, ...]``. Raises ``ValueError`` that names the file where it does not hold what was committed."""
    import numpy as np  # which those who only ask what is there do without

    data = append_log(folder / stored.path).read(0, stored.num_bytes)
    if len(data) != stored.num_bytes or zlib.crc32(data) != stored.crc32:
        raise ValueError(f"{folder / stored.path}: damaged: its checksum differs from the one in its manifest")
    row_bytes = np.dtype(stored.dtype).itemsize * prod(stored.shape)
    return np.frombuffer(bytearray(data), stored.dtype).reshape(stored.num_bytes // row_bytes, *stored.shape)


def require_actions(folder: Location, stored: StoredActions) -> None:
    """Raises ``ValueError`` for a file that is too short; reads nothing."""
    if (found := append_log(folder / stored.path).length()) < stored.num_bytes:
        raise ValueError(f"{folder / stored.path}: has {found} bytes instead of {stored.num_bytes}")


def remove_actions(folder: Location, segment: str, names: Iterable[str], needed: Iterable[str] = ()) -> None:
    """Removes the journals among the ``names`` of a segment's files that no commit needs."""
    kept = set(needed)
    for name in names:
        if name.startswith(_PREFIX) and f"{segment}/{name}" not in kept:
            append_log(folder / segment / name).remove()


def is_journal(name: str) -> bool:
    """Whether a file, by its name alone, holds actions."""
    return name.startswith(_PREFIX)
