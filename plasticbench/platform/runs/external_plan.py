"""The plan of a run that training loops outside the platform record: each recorder adds its trial to it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from plasticbench import __version__, storage
from plasticbench.platform.definition.names import MAX_NAME_CHARACTERS, slug
from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.platform.rundir import LOCKS, RunDirectory
from plasticbench.records import length_until, read_records
from plasticbench.storage import Location
from plasticbench.visible import is_control

_REGISTER_S = 60.0  # others that begin in the same directory at the same moment are waited for
_VERSIONS = ("torch", "numpy", "gymnasium", "stable-baselines3", "ray")
_EXTERNAL_SCORE = "Scores are {}. Recorded by a training loop of its own."


@dataclass(frozen=True, kw_only=True)
class ExternalTrial:
    """What a trial is, as a plan says it."""

    method: str
    task: str
    seed: int
    budget_steps: int
    agent: str
    settings: Mapping[str, Any]
    references: tuple[float, float] | None
    reset_steps: tuple[int, ...]
    change_steps: tuple[int, ...]

    def __post_init__(self) -> None:
        for name, text in {"method": self.method, "task": self.task}.items():
            if not isinstance(text, str) or any(map(is_control, text)) or not 0 < len(slug(text)) < MAX_NAME_CHARACTERS:
                raise ValueError(f"{name}: must be a name of one line with a letter or a digit, got {text!r}")
        for name, least in {"seed": 0, "budget_steps": 1}.items():
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise ValueError(f"{name}: must be a whole number of at least {least}, got {number!r}")
        if self.references is not None and not (
            len(self.references) == 2
            and all(map(math.isfinite, self.references))
            and self.references[0] != self.references[1]
        ):
            raise ValueError(f"references: must be two different returns, (low, high), got {self.references!r}")

    def entry(self) -> dict[str, Any]:
        """Its entry in ``plan.json``."""
        settings = {
            "environment": {"kind": "external", "task": self.task},
            "agent": {"kind": "external", **({"algorithm": self.agent} if self.agent else {})},
            "method": {"kind": self.method, **self.settings},
            "schedule": {"steps": list(self.reset_steps)} if self.reset_steps else {},
            "seed": self.seed,
            "budget_steps": self.budget_steps,
            "references": None if self.references is None else list(self.references),
        }
        try:
            text = json.dumps(settings, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"settings: must be plain text, numbers, lists or mappings: {error}") from None
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        low_high = (
            None if self.references is None else f"0 at a return of {self.references[0]:g}, 1 at {self.references[1]:g}"
        )
        return {
            "id": f"{slug(self.task)}--{slug(self.method)}--s{self.seed}--{digest}",
            "task": self.task,
            "method": self.method,
            "seed": self.seed,
            "reset_steps": list(self.reset_steps),
            "change_steps": list(self.change_steps),
            "score_source": _EXTERNAL_SCORE.format(low_high or "raw returns"),
            "settings": settings,
            **({} if self.references is not None else {"has_references": False}),
        }


@contextmanager
def alone(directory: RunDirectory) -> Iterator[None]:
    """While a trial is entered into the plan, which is done in a moment."""
    end = time.monotonic() + _REGISTER_S
    while True:
        lock = directory.lock()
        try:
            lock.__enter__()
            break
        except BenchmarkError:
            if time.monotonic() > end or (directory.plan_file.exists() and not directory.is_external):
                raise
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def plan_of(directory: RunDirectory, name: str | None, budget_steps: int) -> dict[str, Any]:
    """The plan that is there, or a new one. Raises ``ValueError`` where it is of something else."""
    if not directory.plan_file.exists():
        if storage.entries(directory.path).keys() - LOCKS:
            raise ValueError(f"out: {directory.path} is not empty and not a run directory. Choose another directory")
        installed = {"plasticbench": __version__, "python": platform.python_version()}
        for package in _VERSIONS:
            with suppress(metadata.PackageNotFoundError):
                installed[package] = metadata.version(package)
        return {
            "name": name or directory.path.name or "external",
            "description": "",
            "version": __version__,
            "versions": installed,
            "budget_steps": budget_steps,
            "tracked_probes": "totals",
            "trials": [],
            "segments": [],
            "external": True,
        }
    if not directory.is_external:
        raise ValueError(
            f"out: {directory.path} holds a run that the platform trains. Choose another directory: `plasticbench "
            "leaderboard` compares several"
        )
    plan: dict[str, Any] = json.loads(storage.read(directory.plan_file))
    if name not in (None, plan["name"]):
        raise ValueError(f"name: the run in {directory.path} is called {plan['name']!r}, got {name!r}")
    if plan["budget_steps"] != budget_steps:
        raise ValueError(
            f"budget_steps: the trials in {directory.path} have {plan['budget_steps']}, got {budget_steps}. Choose "
            "another directory"
        )
    return plan


def enter(directory: RunDirectory, plan: dict[str, Any], trial: Mapping[str, Any], from_step: int | None) -> int:
    """Puts the trial into the plan; returns how many bytes of its records are kept."""
    for known in plan["trials"]:
        if known["id"] == trial["id"] and from_step is not None:
            return length_until(directory.record_file(trial["id"]), from_step)
        same = all(known[part] == trial[part] for part in ("task", "method"))
        if same and known["seed"] == trial["seed"]:
            raise ValueError(_taken(directory, known, trial))
        if same and {**known["settings"], "seed": 0} != {**trial["settings"], "seed": 0}:
            raise ValueError(
                f"settings: {trial['method']!r} on {trial['task']!r} was recorded with others in {directory.path} "
                f"({known['id']}). Give it another name"
            )
    if from_step is not None:
        raise ValueError(f"from_step: {directory.path} has no trial {trial['id']} to go on with")
    plan["trials"].append(trial)
    storage.write_atomically(directory.plan_file, (json.dumps(plan, indent=1) + "\n").encode())
    return 0


def _taken(directory: RunDirectory, known: Mapping[str, Any], trial: Mapping[str, Any]) -> str:
    file = directory.record_file(known["id"])
    with suppress(FileNotFoundError):
        last = max((record.step for record in read_records(file)), default=0)
        if known["id"] == trial["id"]:
            return (
                f"{known['id']}: this trial is in {directory.path} already, recorded up to step {last:,}. Choose "
                "another seed or directory; after a crash, from_step=, the step of your own checkpoint, goes on"
            )
    return (
        f"{known['id']}: this method, task and seed are in {directory.path} already. Choose another seed or directory"
    )


def hold(file: Location) -> IO[bytes] | None:
    """Keeps a second recorder of the same trial out. Nothing can be held in an object store."""
    if not isinstance(file, Path):
        return None
    file.parent.mkdir(parents=True, exist_ok=True)
    held = open(file, "ab")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        raise ValueError(f"{file}: another recorder writes this trial now. Close it, or choose another seed") from None
    return held
