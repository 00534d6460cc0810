"""What failed in a run, in ``failures.jsonl``: one line per death of a segment, to be read long afterwards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from plasticbench.append_log import append_log
from plasticbench.storage import Location

_FILE = "failures.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """One death of a segment, which trains ``trials``; ``is_final`` if it was not tried again.

    ``step`` is in agent steps, ``None`` if unknown; ``time`` in seconds since the epoch; ``attempt`` counts from 1.
    """

    segment: str
    trials: Sequence[str]
    step: int | None
    time: float
    exception: str
    traceback: str
    worker: str
    attempt: int
    is_final: bool

    @property
    def reason(self) -> str:
        """One line: where and of what."""
        return f"{'' if self.step is None else f'at step {self.step:,}: '}{' '.join(self.exception.split())}"


def note_failure(run_dir: Location, failure: Failure) -> None:
    """Appends a failure durably. One process at a time may do so. Raises ``OSError``."""
    log = append_log(run_dir / _FILE)
    length = log.length()
    if length == 0:
        log.cut(0)  # makes the file
    line = json.dumps(asdict(failure), ensure_ascii=False).encode() + b"\n"
    is_torn = length > 0 and log.read(length - 1, length) != b"\n"
    log.write(length, b"\n" + line if is_torn else line)


def failures(run_dir: Location) -> list[Failure]:
    """All failures in the order of their times; a line that a power cut tore is left out."""
    try:
        lines = append_log(run_dir / _FILE).read(0, None).decode(errors="replace").split("\n")
    except FileNotFoundError:
        return []
    return [failure for line in lines if (failure := _parsed(line)) is not None]


def _parsed(line: str) -> Failure | None:
    try:
        return Failure(**json.loads(line))
    except (ValueError, TypeError):
        return None


def last_failures(run_dir: Location) -> dict[str, Failure]:
    """The newest final failure of each trial that has one; a resume may have completed the trial since."""
    return {trial: failure for failure in failures(run_dir) if failure.is_final for trial in failure.trials}


def failures_name(run_dir: Location) -> str:
    """Where they lie below the run directory: a file on a disk, a folder of parts in an object store."""
    return _FILE if isinstance(run_dir, Path) else _FILE.removesuffix(".jsonl") + "/"
