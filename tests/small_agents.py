"""Agents that train for a few updates on chance, with parts of methods in their networks."""

from typing import Any

import numpy as np
import torch

from plasticbench.agents import dqn, ppo, sac
from plasticbench.contracts.task import BoxActions, DiscreteActions, EnvSpec, EnvStep
from plasticbench.contracts.treatment import Part
from plasticbench.learning.networks import minatar_cnn, mlp, simba
from plasticbench.seeding import Streams, derive_generator

NUM_ENVS, STARTS = 2, 40

DQN = dqn.Config(
    network=minatar_cnn.Config(channels=4, hidden_units=12),
    batch_rows=16,
    capacity_transitions=300,
    learning_starts_steps=STARTS,
)
SAC = sac.Config(
    actor_network=mlp.Config(hidden=(16, 12)),
    critic_network=simba.Config(num_blocks=1, width=8),
    batch_rows=16,
    capacity_transitions=300,
    learning_starts_steps=STARTS,
)
PPO = ppo.Config(trunk="shared", network=minatar_cnn.Config(channels=4, hidden_units=12), rollout_steps=32)
AGENTS: dict[str, tuple[Any, EnvSpec]] = {
    "dqn": (DQN, EnvSpec(obs_shape=(2, 6, 6), obs_dtype="float32", actions=DiscreteActions(count=3))),
    "ppo": (PPO, EnvSpec(obs_shape=(2, 6, 6), obs_dtype="float32", actions=DiscreteActions(count=3))),
    "sac": (SAC, EnvSpec(obs_shape=(5,), obs_dtype="float32", actions=BoxActions(low=(-1.0,) * 2, high=(1.0,) * 2))),
}


def chance(rng: np.random.Generator, spec: EnvSpec, shape: tuple[int, int]) -> EnvStep:
    """What an environment of nothing but chance answers."""
    ends = rng.random((2, *shape)) < 0.05
    reward = rng.standard_normal(shape, dtype=np.float32)
    obs = rng.standard_normal((*shape, *spec.obs_shape), dtype=np.float32)
    return EnvStep(obs, reward, reward, ends[0], ends[1] & ~ends[0])


def agent_with(kind: str, parts: list[Part], updates: int, num_members: int = 2) -> Any:
    """A ``dqn`` or ``ppo`` on maps or a ``sac`` on vectors after some updates; every member has the same parts."""
    config, spec = AGENTS[kind]
    streams = [Streams(seed) for seed in range(num_members)]
    agent = config.build(
        spec=spec,
        num_envs=NUM_ENVS,
        streams=streams,
        budget_steps=600,
        device=torch.device("cpu"),
        parts=[parts] * num_members,
    )
    rng = derive_generator(0, "chance")
    obs = chance(rng, spec, (num_members, NUM_ENVS)).obs
    agent.begin(obs)
    step, made = 0, 0
    while made < updates:
        answer = chance(rng, spec, (num_members, NUM_ENVS))
        agent.observe(agent.act(obs, step), answer)
        obs, step = answer.obs, step + NUM_ENVS
        made += sum(1 for _ in agent.learn(step))
    return agent


def views_of(agent: Any, rows: int = 64) -> dict[str, Any]:
    """What probes see of its networks, by name."""
    uniforms = derive_generator(0, "probe").random((agent.num_members, rows))
    return {view.name: view for view in agent.views(agent.probe_batch(uniforms))}
