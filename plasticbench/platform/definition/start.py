"""Weights that another run has stored, for trials to begin with: which, and a hash of what they are.

Read without PyTorch, from the plan, the manifests and the tensor files of that run.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from plasticbench import storage
from plasticbench.platform.definition.parsing import BenchmarkError, Problems, read_section
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

    Targets, the temperature and observation statistics come along, the ``optimizer`` and the ``replay`` where they are
    ``stored``; chance comes from the new trial's own seed. ``content`` is a hash of all that is taken, in place of
    ``run`` in the trial's id.
    """

    trial: str
    step: int | None = None
    optimizer: Literal["fresh", "stored"] = "fresh"
    replay: Literal["empty", "stored"] = "empty"
    content: str | None = None
    run: str | None = field(default=None, compare=False)

    def settings(self) -> dict[str, Any]:
        """Plain data of what is taken, not of where it lies."""
        return {name: value for name, value in asdict(self).items() if name != "run"}

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
        found = stored(given)
    except (ValueError, OSError) as error:
        problems.add(key, str(error))
        return None
    content = found.content
    if given.content not in (None, content):
        problems.add(f"{key}.content", f"is not what {given.run} holds, {content}, got {given.content}")
        return None
    return replace(given, step=found.step, content=content)


class Stored(NamedTuple):
    """What is taken of one member: tensors by name, and of a replay that is taken its meta data and pieces."""

    step: int
    tensors: dict[str, np.ndarray]
    replay: Mapping[str, Any] | None
    pieces: tuple[Piece, ...]

    @property
    def content(self) -> str:
        """A hash of names, shapes and values; of a replay, whose size may be gigabytes, by its checksums."""
        digest = hashlib.sha256()
        for name, values in sorted(self.tensors.items()):
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            digest.update(values.tobytes())
        if self.replay is not None:
            facts = [[piece.first_row, piece.crc32, piece.row] for piece in self.pieces]
            digest.update(json.dumps([self.replay, facts], sort_keys=True).encode())
        return digest.hexdigest()[:16]


class Piece(NamedTuple):
    """Consecutive rows of a replay: a file of several members, of which ``row`` is the one."""

    first_row: int
    path: storage.Location
    crc32: int
    row: int

    def tensors(self) -> dict[str, np.ndarray]:
        """``[1, ...]``. Raises ``ValueError`` for a damaged file."""
        return {name: values[[self.row]] for name, values in _loaded(self.path, self.crc32).items()}


def _loaded(path: storage.Location, crc32: int) -> dict[str, np.ndarray]:
    import safetensors.numpy

    data = storage.read(path)
    if zlib.crc32(data) != crc32:
        raise ValueError(f"run: {path} is damaged")
    loaded: dict[str, np.ndarray] = safetensors.numpy.load(data)
    return loaded


def stored(start: Start) -> Stored:
    """What the other run holds. Raises ``ValueError`` that says what there is instead."""
    place = storage.connect(start.run or "")
    commits = sorted(_commits(place, start.trial), key=lambda commit: int(commit[0]["step"]))
    steps = sorted({commit["step"] for commit, _ in commits})
    if not steps:
        raise ValueError(f"trial: {start.run} holds no stored weights of {start.trial} (`clean` may have removed them)")
    wanted = steps[-1] if start.step is None else start.step
    if wanted not in steps:
        raise ValueError(f"step: {start.trial} is stored at {', '.join(map(str, steps))}, got {start.step}")
    commit, row = next((commit, row) for commit, row in commits if commit["step"] == wanted)
    folder, file = place / "checkpoints", commit["tensors"]
    loaded = _loaded(folder / file["path"], file["crc32"])
    tensors = {name: np.array(values[row]) for name, values in loaded.items() if start.takes(name)}
    if start.replay == "empty":
        return Stored(wanted, tensors, None, ())
    pieces = [
        Piece(chunk["first_row"], folder / chunk["file"]["path"], chunk["file"]["crc32"], chunk["parents"][row])
        for chunk in commit["chunks"]
    ]
    meta = commit["plain"]["replay"]
    replay = {name: [value[row]] if isinstance(value, list) else value for name, value in meta.items()}
    return Stored(wanted, tensors, replay, tuple(pieces))


def keep(start: Start, folder: storage.Location) -> None:
    """Copies what is taken into the folder of a run, which then needs no other: ``<content>.safetensors``.

    Of a replay also ``<content>-<index>.safetensors`` and, with its meta data, ``<content>.json``. What is there stays.
    Raises ``BenchmarkError`` where it is neither there nor said where it lies.
    """
    import safetensors.numpy

    file = folder / f"{start.content}.safetensors"
    if file.exists():
        return
    if not start.run:
        raise BenchmarkError(f"agent.start.run: is missing, and {folder} does not hold {start.content}")
    found = stored(start)
    for index, piece in enumerate(found.pieces):
        data = safetensors.numpy.save(piece.tensors())
        storage.write_atomically(folder / f"{start.content}-{index}.safetensors", data)
    if found.replay is not None:
        note = {"meta": found.replay, "first_rows": [piece.first_row for piece in found.pieces]}
        storage.write_atomically(folder / f"{start.content}.json", json.dumps(note).encode())
    storage.write_atomically(file, safetensors.numpy.save(found.tensors))  # the last, as it says that all are there


def _commits(place: storage.Location, trial: str) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Manifest and member of each commit of a trial whose tensors are there."""
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
                yield commit, rows[0]
