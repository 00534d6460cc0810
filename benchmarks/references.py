"""Returns of random actions, which are score 0, beside what the tables say: ``python -m benchmarks.references``.

Prints a Markdown table. Every environment plays equally many whole episodes, as in evaluation; the standard error comes
from the spread of their means. Classic control takes minutes on one core, MinAtar a quarter of an hour.

    python -m benchmarks.references --families classic --tasks LunarLander-v3
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from plasticbench import plugins
from plasticbench.contracts.task import DiscreteActions, EnvConfig, EnvSpec
from plasticbench.envs._evaluation import evaluate

NUM_ENVS = 100


class Measured(NamedTuple):
    """Mean return of random actions."""

    mean_return: float
    standard_error: float
    num_episodes: int


def random_actions(spec: EnvSpec, rng: np.random.Generator) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A policy that chooses uniformly: observations ``[M, E, ...]`` to actions ``[M, E, ...]``."""
    actions = spec.actions

    def act(obs: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        if isinstance(actions, DiscreteActions):
            return rng.integers(actions.count, size=obs.shape[:2])
        return rng.uniform(actions.low, actions.high, size=(*obs.shape[:2], len(actions.low))).astype(np.float32)

    return act


def measure(config: EnvConfig, num_episodes: int, seed: int = 0) -> Measured:
    """At least ``num_episodes`` whole episodes, equally many of each of 100 environments."""
    each = -(-num_episodes // NUM_ENVS)
    result = evaluate(
        random_actions(config.spec, np.random.default_rng(seed)),
        lambda obs: obs,
        config,
        [1_000 * seed + member for member in range(NUM_ENVS)],
        at_step=0,
        num_envs=1,
        episodes=each,
        steps=None,
        num_threads=1,
    )
    means = result.mean_return
    return Measured(float(means.mean()), float(means.std(ddof=1) / NUM_ENVS**0.5), int(result.episodes.sum()))


def table_value(config: EnvConfig) -> float:
    """The return that has score 0; scores are linear."""
    at_0, at_1 = config.score(0.0), config.score(1.0)
    return at_0 / (at_0 - at_1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=["classic", "minatar"], help="families that list their tasks")
    parser.add_argument("--tasks", nargs="+", help="these alone")
    parser.add_argument("--episodes", type=int, default=5_000, help="at least so many of each task")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print("| task | table | measured | standard error | episodes |\n| --- | --- | --- | --- | --- |")
    for family in arguments.families:
        for task in getattr(plugins.load("envs", family), "tasks", lambda: arguments.tasks or ())():
            if arguments.tasks and task not in arguments.tasks:
                continue
            config = plugins.config_from("envs", family, {"task": task})
            found = measure(config, arguments.episodes, arguments.seed)
            measured = f"{found.mean_return:.2f} | {found.standard_error:.3f} | {found.num_episodes:,}"
            print(f"| {task} | {table_value(config):.2f} | {measured} |", flush=True)


if __name__ == "__main__":
    main()
