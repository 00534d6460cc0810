"""What went wrong in a worker, from what Ray hands on: the cause in words, and its traceback."""

from __future__ import annotations

import re
from typing import NamedTuple

from ray.exceptions import ActorDiedError, OutOfMemoryError, RayError, RaySystemError, RayTaskError

from plasticbench.envs._watch import Stuck

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_HEADER = re.compile(r"^ray::.*\(pid=.*\)$", re.MULTILINE)
_CARETS = re.compile(r"^ +[\^~]+\n", re.MULTILINE)
_EXIT = re.compile(r"Worker exit detail: (.+?)\.? Some common causes")
_PROCESS = re.compile(r"pid[=:] ?(\d+)[\s\S]*?\bip[=:] ?([\w.:]+)")


class PostMortem(NamedTuple):
    """Why a segment ended: the ``reason`` in one line, the ``traceback`` as Python prints it, and on which process.

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


def never_returned(task: str, stuck: Stuck, step: int | None) -> PostMortem:
    """Of a call of an environment that lasts longer than ``step_timeout_s``."""
    why = (
        f"{task}: an environment did not return from {stuck.call} within {stuck.seconds:.0f} s. If it is only that "
        "slow, raise step_timeout_s of the environment, or set it to null"
    )
    return PostMortem(why, stuck.stack, "ended by the driver", step)


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
        case ActorDiedError() if found := _EXIT.search(text):
            return f"its process died, of a kill, a crash of a library or a lack of memory. Ray says: {found[1]}"
        case ModuleNotFoundError():
            return f"{text}. The node lacks a plug-in, or a package of requirements.lock"
    return text
