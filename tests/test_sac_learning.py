"""SAC learns what it is known to learn, through the environments that benchmarks use."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from plasticbench.agents import sac
from plasticbench.contracts.task import EnvStep
from plasticbench.envs import classic, mujoco
from plasticbench.envs._evaluation import evaluate
from plasticbench.learning.networks import mlp
from plasticbench.seeding import Streams, derive_seed

NETWORK = mlp.Config(hidden=(64, 64))
CONFIG = sac.Config(
    actor_network=NETWORK,
    critic_network=NETWORK,
    learning_rate=1e-3,
    temperature_learning_rate=1e-3,
    batch_rows=64,
    capacity_transitions=20_000,
    learning_starts_steps=500,
)


def returns_after_training(environment, seeds, steps, config=CONFIG):
    """Evaluation returns ``[M]`` of a population that was trained for ``steps`` agent steps of each member."""
    agent = config.build(
        spec=environment.spec,
        num_envs=1,
        streams=[Streams(seed) for seed in seeds],
        budget_steps=steps,
        device=torch.device("cpu"),
    )
    env = environment.build([derive_seed(seed, "environment") for seed in seeds], 1)

    def by_member(values):
        return values.reshape(len(seeds), 1, *values.shape[1:])

    obs = by_member(env.reset())
    agent.begin(obs)
    for step in range(steps):
        action = agent.act(obs, step)
        found = EnvStep(*map(by_member, env.step(action[:, 0])))
        agent.observe(action, found)
        obs = found.obs
        for _ in agent.learn(step + 1):
            pass
    env.close()
    return evaluate(
        agent.act_in_evaluation,
        lambda obs: obs,
        environment,
        seeds,
        at_step=steps,
        num_envs=20,
        episodes=20,
        steps=None,
        num_threads=1,
    ).mean_return


@pytest.mark.slow
def test_all_of_five_seeds_swing_the_pendulum_up_within_15_000_steps():
    returns = returns_after_training(classic.Config(task="Pendulum-v1"), [0, 1, 2, 3, 4], 15_000)
    assert (returns > -200).all(), np.round(returns)


@pytest.mark.slow
def test_half_cheetah_runs_where_random_actions_fall_behind():
    config = replace(CONFIG, observation_norm="running")
    returns = returns_after_training(mujoco.Config(task="HalfCheetah-v4"), [0, 1], 10_000, config)
    assert (returns > 0).all(), np.round(returns)  # random actions: about -280


@pytest.mark.slow
def test_a_humanoid_learns_to_balance_longer_than_chance():
    from plasticbench.envs import humanoid

    environment = humanoid.Config(task="h1-balance_simple-v0", action_repeat=2)
    returns = returns_after_training(environment, seeds=[0, 1, 2], steps=6_000)
    assert returns.mean() > 1.3 * 9.391  # random actions, as published with the benchmark
