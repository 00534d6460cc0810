"""One measured fact per line: the only result format. Record files are the truth; MLflow is their mirror."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from plasticbench.append_log import append_log
from plasticbench.storage import Location

_TAIL_BYTES = 4096  # more than a line has


@lru_cache(maxsize=65_536)
def _quoted(text: str) -> str:
    return json.dumps(text)


class Record(NamedTuple):
    """A named value of one trial at one agent step; ``time`` is seconds since the epoch."""

    trial: str
    step: int
    name: str
    value: float
    time: float

    def to_json(self) -> str:
        """One JSON line; not-a-number becomes null, infinities become the strings ``inf`` and ``-inf``."""
        value = repr(float(self.value))
        if math.isnan(self.value):
            value = "null"
        elif math.isinf(self.value):
            value = f'"{value}"'
        # Put together by hand: json.dumps takes five times as long, and a run writes hundreds of thousands of these.
        trial, name = _quoted(self.trial), _quoted(self.name)
        return f'{{"trial":{trial},"step":{self.step},"name":{name},"value":{value},"time":{float(self.time)!r}}}'

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Inverse of ``to_json``."""
        fields = json.loads(line)
        value = math.nan if fields["value"] is None else float(fields["value"])
        return cls(fields["trial"], int(fields["step"]), fields["name"], value, float(fields["time"]))


def is_layer_value(name: str) -> bool:
    """Whether a record holds a probe's value of a single layer, as in ``plasticity/online/dormant_ratio/fc1``."""
    depth = {"plasticity": 3, "reset": 4}.get(name.partition("/")[0])
    return depth is not None and name.count("/") >= depth


class RecordWriter:
    """Collects records of one trial and, at each commit, makes them durable and says how long they are now."""

    def __init__(self, path: Location, committed_bytes: int, *, committed_crc32: int | None = None) -> None:
        """Cuts what lies at ``path`` back to ``committed_bytes``, so that a resumed trial has each record once.

        What is kept is read for its checksum where that is not given.
        """
        self._log = append_log(path)
        size = self._log.length()
        if size < committed_bytes:
            raise ValueError(
                f"{path}: holds {size} bytes, but the checkpoint was committed with {committed_bytes}. "
                "`plasticbench resume --repair` goes back to where they agree"
            )
        self._log.cut(committed_bytes)
        if committed_crc32 is None:
            committed_crc32 = zlib.crc32(self._log.read(0, committed_bytes)) if committed_bytes else 0
        self.crc32 = committed_crc32
        """Of what is durable."""
        self._length = committed_bytes
        self._pending: list[bytes] = []

    def write(self, records: Iterable[Record]) -> None:
        """Keeps records in memory until ``sync``."""
        self._pending += [record.to_json().encode() + b"\n" for record in records]

    @property
    def num_pending(self) -> int:
        """Records that were written and are in memory alone."""
        return len(self._pending)

    def sync(self, count: int | None = None) -> int:
        """Forces the first ``count`` pending records, or all, to the storage; returns the length in bytes.

        Others may be written meanwhile, in another thread. After an ``OSError`` it can be repeated.
        """
        pending = self._pending[:count]
        if pending:
            data = b"".join(pending)
            self._log.write(self._length, data)
            self._length += len(data)
            self.crc32 = zlib.crc32(data, self.crc32)
            del self._pending[: len(pending)]
        return self._length

    def close(self) -> None:
        """Ends the writing; what was not synced is dropped."""
        self._pending = []
        self._log.merge()


def read_records(path: Location, start: int = 0, end: int | None = None) -> Iterator[Record]:
    """Records between two byte offsets of a trial; a last line without its end is left out.

    Raises ``ValueError`` naming file and line for anything else that is not a record.
    """
    data = read_bytes(path, start, end)
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            yield Record.from_json(line.decode())
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: line {number} after byte {start} is not a record: {error!r}") from error


def record_length(path: Location) -> int:
    """Bytes of a trial's records, committed or not; 0 for a trial that never wrote."""
    return append_log(path).length()


def read_bytes(path: Location, start: int = 0, end: int | None = None) -> bytes:
    """What ``read_records`` parses. Raises ``FileNotFoundError`` for a trial that never wrote."""
    return append_log(path).read(start, end)


def length_until(path: Location, step: int) -> int:
    """Bytes of a trial's records up to and including ``step``, where steps never go back; 0 without any."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        return 0
    length = 0
    for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        if Record.from_json(line.decode()).step > step:
            break
        length += len(line)
    return length


def last_step(path: Location) -> int:
    """The step of a trial's newest record; 0 without any."""
    end = record_length(path)
    data = read_bytes(path, max(0, end - _TAIL_BYTES), end) if end else b""
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    return Record.from_json(lines[-1].decode()).step if lines else 0
