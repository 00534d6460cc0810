"""Walks every id of the installed EnvPool: 50 random steps each, or the sentence that refuses it, as JSON.

``python -m benchmarks.envpool_ids [--groups dmc procgen] [--steps 50]``. A task runs if its observations are finite
and of the promised shape, and if an environment takes the same course alone as in company. Each runs in a process that
may die.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context
from typing import Any

import numpy as np

from plasticbench.contracts.task import DiscreteActions, EnvSpec
from plasticbench.envs.envpool import Config, groups

_TIMEOUT_S = 120.0


def random_actions(spec: EnvSpec, seed: int, steps: int) -> np.ndarray:
    """``[steps]`` or ``[steps, dimensions]``."""
    generator = np.random.default_rng(seed)
    if isinstance(spec.actions, DiscreteActions):
        return generator.integers(spec.actions.count, size=steps)
    low, high = spec.actions.low, spec.actions.high
    return generator.uniform(low, high, (steps, len(low))).astype(np.float32)


def course(config: Config, seeds: Sequence[int], steps: int) -> dict[str, np.ndarray]:
    """What the environment of the last seed delivers, ``[steps + 1, ...]``; its actions depend on that seed alone."""
    env = config.build(seeds, num_threads=1)
    actions = np.stack([random_actions(env.spec, seed, steps) for seed in seeds], axis=1)
    obs, found = [env.reset()], []
    for action in actions:
        found.append(env.step(action))
        obs.append(found[-1].obs)
    env.close()
    flags = {
        name: np.stack([getattr(step, name)[-1] for step in found]) for name in ("reward", "terminated", "truncated")
    }
    return {"obs": np.stack(obs)[:, -1], **flags}


def walk(task: str, steps: int) -> dict[str, Any]:
    """Whether a task runs, and what is wrong with it if it does not."""
    start = time.perf_counter()
    try:
        config = Config(task=task)
    except ValueError as error:
        return {"task": task, "outcome": "refused", "reason": str(error)}
    company, alone = course(config, [1, 2], steps), course(config, [2], steps)
    wrong = [name for name in alone if not np.array_equal(company[name], alone[name])]
    if company["obs"].shape[1:] != config.spec.obs_shape or company["obs"].dtype != config.spec.obs_dtype:
        wrong.append("shape")
    if not all(np.isfinite(values).all() for values in alone.values()):
        wrong.append("not finite")
    outcome = {"outcome": "differs", "reason": ", ".join(wrong)} if wrong else {"outcome": "runs"}
    return {"task": task, **outcome, "seconds": round(time.perf_counter() - start, 2)}


class Walker:
    """A process that walks tasks, with all that EnvPool starts in it: games of VizDoom outlive whoever started them."""

    def __init__(self) -> None:
        """Starts it, as the leader of a group of its own."""
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=os.setsid)
        self._pid = self._pool.submit(os.getpid).result()

    def walk(self, task: str, steps: int) -> dict[str, Any]:
        """As ``walk``. Raises ``TimeoutError`` for what does not end; a task's death may go unnoticed until then."""
        return self._pool.submit(walk, task, steps).result(timeout=_TIMEOUT_S)

    def kill(self) -> None:
        """Ends all of it."""
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        self._pool.shutdown(wait=False, cancel_futures=True)


def walk_all(tasks: Sequence[str], steps: int) -> Iterator[dict[str, Any]]:
    """One result per task; a task that kills its process is one that died."""
    walker = Walker()
    try:
        for task in tasks:
            try:
                yield walker.walk(task, steps)
            except (BrokenProcessPool, TimeoutError):
                yield {
                    "task": task,
                    "outcome": "died",
                    "reason": f"its process was killed, or hung for {_TIMEOUT_S:g} s",
                }
                walker.kill()
                walker = Walker()
            except Exception as error:
                yield {"task": task, "outcome": "raised", "reason": f"{type(error).__name__}: {error}"}
    finally:
        walker.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", nargs="*", default=sorted(groups()), help="parts of EnvPool; all by default")
    parser.add_argument("--steps", type=int, default=50, help="random steps of each task")
    arguments = parser.parse_args()
    for group in arguments.groups:
        for found in walk_all(groups()[group], arguments.steps):
            print(json.dumps({"group": group, **found}), flush=True)


if __name__ == "__main__":
    main()
