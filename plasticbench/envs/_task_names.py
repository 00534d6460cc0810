"""Which task a wrong name most likely means: other libraries call the same tasks by other names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from plasticbench.settings import OneOf

_ATARI_VARIANTS = re.compile(r"(-ram)?(NoFrameskip|Deterministic)?$")
_VERSION = re.compile(r"[-_]v\d+$")
_SHORTEST_BEGINNING = 4


def _plain(name: str) -> str:
    """``ALE/Pong-v5``, ``PongNoFrameskip-v4`` and ``pong`` are all ``pong``; ``cheetah-run`` is ``cheetahrun``."""
    bare = _ATARI_VARIANTS.sub("", _VERSION.sub("", re.split(r"[/:]", name)[-1]))
    return re.sub(r"[^a-z0-9]", "", bare.lower())


def nearest(task: str, known: Iterable[str]) -> str | None:
    """The known name that ``task`` means if namespaces, versions and separators count for nothing, or a similar one."""
    by_plain = {_plain(name): name for name in sorted(known)}  # of several versions the last
    wanted = _plain(task)
    if wanted in by_plain:
        return by_plain[wanted]
    beginnings = [plain for plain in by_plain if len(wanted) >= _SHORTEST_BEGINNING and plain.startswith(wanted)]
    near = sorted(beginnings, key=len)[:1] or difflib.get_close_matches(wanted, by_plain, n=1)
    return by_plain[near[0]] if near else None


class TaskOf(OneOf):
    """``OneOf`` for names of tasks."""

    __slots__ = ()

    def problem(self, value: str) -> str | None:
        """What is wrong with ``value``."""
        if value in self.names:
            return None
        if (near := nearest(value, self.names)) is None:
            return f"must be one of {', '.join(self.names)}, got {value!r}"
        return f"must be one of {len(self.names)} known names, got {value!r}. Did you mean {near!r}?"
