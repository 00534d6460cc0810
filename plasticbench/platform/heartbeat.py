"""What a driver says of its run while it goes on, in ``progress.json``: for people on other terminals and machines."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from plasticbench import storage
from plasticbench.failures import failures
from plasticbench.storage import Location

if TYPE_CHECKING:
    from plasticbench.platform.training.segment import Progress

State = Literal["training", "tracking", "complete", "failed", "interrupted"]

PERIOD_S = 5.0
_OBJECT_STORE_PERIOD_S = 15.0  # each one is a request
_NAME = "progress.json"
_UNCERTAIN_S = 3.0


class Pace:
    """Seconds that are left, by the speed since anything moved: starting up says nothing about training."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def seconds_left(self, member_steps_left: int) -> float | None:
        """``None`` until something can be said."""
        now = time.monotonic()
        if self._first is None or member_steps_left >= self._first[1]:
            self._first = (now, member_steps_left)
        done, seconds = self._first[1] - member_steps_left, now - self._first[0]
        return member_steps_left * seconds / done if done > 0 and seconds > _UNCERTAIN_S else None


def duration(seconds: float | None) -> str:
    """``1h05m`` or ``4m07s``, or a dash."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


class Heartbeat:
    """Writes ``progress.json`` every few seconds; a run goes on without it where it cannot be written."""

    def __init__(self, run_dir: Location) -> None:
        self._path = run_dir / _NAME
        self._period_s = PERIOD_S if isinstance(run_dir, Path) else _OBJECT_STORE_PERIOD_S
        self._pace = Pace()
        self._next_s = 0.0
        self._note: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "num_old_failures": len(failures(run_dir)),  # what failed before is tried again
        }

    def beat(self, running: Sequence[Progress], member_steps_left: int) -> None:
        """Tells where the running segments stand, if the last time is long enough ago."""
        seconds_left = self._pace.seconds_left(member_steps_left)
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + self._period_s
        shown = [{name: value for name, value in asdict(one).items() if name != "record_bytes"} for one in running]
        self._note |= {"seconds_left": seconds_left, "running": shown}
        self.say("training")

    def say(self, state: State) -> None:
        """Tells at once what the run has come to."""
        over: dict[str, Any] = {} if state == "training" else {"seconds_left": None, "running": []}
        self._note |= {"state": state, "time": time.time(), **over}
        try:
            storage.write_atomically(self._path, json.dumps(self._note).encode())
        except OSError:
            return  # a commit that cannot be written is what says so


def heartbeat(run_dir: Location) -> dict[str, Any] | None:
    """The newest note, ``None`` where a run has none."""
    try:
        note: dict[str, Any] = json.loads(storage.read(run_dir / _NAME))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return note
