"""A file that only grows, on any storage: one file on a disk, immutable parts in an object store.

Parts are named by the bytes they hold, ``<first>-<end>.jsonl``. A reader walks from byte 0 and takes, wherever it
stands, the part that reaches farthest; so parts can be merged or cut by writing the new one and then deleting the old
ones, and a death in between changes nothing for readers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from upath import UPath

from plasticbench import storage
from plasticbench.storage import Location

_PART = re.compile(r"(\d{15})-(\d{15})\.jsonl")
_MAX_LISTINGS = 5


class AppendLog(Protocol):
    """Bytes that are appended in durable pieces."""

    def length(self) -> int:
        """Bytes that can be read; 0 where nothing was written yet."""

    def read(self, start: int, end: int | None) -> bytes:
        """The bytes ``[start, end)``. Raises ``FileNotFoundError`` if nothing was ever written."""

    def write(self, start: int, data: bytes) -> None:
        """Writes durably at ``start``, where the log ends after this; repeating a call that failed is safe."""

    def cut(self, length: int) -> None:
        """Forgets everything after the first ``length`` bytes."""

    def merge(self) -> None:
        """Bounds the number of objects that the log takes."""

    def remove(self) -> None:
        """Removes it."""


def append_log(path: Location) -> AppendLog:
    """The log at ``<name>.jsonl``, or in the folder ``<name>/`` of an object store."""
    return _FileLog(path) if isinstance(path, Path) else _PartsLog(path.with_name(path.name.removesuffix(".jsonl")))


class _FileLog:
    def __init__(self, path: Path) -> None:
        self._path = path

    def length(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def read(self, start: int, end: int | None) -> bytes:
        return storage.read(self._path, start, end)

    def write(self, start: int, data: bytes) -> None:
        try:
            with open(self._path, "r+b") as file:
                file.seek(start)
                file.write(data)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise storage.lacking(error, self._path, len(data)) from None

    def cut(self, length: int) -> None:
        if self._path.exists():
            os.truncate(self._path, length)
        else:
            storage.write_atomically(self._path, b"")  # a power cut must not take the new file's name

    def merge(self) -> None:
        """It is one file already."""

    def remove(self) -> None:
        storage.remove(self._path)


class _PartsLog:
    def __init__(self, folder: UPath) -> None:
        self._folder = folder

    def length(self) -> int:
        return self._walk()[-1]

    def read(self, start: int, end: int | None) -> bytes:
        for _ in range(_MAX_LISTINGS):
            try:
                return b"".join(self._pieces(start, end))
            except FileNotFoundError as error:
                missing = error  # merged since it was listed: what took its place is in the next listing
        raise missing

    def _pieces(self, start: int, end: int | None) -> Iterator[bytes]:
        ends = self._walk()
        if len(ends) == 1:
            raise FileNotFoundError(f"{self._folder}: holds no records")
        for first, last in pairwise(ends):
            low, high = max(first, start), last if end is None else min(last, end)
            if low < high:
                yield storage.read(self._part(first, last), low - first, high - first)

    def write(self, start: int, data: bytes) -> None:
        storage.write_atomically(self._part(start, start + len(data)), data)

    def cut(self, length: int) -> None:
        for first, last in self._parts():
            if last > length:
                if first < length:
                    self.write(first, storage.read(self._part(first, last), 0, length - first))
                storage.remove(self._part(first, last))

    def merge(self) -> None:
        parts, length = self._parts(), self.length()
        if len(parts) > 1:
            self.write(0, self.read(0, None))
            for part in set(parts) - {(0, length)}:
                storage.remove(self._part(*part))

    def remove(self) -> None:
        for part in self._parts():
            storage.remove(self._part(*part))

    def _walk(self) -> list[int]:
        """Where the parts that count begin and end: 0, the end of the first, the end of the second, ..."""
        reach: dict[int, int] = {}
        for first, last in self._parts():
            reach[first] = max(last, reach.get(first, 0))
        ends = [0]
        while ends[-1] in reach:
            ends.append(reach[ends[-1]])
        return ends

    def _parts(self) -> list[tuple[int, int]]:
        matches = map(_PART.fullmatch, storage.entries(self._folder))
        return [(int(match[1]), int(match[2])) for match in matches if match]

    def _part(self, first: int, last: int) -> UPath:
        return self._folder / f"{first:015d}-{last:015d}.jsonl"
