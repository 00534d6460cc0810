"""Agent steps per second of every environment family and backend, as JSON: ``python -m benchmarks.envs``."""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

import numpy as np

from plasticbench import plugins
from plasticbench.contracts.task import DiscreteActions, EnvConfig

CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("atari", {"task": "Asterix", "backend": "envpool"}),
    ("atari", {"task": "Asterix", "backend": "ale"}),
    ("minatar", {"task": "Asterix-MinAtar"}),
    ("minatar", {"task": "SpaceInvaders-MinAtar"}),
    ("classic", {"task": "CartPole-v1"}),
    ("classic", {"task": "Acrobot-v1"}),
    ("classic", {"task": "Pendulum-v1"}),
)


def steps_per_second(config: EnvConfig, num_envs: int, num_threads: int, duration_s: float) -> float:
    """Agent steps of all environments together per second, under random actions."""
    env = config.build(range(num_envs), num_threads)
    rng = np.random.default_rng(0)
    if isinstance(env.spec.actions, DiscreteActions):
        actions = rng.integers(env.spec.actions.count, size=(256, num_envs))
    else:
        low, high = env.spec.actions.low, env.spec.actions.high
        actions = rng.uniform(low, high, (256, num_envs, len(low))).astype(np.float32)
    env.reset()
    vector_steps, start = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - start) < duration_s:
        env.step(actions[vector_steps % len(actions)])
        vector_steps += 1
    env.close()
    return vector_steps * num_envs / elapsed_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, default=20, help="environments in one pool")
    parser.add_argument("--num-threads", type=int, default=1, help="EnvPool's threads; 0 lets it choose")
    parser.add_argument("--duration-s", type=float, default=3.0, help="seconds per case")
    arguments = parser.parse_args()
    results = []
    for kind, settings in CASES:
        config = plugins.config_from("envs", kind, settings)
        speed = steps_per_second(config, arguments.num_envs, arguments.num_threads, arguments.duration_s)
        results.append({"kind": kind, **settings, "agent_steps_per_s": round(speed)})
    machine = {"cpus": os.cpu_count(), "num_envs": arguments.num_envs, "num_threads": arguments.num_threads}
    print(json.dumps({**machine, "results": results}, indent=2))


if __name__ == "__main__":
    main()
