"""Whether RLlib's DQN learns under the platform as it does alone: ``python -m benchmarks.rllib_beside [--seeds 10]``.

The settings of ``rllib_none`` in ``configs/rllib_cartpole.yaml``, without its change of the task, on the same
CartPole. Alone is RLlib's own ``Algorithm.train()`` in two ways: with iterations of one fragment, after each of which
epsilon moves on as it does within the platform, and with RLlib's default of 1,000 steps. Prints one row a seed, the
mean return of the training episodes that end in the second half; then what the ways differ by, with 95 % intervals of
Welch's t.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import t as student

from plasticbench.platform.cluster.connection import connected
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.records import read_records

BUDGET_STEPS = 6_400
TASK = "CartPole-v1"
FILE = Path(__file__).parents[1] / "configs" / "rllib_cartpole.yaml"


def alone(agent: dict[str, Any], iteration_steps: int, seed: int) -> list[tuple[int, float]]:
    """RLlib's own loop in RLlib's own environment: the step at which each training episode ended, and its return."""
    from ray.rllib.algorithms.dqn import DQNConfig

    found: list[tuple[int, float]] = []

    def note(*, episode: Any, **_: Any) -> None:
        # A fragment ends in the middle of an episode, so what is shown is its last part; each step is paid 1.
        found.append(((found[-1][0] if found else 0) + episode.t, float(episode.t)))

    own = agent["config"] | {"replay_buffer_config": {"type": "EpisodeReplayBuffer", "capacity": 20_000}}
    algorithm = (
        DQNConfig()
        .environment(TASK)
        .env_runners(num_env_runners=0)
        .rl_module(model_config=agent["model"] | {"head_fcnet_hiddens": []})
        .reporting(min_sample_timesteps_per_iteration=iteration_steps)
        .debugging(seed=seed, log_level="ERROR")
        .callbacks(on_episode_end=note)
        .update_from_dict(own | {"dueling": False})
        .build_algo()
    )
    while algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"] < BUDGET_STEPS:
        pass
    algorithm.stop()
    return found


def within(agent: dict[str, Any], seed: int) -> list[tuple[int, float]]:
    """The same agent as a trial of a benchmark."""
    data = {
        "name": "beside",
        "environments": [{"kind": "classic", "task": TASK}],
        "agent": agent,
        "methods": {"none": {"kind": "none"}},
        "seeds": [seed],
        "budget_steps": BUDGET_STEPS,
        "evaluation": {"every_steps": BUDGET_STEPS, "episodes": 1},
        "probes": {"kinds": []},
    }
    with tempfile.TemporaryDirectory() as folder:
        benchmark = from_dict(data)
        plan = make_plan(benchmark)
        RunDirectory(Path(folder)).create(benchmark, plan)
        SegmentRun(Path(folder), plan.segments[0].id).run()
        records = list(read_records(RunDirectory(Path(folder)).record_file(plan.trials[0].id)))
    return [(record.step, record.value) for record in records if record.name == "train/return"]


def late_return(episodes: Sequence[tuple[int, float]]) -> float:
    """Mean return of the episodes that end in the second half of the budget."""
    return float(np.mean([value for step, value in episodes if BUDGET_STEPS / 2 <= step <= BUDGET_STEPS]))


def difference(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Mean difference and the 95 % interval of Welch's t."""
    variances = [np.var(values, ddof=1) / len(values) for values in (ours, theirs)]
    freedom = sum(variances) ** 2 / sum(v**2 / (len(ours) - 1) for v in variances)
    mean, half = np.mean(ours) - np.mean(theirs), student.ppf(0.975, freedom) * np.sqrt(sum(variances))
    return f"{mean:+.1f} [{mean - half:.1f}, {mean + half:.1f}]"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = parser.parse_args().seeds
    agent = yaml.safe_load(FILE.read_text())["methods"]["rllib_none"]["agent"]
    fragment = int(agent["config"]["rollout_fragment_length"])
    ways: dict[str, Callable[[int], list[tuple[int, float]]]] = {
        "within the platform": partial(within, agent),
        "alone": lambda seed: alone(agent, fragment, seed),
        "alone, iterations of 1,000": lambda seed: alone(agent, 1_000, seed),
    }
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    found: dict[str, list[float]] = {name: [] for name in ways}
    print(f"{'seed':>5}" + "".join(f"{name:>28}" for name in ways), flush=True)
    with connected("local"):
        for seed in range(seeds):
            for name, train in ways.items():
                found[name].append(late_return(train(seed)))
            print(f"{seed:5}" + "".join(f"{values[-1]:28.1f}" for values in found.values()), flush=True)
    print(f"{'mean':>5}" + "".join(f"{np.mean(values):28.1f}" for values in found.values()))
    ours, *others = found.values()
    for name, theirs in zip(list(found)[1:], others, strict=True):
        print(f"within, less {name}: {difference(ours, theirs)}")


if __name__ == "__main__":
    main()
