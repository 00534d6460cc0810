"""Where a run stands, from its directory alone: also while a driver is at work, here or on another machine."""

from __future__ import annotations

import json
import shlex
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

from plasticbench import storage
from plasticbench.failures import Failure, failures_name, last_failures, last_frames
from plasticbench.platform.heartbeat import PERIOD_S, duration, heartbeat
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.checkpoint import CheckpointStore, Commit
from plasticbench.records import last_step, record_length
from plasticbench.storage import location

TrialState = Literal["done", "running", "failed", "waiting"]
RunState = Literal["running", "complete", "failed", "stopped"]

_IO_THREADS = 16
_MAX_SHOWN = 20
_WATCH_S = 2 * PERIOD_S


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialStatus:
    """One trial: how many of its agent steps are committed, or known to be trained; ``reason`` why it failed."""

    id: str
    task: str
    method: str
    seed: int
    state: TrialState
    step: int
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """A run. ``driver`` is the last note of the process that trains it, ``None`` if none is at work.

    ``seconds_left`` is ``None`` where nothing trains or nothing can be said yet.
    """

    name: str
    run_dir: str
    state: RunState
    budget_steps: int
    seconds_left: float | None
    driver: Mapping[str, Any] | None
    trials: tuple[TrialStatus, ...]
    failures: tuple[Failure, ...]
    is_external: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """Trials by their state."""
        found = Counter(trial.state for trial in self.trials)
        return {state: found[state] for state in ("done", "running", "failed", "waiting")}


def status(directory: RunDirectory) -> Status:
    """Looks at plan, commits, failures and the driver's last note. Raises ``BenchmarkError`` where there is no run."""
    directory.require()
    plan = json.loads(storage.read(directory.plan_file))
    driver = _driver(directory)
    failed = last_failures(directory.path, 0 if driver is None else driver["num_old_failures"])
    reached = _reached(directory, plan, driver)
    trials = tuple(_trial(trial, reached[trial["id"]], failed.get(trial["id"])) for trial in plan["trials"])
    causes = [failed[trial.id] for trial in trials if trial.state == "failed" and not reached[trial.id].damage]
    shown = {(cause.segment, *cause.trials): cause for cause in causes}
    return Status(
        name=plan["name"],
        run_dir=str(directory.path),
        state=_state(trials, driver is not None),
        budget_steps=plan["budget_steps"],
        seconds_left=None if driver is None else driver.get("seconds_left"),
        driver=driver,
        trials=trials,
        failures=tuple(shown.values()),
        is_external=bool(plan.get("external")),
    )


def _driver(directory: RunDirectory) -> dict[str, Any] | None:
    """The note of the driver that is at work. Locks of other machines cannot always be seen; their notes can."""
    note = heartbeat(directory.path)
    if directory.is_driven():
        return note or {"num_old_failures": 0}
    if note is None or note["host"] == socket.gethostname() or note["state"] not in ("training", "tracking"):
        return None
    end = time.monotonic() + _WATCH_S
    while time.monotonic() < end:
        time.sleep(_WATCH_S / 10)
        if (now := heartbeat(directory.path)) is not None and now != note:
            return now
    return None


@dataclass(slots=True)
class _Reached:
    step: int = 0
    is_done: bool = False
    is_running: bool = False
    damage: str = ""


def _reached(directory: RunDirectory, plan: Mapping[str, Any], driver: Mapping[str, Any] | None) -> dict[str, _Reached]:
    """By trial: from the newest commits, and beyond them from what a driver tells."""
    store, segments = CheckpointStore(directory.checkpoints), plan["segments"]
    running = {} if driver is None else {one["segment"]: one["step"] for one in driver.get("running", ())}
    with ThreadPoolExecutor(_IO_THREADS) as pool:
        commits = list(pool.map(lambda segment: store.newest(segment["id"]), segments))
    found = {trial["id"]: _Reached() for trial in plan["trials"]}
    for trial, one in found.items() if plan.get("external") else ():
        one.step = last_step(directory.record_file(trial))
        one.is_done = one.step >= plan["budget_steps"]
    for segment, commit in zip(segments, commits, strict=True):
        name, is_complete = segment["id"], commit is not None and commit.complete
        step = max(running.get(name, 0), 0 if commit is None else commit.step)
        for trial in found.keys() & {trial for member in segment["members"] for trial in member["trials"]}:
            one = found[trial]
            one.step = max(one.step, step)
            one.is_done |= is_complete and segment["to_step"] == plan["budget_steps"]
            one.is_running |= name in running and not is_complete
    for trial, damage in _damages(directory, commits).items() if driver is None else ():
        if trial in found:
            found[trial].damage = damage
    return found


def _damages(directory: RunDirectory, commits: Sequence[Commit | None]) -> dict[str, str]:
    """By trial, of record files that are shorter than what was committed; only a resume reads what they hold."""
    committed: dict[str, int] = {}
    for commit in filter(None, commits):
        for trial, length in commit.record_bytes.items():
            committed[trial] = max(committed.get(trial, 0), length)
    with ThreadPoolExecutor(_IO_THREADS) as pool:
        lengths = pool.map(lambda trial: record_length(directory.record_file(trial)), committed)
        return {
            trial: f"its record file holds {length:,} bytes, and {committed[trial]:,} were committed"
            for trial, length in zip(committed, lengths, strict=True)
            if length < committed[trial]
        }


def _trial(trial: Mapping[str, Any], reached: _Reached, failure: Failure | None) -> TrialStatus:
    state: TrialState = "waiting"
    if reached.damage:
        state = "failed"
    elif failure is not None and failure.is_alone:  # its population went on to the end without it
        state = "failed"
    elif reached.is_done:
        state = "done"
    elif reached.is_running:
        state = "running"
    elif failure is not None:
        state = "failed"
    reason = reached.damage or (failure.reason if failure is not None and state == "failed" else "")
    names = {name: trial[name] for name in ("id", "task", "method", "seed")}
    return TrialStatus(**names, state=state, step=reached.step, reason=reason)


def _state(trials: Sequence[TrialStatus], is_driven: bool) -> RunState:
    if is_driven:
        return "running"
    states = {trial.state for trial in trials}
    return "failed" if "failed" in states else "complete" if states <= {"done"} else "stopped"


def to_json(found: Status) -> dict[str, Any]:
    """Plain data, with the number of trials in each state."""
    return {**asdict(found), "counts": found.counts}


def to_text(found: Status) -> Iterator[str]:
    """Lines for people."""
    counts = [f"{count} {state}" for state, count in found.counts.items() if count]
    share = sum(trial.step for trial in found.trials) / max(len(found.trials) * found.budget_steps, 1)
    trained = "" if found.state == "complete" else f"; {share:.0%} of their steps are trained"
    yield f"{found.name}: {found.state}; of {len(found.trials)} trials {', '.join(counts)}{trained}"
    yield from _driver_lines(found)
    where = shlex.quote(found.run_dir)
    for failure in found.failures[:_MAX_SHOWN]:
        lost = sum(trial.id in failure.trials for trial in found.trials if trial.state == "failed")
        if failure.is_alone:
            yield f"{failure.trials[0]} failed, and the others of its population went on: {failure.reason}"
        else:
            yield f"{failure.segment} failed, and {lost} trials with it, {failure.reason}"
        yield from (f"    {frame}" for frame in last_frames(failure.traceback))
    if len(found.failures) > _MAX_SHOWN:
        yield f"and {len(found.failures) - _MAX_SHOWN} more"
    if found.failures:
        yield f"Whole tracebacks: {found.run_dir}/{failures_name(location(found.run_dir))}"
    causes = {trial for failure in found.failures for trial in failure.trials}
    damaged = [trial for trial in found.trials if trial.state == "failed" and trial.id not in causes]
    yield from (f"{trial.id} is damaged: {trial.reason}" for trial in damaged[:_MAX_SHOWN])
    if damaged:
        yield f"`plasticbench resume {where} --repair` goes back to before that, and on from there."
        return
    is_over = all(failure.is_alone for failure in found.failures) and found.counts["waiting"] == 0
    if found.is_external:
        yield f"Loops of others record it. `plasticbench resume {where}` brings report and MLflow up to date."
    elif found.state == "stopped" or (found.state == "failed" and not is_over):
        yield f"`plasticbench resume {where}` goes on."


def _driver_lines(found: Status) -> Iterator[str]:
    driver = found.driver
    if driver is None or "host" not in driver:
        return
    doing = {"training": "trains", "tracking": "brings MLflow up to date"}.get(driver["state"], "begins")
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(driver["time"]))
    left = "" if found.seconds_left is None else f"; about {duration(found.seconds_left)} left"
    yield f"process {driver['pid']} on {driver['host']} {doing}, as of {at}{left}"
    running = driver.get("running", ())
    for one in running[:_MAX_SHOWN]:
        steps = f"step {one['step']:,} of {one['to_step']:,}, {one['num_members']} members"
        yield f"    {one['segment']}: {steps}, {one['steps_per_s']:,.0f} steps/s"
    if len(running) > _MAX_SHOWN:
        yield f"    and {len(running) - _MAX_SHOWN} more"
