"""What failed in a run, in ``failures.jsonl``: one line per death of a segment, to be read long afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from plasticbench.append_log import append_log
from plasticbench.storage import Location
from plasticbench.visible import visible

_FILE = "failures.jsonl"
_FRAME = re.compile(r'^ *File "([^"]+)", line (\d+), in (.+)\n(?: +(?!File ")(\S.*)\n)?', re.MULTILINE)
_LIBRARY = re.compile(r"^<|/(?:site|dist)-packages/|/lib/python3[^/]*/")
_NUM_FRAMES = 3
_PACKAGE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """One death of a segment, which trains ``trials``; ``is_final`` if it was not tried again.

    ``step`` is in agent steps, ``None`` if unknown; ``time`` in seconds since the epoch; ``attempt`` counts from 1.
    ``is_alone``: its population went on without this one trial.
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
    is_alone: bool = False

    @property
    def reason(self) -> str:
        """One line: where and of what."""
        return f"{'' if self.step is None else f'at step {self.step:,}: '}{visible(' '.join(self.exception.split()))}"


def note_failure(run_dir: Location, failure: Failure) -> None:
    """Appends a failure durably, without secrets. One process at a time may do so. Raises ``OSError``."""
    log = append_log(run_dir / _FILE)
    length = log.length()
    if length == 0:
        log.cut(0)  # makes the file
    told = replace(failure, exception=visible(failure.exception), traceback=visible(failure.traceback))
    line = json.dumps(asdict(told), ensure_ascii=False).encode() + b"\n"
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


def last_failures(run_dir: Location, num_old: int = 0) -> dict[str, Failure]:
    """The newest final failure of each trial that has one; a resume may have completed the trial since.

    The first ``num_old`` failures do not count.
    """
    return {trial: failure for failure in failures(run_dir)[num_old:] if failure.is_final for trial in failure.trials}


def lost_trials(run_dir: Location) -> dict[str, str]:
    """Trials that failed alone, for which nothing is left to be done, and why."""
    return {trial: f.reason for f in failures(run_dir) if f.is_alone for trial in f.trials}


def failures_name(run_dir: Location) -> str:
    """Where they lie below the run directory: a file on a disk, a folder of parts in an object store."""
    return _FILE if isinstance(run_dir, Path) else _FILE.removesuffix(".jsonl") + "/"


def last_frames(traceback: str) -> list[str]:
    """The last lines of code that the user wrote, innermost last; of plasticbench where there are none of those."""
    frames = [frame for frame in _frames(traceback) if not _LIBRARY.search(frame.path)]
    own = [frame for frame in frames if not _is_ours(frame.path)]
    return [frame.text for frame in (own or frames)[-_NUM_FRAMES:]]


class _Frame(NamedTuple):
    path: str
    text: str


def _frames(traceback: str) -> Iterator[_Frame]:
    for path, line, name, code in _FRAME.findall(traceback):
        yield _Frame(path, f"{path}:{line}, in {name}" + (f": {code.strip()}" if code else ""))


def _is_ours(path: str) -> bool:
    """Whether this package has such a file: on other machines, and in jobs, it lies in another folder."""
    _, found, inside = path.rpartition("/plasticbench/")
    return bool(found) and (_PACKAGE / inside).exists()
