"""Whether an RLlib agent learns under the platform as it does alone: ``python -m benchmarks.rllib_beside``.

Alone is RLlib's own ``Algorithm.train()`` in Gymnasium's own environment; within is the method ``none`` of a benchmark.
Both have the settings of ``rllib_none`` in ``configs/rllib_cartpole.yaml`` and the same chance: of weights, acting, the
environment and the replay. Prints one row a seed: the mean return of the training episodes that end in the second
half, and the greatest difference of the final weights.

With ``--iteration-steps 1000``, RLlib's default, it shows what RLlib's loop alone does differently: its epsilon stands
still within an iteration. By default an iteration is one fragment, as it is within.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import yaml
from torch import Tensor

from plasticbench.agents.rllib.settings import MODEL_DEFAULTS
from plasticbench.platform.cluster.connection import connected
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.seeding import Streams, derive_seed

TASK = "CartPole-v1"
FILE = Path(__file__).parents[1] / "configs" / "rllib_cartpole.yaml"


class Trained(NamedTuple):
    """Where each training episode ended and how long it was, which is CartPole's return; and the network at the end."""

    episodes: list[tuple[int, float]]
    weights: Mapping[str, Tensor]

    def late_return(self, budget_steps: int, fragment_steps: int) -> float:
        """Mean return of the second half of the budget, each fragment by the mean of the episodes that end in it."""
        ended: dict[int, list[float]] = {}
        for step, value in self.episodes:
            ended.setdefault(-(-step // fragment_steps), []).append(value)
        half, whole = budget_steps / 2 / fragment_steps, budget_steps / fragment_steps
        return float(np.mean([np.mean(values) for fragment, values in ended.items() if half < fragment <= whole]))


class Seeded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The first episode begins from a seed, each other where the one before ended; RLlib's own seeds are not used."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(gymnasium.make(TASK))
        self._seed: int | None = config["seed"]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """An episode's first observation."""
        first, self._seed = self._seed, None
        return self.env.reset(seed=first, options=options)


def alone(agent: Mapping[str, Any], seed: int, budget_steps: int, iteration_steps: int) -> Trained:
    """RLlib's own loop, with the chance that a trial of this seed has."""
    import torch
    from ray.rllib.algorithms.dqn import DQNConfig

    from plasticbench.agents.rllib import learner

    episodes: list[tuple[int, float]] = []

    def note(*, episode: Any, **_: Any) -> None:
        # A fragment ends in the middle of an episode, of which this is the last part.
        episodes.append(((episodes[-1][0] if episodes else 0) + episode.t, float(episode.t)))

    weights_seed, capacity = derive_seed(seed, "rllib"), agent["config"]["replay_buffer_config"]["capacity"]
    torch.manual_seed(weights_seed)
    algorithm: Any = (
        DQNConfig()
        .environment(Seeded, env_config={"seed": derive_seed(seed, "environment", 0, 0)})
        .env_runners(num_env_runners=0)
        .rl_module(model_config={**MODEL_DEFAULTS, **agent["model"]})
        .reporting(min_sample_timesteps_per_iteration=iteration_steps)
        .debugging(seed=weights_seed, log_level="ERROR")
        .callbacks(on_episode_end=note)
        .update_from_dict({**agent["config"], "dueling": False})
        .update_from_dict({"replay_buffer_config": {"type": "EpisodeReplayBuffer", "capacity": capacity}})
        .build_algo()
    )
    algorithm.local_replay_buffer.rng = Streams(seed)["replay"]
    while algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"] < budget_steps:
        pass
    weights = learner.ask(algorithm, learner.weights)["q"]
    algorithm.stop()
    return Trained(episodes, weights)


def within(agent: Mapping[str, Any], seed: int, budget_steps: int) -> Trained:
    """The same agent as a trial of a benchmark."""
    data = {
        "name": "beside",
        "environments": [{"kind": "gymnasium", "task": TASK}],
        "agent": agent,
        "methods": {"none": {"kind": "none"}},
        "seeds": [seed],
        "budget_steps": budget_steps,
        "evaluation": {"every_steps": budget_steps // 4, "episodes": 1},
    }
    with tempfile.TemporaryDirectory() as folder:
        benchmark = from_dict(data)
        plan = make_plan(benchmark)
        RunDirectory(Path(folder)).create(benchmark, plan)
        trainer = SegmentRun(Path(folder), plan.segments[0].id)._trainer
        records = [record for stride in trainer.advance() for record in stride]
        weights = trainer.agent.weights()["q"]
        trainer.close()
    return Trained([(one.step, one.value) for one in records if one.name == "train/return"], weights)


def greatest_difference(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Of all entries of all parameters."""
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def main() -> None:
    """Prints the table."""
    agent = yaml.safe_load(FILE.read_text())["methods"]["rllib_none"]["agent"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget-steps", type=int, default=6_400)
    fragment_steps = agent["config"]["rollout_fragment_length"]
    parser.add_argument("--iteration-steps", type=int, default=fragment_steps)
    asked = parser.parse_args()
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    print(f"{'seed':>5} {'within':>8} {'alone':>8} {'difference of weights':>22}", flush=True)
    with connected("local"):
        for seed in range(asked.seeds):
            ours = within(agent, seed, asked.budget_steps)
            theirs = alone(agent, seed, asked.budget_steps, asked.iteration_steps)
            found = [one.late_return(asked.budget_steps, fragment_steps) for one in (ours, theirs)]
            difference = greatest_difference(ours.weights, theirs.weights)
            print(f"{seed:5} {found[0]:8.1f} {found[1]:8.1f} {difference:22g}", flush=True)


if __name__ == "__main__":
    main()
