"""PPO on points that drift, small enough to train for many rollouts in a second."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from plasticbench.agents import ppo
from plasticbench.contracts.task import BoxActions, DiscreteActions, EnvSpec, EnvStep
from plasticbench.contracts.treatment import Part
from plasticbench.learning.networks import mlp
from plasticbench.seeding import Streams

NUM_ENVS, ROLLOUT = 2, 32
NETWORK = mlp.Config(hidden=(16, 12), initializer="orthogonal", activation="tanh")
CONFIG = ppo.Config(
    network=NETWORK, critic_network=NETWORK, learning_rate=3e-3, rollout_steps=ROLLOUT, epochs=4, minibatches=4
)
CHOICE = EnvSpec(obs_shape=(3,), obs_dtype="float32", actions=DiscreteActions(count=3))
VECTOR = EnvSpec(obs_shape=(3,), obs_dtype="float32", actions=BoxActions(low=(-1.0, -0.5), high=(1.0, 0.5)))


class Drift:
    """Points in three dimensions that actions push; reward near the origin; ends after 7 steps, in one of two ways."""

    def __init__(self, members: int, num_envs: int = NUM_ENVS) -> None:
        self.obs = np.tile(np.linspace(0.1, 0.9, 3, dtype=np.float32), (members, num_envs, 1))
        self.obs[:, :, 1] += np.arange(num_envs, dtype=np.float32)
        self.age = np.tile(np.arange(num_envs), (members, 1))

    def step(self, action: np.ndarray) -> EnvStep:
        over = self.age == 7
        push = action[..., None] - 1.0 if action.ndim == 2 else action[..., :1] + action[..., 1:]
        moved = np.where(over[..., None], 0.5, 0.9 * self.obs + 0.2 * push * np.array([1, 0.5, -0.5]))
        self.obs, self.age = moved.astype(np.float32), np.where(over, 0, self.age + 1)
        reward = np.where(over, 0, 1 - np.square(self.obs).sum(-1)).astype(np.float32)
        last = self.age == 7
        terminated = last & (self.obs[..., 0] > 0.3)
        return EnvStep(self.obs, reward, reward, terminated, last & ~terminated)


def built(
    seeds: Sequence[int],
    config: ppo.Config = CONFIG,
    spec: EnvSpec = CHOICE,
    parts: Sequence[Sequence[Part]] | None = None,
    budget_steps: int = 640,
) -> Any:
    """A population whose member i has ``parts[i]``."""
    return config.build(
        spec=spec,
        num_envs=NUM_ENVS,
        streams=[Streams(seed) for seed in seeds],
        budget_steps=budget_steps,
        device=torch.device("cpu"),
        parts=parts or [[] for _ in seeds],
    )


def train(agent: Any, env: Drift, steps: int, begin_step: int = 0) -> list[dict[str, torch.Tensor]]:
    """Trains from one clock to another; begins a course at 0. Returns the metrics of all updates."""
    if begin_step == 0:
        agent.begin(env.obs)
    found = []
    for step in range(begin_step, steps, NUM_ENVS):
        action = agent.act(env.obs, step)
        agent.observe(action, env.step(action))
        found += list(agent.learn(step + NUM_ENVS))
    return found


def weights_of(agent: Any) -> dict[str, torch.Tensor]:
    """All parameters ``[M, ...]``."""
    return {name: tensor for name, tensor in agent.state_dict()[0].items() if "/online/" in name}
