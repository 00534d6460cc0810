"""What went wrong in a worker, from what Ray hands on: the cause in words, its traceback, and the lines that matter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ray.exceptions import OutOfMemoryError, RayError, RaySystemError, RayTaskError

import plasticbench

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_HEADER = re.compile(r"^ray::.*\(pid=.*\)$", re.MULTILINE)
_CARETS = re.compile(r"^ +[\^~]+\n", re.MULTILINE)
_PROCESS = re.compile(r"pid[=:] ?(\d+)[\s\S]*?\bip[=:] ?([\w.:]+)")
_FRAME = re.compile(r'^ *File "([^"]+)", line (\d+), in (.+)\n(?: +(?!File ")(\S.*)\n)?', re.MULTILINE)
_LIBRARY = re.compile(r"^<|/(?:site|dist)-packages/|/lib/python3[^/]*/")
_NUM_FRAMES = 3
_PACKAGE = Path(plasticbench.__file__).parent


class PostMortem(NamedTuple):
    """Why a segment ended: ``reason`` in one line, ``traceback`` as Python prints it, the ``worker``'s process and node.

    ``step`` is in agent steps, ``None`` if unknown.
    """

    reason: str
    traceback: str
    worker: str
    step: int | None = None


def post_mortem(error: RayError, step: int | None) -> PostMortem:
    """Of an error that Ray raised in place of a result."""
    text = _COLOUR.sub("", str(error))
    found = _PROCESS.search(text)
    worker = f"process {found[1]} on {found[2]}" if found else "unknown"
    if isinstance(error, RayTaskError):
        traceback = _CARETS.sub("", _HEADER.sub("Traceback (most recent call last):", text))
        return PostMortem(reason(cause(error)), traceback, worker, step)
    return PostMortem(reason(error), text, worker, step)


def cause(error: RayTaskError) -> Exception:
    """What went wrong in a worker, be it with what it did or with what it was sent."""
    inner = error.cause.client_exc if isinstance(error.cause, RaySystemError) else error.cause
    return inner if isinstance(inner, Exception) else error


def reason(error: Exception) -> str:
    """One line for people."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    match error:
        case OutOfMemoryError():
            return (
                f"its node ran short of memory, and Ray ended it. Lower execution.members_per_population or "
                f"agent.capacity_transitions, or give the node more memory. {text}"
            )
        case ModuleNotFoundError():
            return f"{text}. The node lacks a plug-in, or a package of requirements.lock"
    return text


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
