"""The networks of a stable-baselines3 model under the names that native agents use: what is reset, what is probed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3 import DQN, PPO, SAC, HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy, ContinuousCritic
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor, nn
from torch.optim import Optimizer

Obs = Tensor | dict[str, Tensor]

SHARED = "features_extractor"
"""What SAC's critics read through the actor with ``share_features_extractor``, while their target has its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A part of a policy that is reset as one: paths inside the policy, and names of its output layers.

    ``ignore`` names what it contains of another network: the feature extractor that critics read through the actor.
    """

    name: str
    path: str
    target_path: str | None = None
    outputs: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    optimizer: Optimizer

    def online(self, policy: BasePolicy) -> nn.Module:
        """The trained module."""
        return policy.get_submodule(self.path)

    def target(self, policy: BasePolicy) -> nn.Module | None:
        """The target network, where there is one."""
        return None if self.target_path is None else policy.get_submodule(self.target_path)


def networks(model: BaseAlgorithm) -> tuple[Network, ...]:
    """What a reset concerns. PPO's policy and value networks share an optimizer, and are one."""
    policy: Any = model.policy
    match model:
        case DQN():
            return (Network(name="q", path="q_net", target_path="q_net_target", optimizer=policy.optimizer),)
        case SAC():
            heads = _heads(policy.actor, "mu", "log_std")
            actor = Network(name="actor", path="actor", outputs=heads, optimizer=policy.actor.optimizer)
            shared = (SHARED,) if policy.share_features_extractor and _has_extractor(policy.critic) else ()
            return (actor, *_critics(policy.critic, shared))
        case PPO():
            heads = _heads(policy, "action_net", "value_net")
            return (Network(name="policy", path="", outputs=heads, optimizer=policy.optimizer),)
        case _:
            raise ValueError(f"model: must be a DQN, SAC or PPO of stable-baselines3, got {type(model).__name__}")


def _heads(module: nn.Module, *names: str) -> tuple[str, ...]:
    linear = (path for path, layer in module.named_modules() if isinstance(layer, nn.Linear))
    return tuple(path for path in linear if path.partition(".")[0] in names)


def _has_extractor(critic: ContinuousCritic) -> bool:
    return any(True for _ in critic.features_extractor.parameters())


def _critics(critic: ContinuousCritic, shared_with_actor: tuple[str, ...]) -> list[Network]:
    """Each critic by itself, or all as one where they share a feature extractor."""
    optimizer = critic.optimizer
    names = [f"qf{i}" for i in range(len(critic.q_networks))]
    if _has_extractor(critic):
        outputs = tuple(f"qf{i}.{len(list(q.children())) - 1}" for i, q in enumerate(critic.q_networks))
        return [
            Network(
                name="critic",
                path="critic",
                target_path="critic_target",
                outputs=outputs,
                ignore=shared_with_actor,
                optimizer=optimizer,
            )
        ]
    return [
        Network(name=f"critic{i}", path=f"critic.{name}", target_path=f"critic_target.{name}", optimizer=optimizer)
        for i, name in enumerate(names, start=1)
    ]


def rebuilt(model: BaseAlgorithm) -> BasePolicy:
    """A policy with new initial weights, made as stable-baselines3 made the model's own."""
    own = {"use_sde": model.use_sde} if isinstance(model, PPO) else {}  # DQN's and SAC's stand in the keywords
    policy: BasePolicy = model.policy_class(
        model.observation_space, model.action_space, model.lr_schedule, **own, **model.policy_kwargs
    )
    return policy


def copied(model: BaseAlgorithm) -> BasePolicy:
    """A policy with the same weights; a deep copy would fail where PPO's policy still holds the graph of a pass."""
    with torch.random.fork_rng(devices=[]):
        twin = rebuilt(model).to(model.device)
    twin.load_state_dict(model.policy.state_dict())
    return twin


def require_rebuildable(model: BaseAlgorithm) -> None:
    """Raises ``ValueError`` where the model's policy is not what its class makes of ``policy_kwargs``."""
    name = model.policy_class.__name__
    try:
        with torch.random.fork_rng(devices=[]):
            made = rebuilt(model).state_dict()
    except Exception as error:
        settings = ", ".join(map(str, model.policy_kwargs)) or "none"
        raise ValueError(
            f"policy_kwargs: {name} cannot be built a second time from these settings ({settings}), which fresh "
            f"weights and the first weights need: {type(error).__name__}: {error}"
        ) from error
    own = model.policy.state_dict()
    for key in sorted(own.keys() | made.keys()):
        found, again = (list(values[key].shape) if key in values else "missing" for values in (own, made))
        if found != again:
            raise ValueError(
                f"policy: {key} is {found} in the model but {again} in what {name} makes of policy_kwargs. Give every "
                "change of the policy as policy_kwargs or in a policy class of its own, instead of making it afterwards"
            )


class Sample(NamedTuple):
    """Normalised observations, and the actions taken at them (``None`` from a rollout, where no probe needs them)."""

    obs: Obs
    actions: Tensor | None


def sample(model: BaseAlgorithm, rows: int, seed: int) -> Sample | None:
    """Rows of the replay or the rollout, by a chance of their own; ``None`` while there are none.

    Hindsight replay has none before the end of the first episode.
    """
    if isinstance(model, PPO):
        return Sample(_rollout_obs(model, rows, np.random.Generator(np.random.PCG64(seed))), None)
    assert isinstance(model, DQN | SAC)
    assert model.replay_buffer is not None
    buffer = model.replay_buffer
    if buffer.size() == 0 or (isinstance(buffer, HerReplayBuffer) and not buffer.ep_length.any()):
        return None
    state = np.random.get_state()  # noqa: NPY002 - the buffer draws from NumPy's global generator
    try:
        np.random.seed(seed)  # noqa: NPY002
        drawn = buffer.sample(rows, env=model.get_vec_normalize_env())
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return Sample(drawn.observations, drawn.actions)


def _rollout_obs(model: PPO, rows: int, rng: np.random.Generator) -> Obs:
    index = rng.integers(model.n_steps * model.n_envs, size=rows)

    def chosen(obs: np.ndarray) -> np.ndarray:
        return obs.reshape(-1, *obs.shape[2:])[index]

    obs: Any = model.rollout_buffer.observations
    picked = {key: chosen(value) for key, value in obs.items()} if isinstance(obs, dict) else chosen(obs)
    tensors: Obs = obs_as_tensor(picked, model.device)
    return tensors


class View(NamedTuple):
    """A module as probes look at it, and what it is called with."""

    module: nn.Module
    inputs: Any


class _Part(nn.Module):
    """One of the outputs of PPO's policy, so that a pass runs the layers of that output alone."""

    def __init__(self, policy: Any, output: Callable[[Any, Obs], Any]) -> None:
        super().__init__()
        self.policy, self._output = policy, output

    def forward(self, obs: Obs) -> Any:
        return self._output(self.policy, obs)


def views(model: BaseAlgorithm, policy: Any, batch: Sample) -> dict[str, View]:
    """Every network of a policy by its name."""
    match model:
        case DQN():
            return {"online": View(policy.q_net, batch.obs), "target": View(policy.q_net_target, batch.obs)}
        case SAC():
            critics = {
                **_critic_views("", policy.critic, batch),
                **_critic_views("_target", policy.critic_target, batch),
            }
            return {"actor": View(policy.actor, batch.obs), **critics}
        case _:
            return {
                "actor": View(_Part(policy, lambda own, obs: own.get_distribution(obs)), batch.obs),
                "critic": View(_Part(policy, lambda own, obs: own.predict_values(obs)), batch.obs),
            }


def _critic_views(suffix: str, critic: ContinuousCritic, batch: Sample) -> dict[str, View]:
    assert batch.actions is not None
    if _has_extractor(critic):
        return {f"critic{suffix}": View(critic, (batch.obs, batch.actions))}
    with torch.no_grad():
        features = critic.extract_features(batch.obs, critic.features_extractor)
    inputs = torch.cat([features, batch.actions], dim=1)
    return {f"critic{i}{suffix}": View(q, inputs) for i, q in enumerate(critic.q_networks, start=1)}
