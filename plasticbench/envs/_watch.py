"""Which call of an environment is under way in this process, so that another thread can tell one that never returns.

Nothing is waited for and no thread is switched: a look costs well below a microsecond, beside EnvPool as anywhere.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from typing import NamedTuple, Self


class Stuck(NamedTuple):
    """A call that has lasted longer than it may: how long, what it is called, and the stack of where it sits."""

    call: str
    seconds: float
    stack: str


class Watch:
    """Calls of environments, the innermost last; for one training thread and any that look on."""

    def __init__(self) -> None:
        self._calls: list[tuple[str, float, int]] = []

    def __call__(self, call: str) -> Self:
        """``with watch("step"):`` around a call."""
        self._calls.append((call, time.monotonic(), threading.get_ident()))
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._calls.pop()

    def stuck(self, timeout_s: float | None) -> Stuck | None:
        """The call that is under way, if it has lasted longer than ``timeout_s``."""
        if timeout_s is None or not (calls := self._calls[-1:]):
            return None
        call, since_s, thread = calls[0]
        seconds = time.monotonic() - since_s
        if seconds <= timeout_s or (frame := sys._current_frames().get(thread)) is None:
            return None
        stack = "".join(["Traceback (most recent call last):\n", *traceback.format_stack(frame)])
        return Stuck(call, seconds, stack) if calls == self._calls[-1:] else None


watch = Watch()
"""Of this process, which trains one population at a time."""
