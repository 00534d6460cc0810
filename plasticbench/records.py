"""One measured fact per line: the only result format. Record files are the truth; MLflow is their mirror."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple


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
    """Appends records of one trial and knows the length that the next commit must name."""

    def __init__(self, path: Path, committed_bytes: int) -> None:
        """Opens ``path`` and cuts it back to ``committed_bytes``, so that a resumed trial has each record once."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab")
        size = self._file.tell()
        if size < committed_bytes:
            self._file.close()
            raise ValueError(f"{path}: holds {size} bytes, but the checkpoint was committed with {committed_bytes}")
        self._file.truncate(committed_bytes)

    def write(self, records: Iterable[Record]) -> None:
        """Appends to the file's buffer."""
        self._file.write(b"".join(record.to_json().encode() + b"\n" for record in records))

    def sync(self) -> int:
        """Forces everything to disk and returns the file's length in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_records(path: Path, start: int = 0, end: int | None = None) -> Iterator[Record]:
    """Records between two byte offsets of a file; a last line without its end is left out.

    Raises ``ValueError`` naming file and line for anything else that is not a record.
    """
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read() if end is None else file.read(max(0, end - start))
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            yield Record.from_json(line.decode())
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: line {number} after byte {start} is not a record: {error!r}") from error
