"""How soon a run trains again that is gone on with at 90 % of its budget: ``python -m benchmarks.resumes [NAME...]``.

Each shipped benchmark of agents in environments is cut to one seed, on a CPU, with a scaled budget and few updates. Its
last segment is stopped at 90 % of the budget and gone on with: the seconds until it is loaded, and until it has trained
for a stride. ``full_s`` is arithmetic for the file as it is: those seconds as many times as its largest population has
more members, what ``plan`` says of a replay of environments, at 90 %, and the bytes of that population's commit at the
speed with which a file of 256 MiB was loaded and copied; ``full_cpu_s`` is the same of CPU time, as other work may be
under way. Commands, Ray and imports come on top (``python -m benchmarks.starts``).

``--speeds`` prints instead the agent steps per second that a replay makes.

Prints JSON, one line each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plasticbench import plugins
from plasticbench.contracts.task import DiscreteActions
from plasticbench.envs._journal import JournaledEnv
from plasticbench.platform.definition.reading import load
from plasticbench.platform.planning.going_on import longest_replay
from plasticbench.platform.planning.plan import Plan, Segment, make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.checkpoint import CheckpointStore
from plasticbench.platform.training.segment import SegmentRun

_STEPS = {
    "continual_gym": 20_000,
    "fire_atari": 4_000,
    "fire_atari with backend ale": 1_000,
    "fire_humanoid": 1_000,
    "method_zoo": 4_000,
    "pendulum": 4_000,
    "quickstart": 10_000,
    "smoke_atari": 2_000,
    "smoke_humanoid": 2_000,
}
"""Budgets to which they are cut."""
_SMALL = (
    "seeds=1",
    "execution.device=cpu",
    "execution.num_gpus=0",
    "execution.num_cpus=1",
    "checkpoint.every_s=1000000",
)
_SPEEDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("atari", {"task": "Asterix"}),
    ("atari", {"task": "BeamRider"}),
    ("atari", {"task": "Asterix", "backend": "ale"}),
    ("atari", {"task": "BeamRider", "backend": "ale"}),
    ("classic", {"task": "CartPole-v1"}),
    ("classic", {"task": "LunarLander-v3"}),
    ("humanoid", {"task": "h1-walk-v0"}),
    ("minatar", {"task": "Seaquest-MinAtar"}),
    ("mujoco", {"task": "Hopper-v4"}),
    ("mujoco", {"task": "Ant-v4"}),
)


def _file(name: str) -> tuple[str, list[str]]:
    """The benchmark file, and what is set in all cases."""
    base, with_, backend = name.partition(" with backend ")
    sets = [f"environments.{index}.backend={backend}" for index in range(3)] if with_ else []
    return f"configs/{base}.yaml", sets


def _scaled(name: str, folder: str) -> dict[str, Any]:
    path, sets = _file(name)
    full = load(path, sets)
    steps = _STEPS[name]
    evaluation = "evaluation.steps=1000" if getattr(full.evaluation, "steps", None) else "evaluation.episodes=1"
    agent: Any = full.methods[0].agent_config
    small = [*sets, *_SMALL, f"budget_steps={steps}", f"evaluation.every_steps={steps}", evaluation]
    small += ["evaluation.num_envs=1", f"probes.every_steps={steps}"]
    if hasattr(agent, "replay_ratio"):
        starts = min(agent.learning_starts_steps, steps // 10)
        small += ["agent.replay_ratio=0.01", f"agent.learning_starts_steps={starts}"]
    benchmark = load(path, small)
    plan, whole = make_plan(benchmark), make_plan(full)
    last = plan.segments[-1]
    directory = RunDirectory(Path(folder) / name.replace(" ", "_"))
    directory.create(benchmark, plan)
    for segment in _line(plan, last)[:-1]:
        SegmentRun(directory.path, segment.id).run()
    run = SegmentRun(directory.path, last.id)
    run.run(should_stop=lambda: run.progress().step >= 0.9 * steps)
    began = _clocks()
    again = SegmentRun(directory.path, last.id)
    loaded_s = _clocks() - began
    stopped_at = again.progress().step
    trained_at = began

    def has_trained() -> bool:  # before the commit that follows
        nonlocal trained_at
        trained_at = _clocks()
        return True

    again.run(has_trained)
    trains_s = trained_at - began
    longest = longest_replay(full, whole)
    replay_s = 0.0 if longest is None or longest.seconds is None else 0.9 * longest.seconds
    commit_gib = max(segment.disk_bytes for segment in whole.segments) / 2**30
    load_s = commit_gib * _load_s_per_gib(folder)
    growth = max(len(segment.members) for segment in whole.segments) / len(last.members)
    full_s = growth * trains_s + replay_s + load_s
    return {
        "config": name,
        "budget_steps": steps,
        "members": len(last.members),
        "stopped_at": stopped_at,
        "loaded_s": round(loaded_s[0], 2),
        "trains_s": round(trains_s[0], 2),
        "trains_cpu_s": round(trains_s[1], 2),
        "full_replay_s": round(replay_s),
        "full_commit_gib": round(commit_gib, 2),
        "full_load_s": round(load_s[0]),
        "full_s": round(full_s[0]),
        "full_cpu_s": round(full_s[1]),
    }


def _clocks() -> np.ndarray:
    """Seconds on the wall, and of this process's CPU time."""
    return np.array([time.perf_counter(), time.process_time()])


def _load_s_per_gib(folder: str) -> np.ndarray:
    store = CheckpointStore(Path(folder))
    stored = store.save_tensors("speed", "rows", {"rows": torch.randint(256, (256 << 20,), dtype=torch.uint8)})
    began = _clocks()
    store.load_tensors(stored)["rows"].clone()
    return 4 * (_clocks() - began)


def _line(plan: Plan, segment: Segment) -> list[Segment]:
    """A segment and all that it goes on from, the first one first."""
    return [*(_line(plan, plan.segment(segment.start)) if segment.start is not None else ()), segment]


def _speed(kind: str, settings: dict[str, Any], num_envs: int = 8, seconds: float = 3.0) -> dict[str, Any]:
    """Of CPU time, as other work may share the cores."""
    config = plugins.config_from("envs", kind, settings)
    env, rng, space = JournaledEnv(config, range(num_envs), 1, saves_states=False), np.random.default_rng(0), None
    env.reset()
    space = config.spec.actions
    if isinstance(space, DiscreteActions):
        actions = rng.integers(space.count, size=(64, num_envs))
    else:
        actions = rng.uniform(space.low, space.high, (64, num_envs, len(space.low))).astype(np.float32)
    began, rows = time.process_time(), 0
    while (elapsed_s := time.process_time() - began) < seconds:
        env.step(actions[rows % len(actions)])
        rows += 1
    env.close()
    return {"kind": kind, **settings, "steps_per_cpu_s": round(rows * num_envs / elapsed_s)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(_STEPS), metavar="NAME", help=", ".join(_STEPS))
    parser.add_argument("--speeds", action="store_true", help="steps per second of replays")
    arguments = parser.parse_args()
    if arguments.speeds:
        for kind, settings in _SPEEDS:
            print(json.dumps(_speed(kind, settings)), flush=True)
        return
    for name in arguments.names:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(_scaled(name, folder)), flush=True)


if __name__ == "__main__":
    main()
