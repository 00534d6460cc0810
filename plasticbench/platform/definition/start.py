"""Weights that another run has stored, for trials to begin with: which, and a hash of what they are.

Read without PyTorch, from the plan, the manifests and the tensor files of that run.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from plasticbench import storage
from plasticbench.platform.definition.parsing import Problems, read_section
from plasticbench.plugins import did_you_mean
from plasticbench.settings import Settings

_AGENTS = ("dqn", "sac")
"""Whose state is tensors by name, members first; RLlib's is its own."""
_WEIGHTS = re.compile(r"[^/]+/(online|target)/.*|temperature/log_alpha|observations/.*")
_OPTIMIZER = re.compile(
    r"[^/]+/(?!online/|target/|original/|treatment/)[^/]+/.*|[^/]+/adam_steps|temperature/exp_avg(_sq)?"
)
_MANIFEST = re.compile(r"commit-\d+\.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Start(Settings):
    """The networks of ``trial`` of the run directory ``run`` as they were committed at ``step``, by default its last.

    Targets, the temperature and observation statistics come along, the ``optimizer`` where it is ``stored``; the replay
    begins empty, and chance comes from the new trial's own seed. ``content`` is a hash of all that is taken, in place
    of ``run`` in the trial's id.
    """

    trial: str
    step: int | None = None
    optimizer: Literal["fresh", "stored"] = "fresh"
    content: str = ""
    run: str = field(default="", compare=False)

    def settings(self) -> dict[str, Any]:
        """Plain data of what is taken, not of where it lies."""
        return {"trial": self.trial, "step": self.step, "optimizer": self.optimizer, "content": self.content}

    def takes(self, name: str) -> bool:
        """Whether a tensor of an agent's state is taken."""
        is_optimizer = self.optimizer == "stored" and _OPTIMIZER.fullmatch(name) is not None
        return is_optimizer or _WEIGHTS.fullmatch(name) is not None


def read_start(data: Any, kind: str, key: str, problems: Problems) -> Start | None:
    """A start with its step and content; ``None`` where problems were noted. Reads the other run."""
    given = read_section(Start, data, key, problems)
    if given is None:
        return None
    if kind not in _AGENTS:
        problems.add(key, f"only agents of kind {' or '.join(_AGENTS)} can begin from stored weights, got {kind!r}")
        return None
    if not given.run:
        if not given.content:
            problems.add(f"{key}.run", "is missing and has no default")
            return None
        return given
    try:
        step, tensors = stored(given)
    except (ValueError, OSError) as error:
        problems.add(key, str(error))
        return None
    content = content_of(tensors)
    if given.content not in ("", content):
        problems.add(f"{key}.content", f"is not what {given.run} holds, {content}, got {given.content}")
        return None
    return Start(trial=given.trial, step=step, optimizer=given.optimizer, content=content, run=given.run)


def content_of(tensors: Mapping[str, np.ndarray]) -> str:
    """A hash of names, shapes and values."""
    digest = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]


def stored(start: Start) -> tuple[int, dict[str, np.ndarray]]:
    """The step and what is taken of the trial's member. Raises ``ValueError`` that says what there is instead."""
    import safetensors.numpy

    place = storage.connect(start.run)
    commits = sorted(_commits(place, start.trial), key=lambda commit: commit[0])
    steps = sorted({step for step, _, _ in commits})
    if not steps:
        raise ValueError(f"trial: {start.run} holds no stored weights of {start.trial} (`clean` may have removed them)")
    wanted = steps[-1] if start.step is None else start.step
    if wanted not in steps:
        raise ValueError(f"step: {start.trial} is stored at {', '.join(map(str, steps))}, got {start.step}")
    _, file, row = next(commit for commit in commits if commit[0] == wanted)
    data = storage.read(place / "checkpoints" / file["path"])
    if zlib.crc32(data) != file["crc32"]:
        raise ValueError(f"run: {place / 'checkpoints' / file['path']} is damaged")
    loaded = safetensors.numpy.load(data)
    return wanted, {name: np.array(values[row]) for name, values in loaded.items() if start.takes(name)}


def _commits(place: storage.Location, trial: str) -> Iterator[tuple[int, Mapping[str, Any], int]]:
    """Step, tensor file and member of each commit of a trial whose tensors are there."""
    try:
        plan = json.loads(storage.read(place / "plan.json"))
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"run: {place} is not a run directory (it has no plan.json)") from None
    if trial not in (known := [one["id"] for one in plan["trials"]]):
        raise ValueError(f"trial: {place} has no trial {trial!r}. {did_you_mean(trial, known)}")
    for segment in plan["segments"]:
        rows = [row for row, member in enumerate(segment["members"]) if trial in member["trials"]]
        names = storage.entries(place / "checkpoints" / segment["id"]) if rows else {}
        for name in filter(_MANIFEST.fullmatch, names):
            commit = json.loads(storage.read(place / "checkpoints" / segment["id"] / name))
            if commit["tensors"]["path"].rpartition("/")[2] in names:
                yield commit["step"], commit["tensors"], rows[0]
