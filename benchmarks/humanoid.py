"""Steps per second of humanoid tasks on one and two threads, as JSON: ``python -m benchmarks.humanoid``.

The public package makes 2,010 steps/s of ``h1-walk-v0`` with random actions on one core. So that a busy machine does
not hide the ratio, bare ``mj_step`` on the model as it was published (full meshes, no rewards, no interpreter's
work) is timed in turn with ours: it bounds what the public package can reach.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from typing import Any

import mujoco
import numpy as np

from plasticbench.envs.humanoid import Config, tasks
from plasticbench.envs.humanoid._model import physics_model, visual_model
from plasticbench.envs.humanoid._simulation import SUBSTEPS
from plasticbench.envs.humanoid._tasks import TASKS

PUBLISHED_STEPS_PER_S = {"h1-walk-v0": 2010, "h1-run-v0": 2020, "h1-balance_simple-v0": 1610}


def environment_rate(config: Config, num_envs: int, num_threads: int, duration_s: float) -> float:
    """Environment steps per second under random actions, resets included."""
    env = config.build(range(num_envs), num_threads)
    actions = np.random.default_rng(0).uniform(-1, 1, (256, num_envs, 19)).astype(np.float32)
    env.reset()
    steps, start = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - start) < duration_s:
        env.step(actions[steps % len(actions)])
        steps += 1
    env.close()
    return steps * num_envs / elapsed_s


def physics_rate(model: Any, task: str, duration_s: float) -> float:
    """Steps per second of bare ``mj_step`` under random controls, started anew when the robot lies."""
    data = mujoco.MjData(model)
    controls = np.random.default_rng(0).uniform(*model.actuator_ctrlrange.T, (256, model.nu))
    data.qpos[:] = TASKS[task].initial_qpos
    steps, start = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - start) < duration_s:
        data.ctrl[:] = controls[steps % len(controls)]
        mujoco.mj_step(model, data, nstep=SUBSTEPS)
        steps += 1
        if data.qpos[2] < 0.2:
            mujoco.mj_resetData(model, data)
            data.qpos[:] = TASKS[task].initial_qpos
    return steps / elapsed_s


def measure(task: str, num_envs: int, duration_s: float, rounds: int) -> dict[str, Any]:
    published = visual_model(task)
    published.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_NATIVECCD)
    thin = physics_model(task, "published", None)
    cases = {
        "published_model_mj_step": lambda: physics_rate(published, task, duration_s),
        "our_model_mj_step": lambda: physics_rate(thin, task, duration_s),
        "threads_1": lambda: environment_rate(Config(task=task), num_envs, 1, duration_s),
        "threads_2": lambda: environment_rate(Config(task=task), num_envs, 2, duration_s),
        "threads_1_fast": lambda: environment_rate(Config(task=task, physics="fast"), num_envs, 1, duration_s),
    }
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):  # in turn, so that a slow moment of the machine hits all alike
        for name, rate in cases.items():
            rates[name].append(rate())
    ratios = [ours / bare for ours, bare in zip(rates["threads_1"], rates["published_model_mj_step"], strict=True)]
    return {
        "task": task,
        "steps_per_s": {name: round(statistics.median(values)) for name, values in rates.items()},
        "best_steps_per_s": {name: round(max(values)) for name, values in rates.items()},
        "threads_1_over_published_model_mj_step": round(statistics.median(ratios), 2),
        "public_package_steps_per_s": PUBLISHED_STEPS_PER_S.get(task),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=tasks(), default=list(PUBLISHED_STEPS_PER_S))
    parser.add_argument("--num-envs", type=int, default=8)
    parser.add_argument("--duration-s", type=float, default=1.0, help="seconds per case and round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    results = [measure(task, arguments.num_envs, arguments.duration_s, arguments.rounds) for task in arguments.tasks]
    print(json.dumps({"cpus": os.cpu_count(), "num_envs": arguments.num_envs, "results": results}, indent=2))


if __name__ == "__main__":
    main()
