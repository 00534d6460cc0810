"""SAC (Haarnoja et al. 2018, arXiv 1812.05905) for populations: tanh-Gaussian actor, twin critics, own temperature."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from plasticbench.agents import _effects, _sac_orders
from plasticbench.agents._clock import Clock
from plasticbench.agents._losses import entropy_target, policy_loss, smallest, squared_loss
from plasticbench.agents._population import ReplayAgent
from plasticbench.agents._replay import Batch, observations
from plasticbench.agents._replay_stores import new_replay
from plasticbench.agents._running_norm import RunningNorm
from plasticbench.agents._sac_networks import actor_layers, box_actions, critic_layers, joined
from plasticbench.agents._sac_orders import Rows, UpdateOrder, noises
from plasticbench.agents._settings import ReplaySettings
from plasticbench.agents._silence import Silence
from plasticbench.agents._tanh_gaussian import LogStdBound, bounded_log_std, sample
from plasticbench.agents._temperature import Temperature, TemperatureObjective
from plasticbench.agents._uniforms import MemberNormals, MemberUniforms
from plasticbench.agents._value_bound import ValueBound
from plasticbench.contracts.task import EnvSpec, EnvStep
from plasticbench.contracts.treatment import Part
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.networks import mlp, simba
from plasticbench.learning.optimizers import adam
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.plugins import PluginField
from plasticbench.seeding import Streams, derive_generator
from plasticbench.settings import UNHASHED_DEFAULT, Fraction, Gt, NonNegativeFloat, PositiveFloat, PositiveInt


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ReplaySettings):
    """Settings of SAC. ``steps`` counts agent steps of one trial; ``replay_ratio`` is updates per agent step.

    ``target_entropy_coefficient`` times the number of action dimensions is the entropy aimed at, in nats. With
    ``critics: clipped_double`` the smaller of two values counts (Fujimoto et al. 2018, arXiv 1802.09477).
    ``observation_norm: running`` takes the place of the environment's fixed scale. Until learning starts, actions are
    uniform. ``critic_learning_rate`` is ``learning_rate`` where it is left out. ``update_order`` and
    ``policy_period_updates``: see ``agents/_sac_orders.py``.
    """

    actor_network: Annotated[Any, PluginField("networks")] = field(
        default_factory=lambda: mlp.Config(hidden=(256, 256))
    )
    critic_network: Annotated[Any, PluginField("networks")] = field(
        default_factory=lambda: mlp.Config(hidden=(256, 256))
    )
    critics: Literal["single", "clipped_double"] = "clipped_double"
    learning_rate: PositiveFloat = 3e-4
    weight_decay: NonNegativeFloat = 0.0
    temperature_learning_rate: PositiveFloat = 3e-4
    temperature_start: PositiveFloat = 1.0
    target_entropy_coefficient: float = -1.0
    log_std_min: float = -5.0
    log_std_max: float = 2.0
    observation_norm: Literal["none", "running"] = "none"
    batch_rows: PositiveInt = 256
    capacity_transitions: PositiveInt = 1_000_000
    discount: Fraction = 0.99
    target_tau: Annotated[Fraction, Gt(0)] = 0.005
    replay_ratio: PositiveFloat = 1.0
    learning_starts_steps: PositiveInt = 1_000
    critic_learning_rate: PositiveFloat | None = field(default=None, metadata=UNHASHED_DEFAULT)
    temperature_objective: TemperatureObjective = field(default="alpha", metadata=UNHASHED_DEFAULT)
    log_std_bound: LogStdBound = field(default="squashed", metadata=UNHASHED_DEFAULT)
    update_order: UpdateOrder = field(default="simba", metadata=UNHASHED_DEFAULT)
    policy_period_updates: PositiveInt = field(default=1, metadata=UNHASHED_DEFAULT)
    has_temperature: ClassVar[bool] = True

    def __post_init__(self) -> None:
        ReplaySettings.__post_init__(self)
        if self.log_std_min >= self.log_std_max:
            raise ValueError(f"log_std_min: must be below log_std_max ({self.log_std_max}), got {self.log_std_min}")

    def inert(self) -> dict[str, str]:
        """Settings without effect under the current values, and why."""
        always = "the actor is trained in every update unless update_order is cleanrl"
        own = {} if self.update_order == "cleanrl" else {"policy_period_updates": always}
        return own | _effects.inert_ratio(self)

    def inert_within(self, num_envs: int, budget_steps: int) -> dict[str, str]:
        """Settings without effect with so many environments and steps, and why."""
        return _effects.inert_sac_within(self, num_envs, budget_steps)

    @property
    def critic_names(self) -> tuple[str, ...]:
        """The critics, each trained, reset and measured by itself."""
        return ("critic1",) if self.critics == "single" else ("critic1", "critic2")

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks as probes see them."""
        return ("actor", *self.critic_names, *(f"{name}_target" for name in self.critic_names))

    @property
    def trained_networks(self) -> tuple[str, ...]:
        """Names of the networks that treatments may concern."""
        return ("actor", *self.critic_names)

    def build(
        self,
        *,
        spec: EnvSpec,
        num_envs: int,
        streams: Sequence[Streams],
        budget_steps: int,
        device: torch.device,
        parts: Sequence[Sequence[Part]] = (),
        compressed: bool = False,
    ) -> SAC:
        """A population of ``len(streams)`` members with ``num_envs`` environments each, and each one's parts."""
        return SAC(self, spec, num_envs, streams, budget_steps, device, parts, compressed)

    def layers(self, spec: EnvSpec) -> dict[str, Sequence[LayerSpec]]:
        """The layers of actor and critics."""
        return {
            "actor": actor_layers(self.actor_network, spec),
            **dict.fromkeys(self.critic_names, critic_layers(self.critic_network, spec)),
        }

    def memory_bytes(self, spec: EnvSpec, num_members: int) -> int:
        """Bytes of replay and networks of a population."""
        frame_bytes = int(np.prod(spec.frame_shape)) * np.dtype(spec.obs_dtype).itemsize
        row_bytes = frame_bytes + 18 + 4 * len(box_actions(spec).low)
        return num_members * (self.capacity_transitions * row_bytes + self.network_bytes(spec))

    disk_bytes = memory_bytes

    def network_bytes(self, spec: EnvSpec) -> int:
        """Bytes of one member's networks, with gradients and moments."""
        actor, critic = (
            sum(int(np.prod(layer.weight_shape)) for layer in layers)
            for layers in (actor_layers(self.actor_network, spec), critic_layers(self.critic_network, spec))
        )
        return 20 * actor + 24 * len(self.critic_names) * critic


PRESETS = {
    # isaac7778/FIRE rl/sac/configs/agent/simba.yaml; log std and observation statistics as in SonyResearch/simba.
    "fire_paper_sac": Config(
        actor_network=simba.Config(num_blocks=1, width=128),
        critic_network=simba.Config(num_blocks=2, width=512),
        learning_rate=1e-4,
        weight_decay=1e-2,
        temperature_learning_rate=1e-4,
        temperature_start=0.01,
        target_entropy_coefficient=-0.5,
        log_std_min=-10.0,
        observation_norm="running",
        replay_ratio=2.0,
        learning_starts_steps=5_000,
    ),
    # vwxyzjn/cleanrl cleanrl/sac_continuous_action.py at fe8d8a0.
    "cleanrl_sac": Config(
        actor_network=mlp.Config(hidden=(256, 256), initializer="torch_default"),
        critic_network=mlp.Config(hidden=(256, 256), initializer="torch_default"),
        learning_rate=3e-4,
        critic_learning_rate=1e-3,
        temperature_learning_rate=1e-3,
        learning_starts_steps=5_000,
        update_order="cleanrl",
        policy_period_updates=2,
        update_clock="before_step",
    ),
}


def check(config: Config, spec: EnvSpec) -> None:
    """Raises ``ValueError`` if this agent cannot act in such environments."""
    actor_layers(config.actor_network, spec)
    critic_layers(config.critic_network, spec)


class SAC(ReplayAgent):
    """M members in lockstep. ``act`` and ``observe`` take ``[M, E, ...]``; ``learn`` trains after each of them."""

    temperature: Temperature

    def __init__(
        self,
        config: Config,
        spec: EnvSpec,
        num_envs: int,
        streams: Sequence[Streams],
        budget_steps: int,
        device: torch.device,
        parts: Sequence[Sequence[Part]] = (),
        compressed: bool = False,
    ) -> None:
        self.config, self.spec, self.streams, self.device, self.parts = config, spec, streams, device, parts
        self.num_members, self.num_envs = len(streams), num_envs
        low, high = np.array([box_actions(spec).low, box_actions(spec).high], dtype=np.float32)
        self._centre, self._reach = (low + high) / 2, (high - low) / 2
        self._target_entropy = config.target_entropy_coefficient * len(low)
        base = adam.Config(learning_rate=config.learning_rate, eps=1e-8, weight_decay=config.weight_decay)
        critic_base = replace(base, learning_rate=config.critic_learning_rate or config.learning_rate)
        shared: dict[str, Any] = {
            "streams": streams,
            "device": device,
            "parts": parts,
            "max_gradient_norm": config.max_gradient_norm,
            "precision": config.precision,
        }
        build: Callable[..., TrainedNetwork] = partial(TrainedNetwork.build, **shared)
        self.actor = build(
            "actor", actor_layers(config.actor_network, spec), base, target="none", loss_reaches_others=True
        )
        self.critics = tuple(
            build(name, critic_layers(config.critic_network, spec), critic_base) for name in config.critic_names
        )
        start, rate = config.temperature_start, config.temperature_learning_rate
        self.temperature = Temperature(start, rate, len(streams), device, config.temperature_objective)
        # Uniform actions have the highest entropy, and the temperature pays what brings a policy to the one aimed at.
        entropy_nats = max(len(low) * math.log(2), abs(self._target_entropy))
        self.value_bound = ValueBound(config.discount, len(streams), device, entropy_nats)
        self._bound_ratio: Tensor | None = None  # of the latest values that the actor was trained on
        uses_norm = config.observation_norm == "running"
        self._norm = RunningNorm(self.num_members, spec.obs_shape, device) if uses_norm else None
        self.replay = new_replay(config, spec, len(streams), num_envs, budget_steps, device, compressed=compressed)
        self.clock, self.silent = Clock(config, num_envs), Silence(spec)
        self._draws = {
            "exploration": MemberNormals(streams, "exploration", (num_envs, len(low))),
            "batches": MemberUniforms(streams, "replay", (config.batch_rows,)),
            "policy": MemberNormals(streams, "policy", (noises(config), config.batch_rows, len(low))),
        }
        self.update_draws = (self._draws["batches"], self._draws["policy"])

    @property
    def trained(self) -> tuple[TrainedNetwork, ...]:
        """The networks that resets and probes concern."""
        return (self.actor, *self.critics)

    def begin(self, obs: np.ndarray, ended: np.ndarray | None = None) -> None:
        """Starts a new course at ``obs``, after environments or their view of the world were changed."""
        met = self._met(obs)
        self.replay.begin(met, ended)
        self._take_in(met)

    def act(self, obs: np.ndarray, step: int) -> np.ndarray:
        """Actions ``[M, E, A]`` for training: uniform until learning starts, then drawn from the policy."""
        noise = torch.from_numpy(self._draws["exploration"].draw())
        if step <= self.config.learning_starts_steps:
            return self._to_environment(torch.erf(noise / math.sqrt(2)))  # 2 Phi(noise) - 1 is uniform in [-1, 1]
        with torch.no_grad():
            action, _ = self.policy(self._seen(obs), noise.to(self.device))
        return self._to_environment(action)

    def act_in_evaluation(self, obs: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """The policy's most likely actions before squashing; evaluation needs no chance, so uniforms are not used."""
        with torch.no_grad():
            mean, _ = self.actor.online.forward(self._seen(obs)).chunk(2, dim=-1)
        return self._to_environment(torch.tanh(mean))

    def _to_environment(self, action: Tensor) -> np.ndarray:
        scaled: np.ndarray = self._centre + self._reach * action.cpu().numpy()
        return scaled

    def _seen(self, obs: np.ndarray) -> Tensor:
        return self._scaled(torch.from_numpy(obs).to(self.device))

    def _scaled(self, obs: Tensor) -> Tensor:
        if self._norm is not None:
            return self._norm.apply(obs.float())
        return obs.float() * self.spec.obs_scale if self.spec.obs_scale != 1.0 else obs.float()

    def policy(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions in (-1, 1) and their log densities, from scaled observations and standard normal noise."""
        return self._drawn(self.actor.online.forward(obs), noise)

    def _drawn(self, outputs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = outputs.chunk(2, dim=-1)
        config = self.config
        log_std = bounded_log_std(raw, config.log_std_min, config.log_std_max, config.log_std_bound)
        return sample(mean, log_std, noise)

    def observe(self, action: np.ndarray, step: EnvStep) -> None:
        """Stores what followed ``action``; the fields of ``step`` are shaped ``[M, E, ...]``."""
        self.replay.observe(np.clip((action - self._centre) / self._reach, -1, 1), step)
        self._take_in(step.obs)
        self.value_bound.see(step.reward)

    def _take_in(self, obs: np.ndarray) -> None:
        if self._norm is not None:
            self._norm.update(obs)

    def update(self, step: int = 1) -> dict[str, Tensor]:
        """One step of every network that is due, the actor perhaps not, of every member on a batch of its own."""
        self.updates_made += 1
        batch = self.next_batch(step)
        noise = torch.from_numpy(self._draws["policy"].draw()).to(self.device)
        return self._made(_sac_orders.trains_actor(self), batch, (noise,), step)

    def _arithmetic(self, variant: bool, batch: Batch, drawn: Sequence[Tensor], step: int) -> dict[str, Tensor]:
        losses = _sac_orders.update(self, Rows(batch, *self._observations(batch)), drawn[0], step)
        found = {"loss/actor": losses.actor, "loss/temperature": losses.temperature}
        found |= {f"loss/{name}": loss for name, loss in zip(self.config.critic_names, losses.critics, strict=True)}
        if losses.log_prob is not None:
            found |= {"policy/entropy": -losses.log_prob.mean(dim=1), "policy/temperature": self.temperature.value}
        found["q/bound_ratio"] = self._bound_ratio if losses.actor is not None else None
        return {name: value for name, value in found.items() if value is not None}

    def trained_policy(self, obs: Tensor, noise: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Actions and their log densities, from a pass that the actor is about to be trained on."""
        self.actor.begin(step)
        return self._drawn(self.actor.forward(obs), noise)

    def train_actor(self, obs: Tensor, action: Tensor, log_prob: Tensor, temperature: Tensor, step: int) -> Tensor:
        """One step towards actions of more value and less certainty; returns the loss ``[M]``."""
        loss, q = self._actor_loss(obs, action, log_prob, temperature)
        self._bound_ratio = self.value_bound.ratio(q.detach(), temperature)
        self.actor.descend(loss, step)
        return loss.detach()

    def train_temperature(self, log_prob: Tensor) -> Tensor:
        """One step towards the target entropy; returns the loss ``[M]``."""
        return self.temperature.update(log_prob, self._target_entropy)

    def train_critics(self, rows: Rows, noise: Tensor, temperature: Tensor, step: int) -> list[Tensor]:
        """One step of each critic, and of its target behind it; returns the losses ``[M]``."""
        for critic in self.critics:
            critic.begin(step)
        losses = self._critic_losses(rows, noise, temperature)
        for critic, loss in zip(self.critics, losses, strict=True):
            critic.descend(loss, step)
            critic.move_target(self.config.target_tau)
        return [loss.detach() for loss in losses]

    def _with_actions(self, obs: Tensor) -> Tensor:
        return joined(obs, self.policy(obs, self._probe_noise(obs.shape[1])[:, 1])[0].detach())

    def _actor_loss(self, obs: Tensor, action: Tensor, log_prob: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """The loss ``[M]``, and the values ``[M, B]`` of these actions."""
        q = smallest([critic.online.forward(joined(obs, action)) for critic in self.critics])
        return policy_loss(q, log_prob, temperature), q

    def _critic_losses(self, rows: Rows, noise: Tensor, temperature: Tensor) -> list[Tensor]:
        batch, obs, next_obs = rows
        with torch.no_grad():
            next_action, next_log_prob = self.policy(next_obs, noise)
            next_inputs = joined(next_obs, next_action)
            next_q = smallest([critic.forward_target(next_inputs) for critic in self.critics])
            target = entropy_target(batch.reward, batch.terminated, next_q, next_log_prob, temperature, batch.discount)
        inputs = joined(obs, batch.action)
        return [squared_loss(critic.forward(inputs, next_inputs).squeeze(-1), target) for critic in self.critics]

    def _observations(self, batch: Batch) -> tuple[Tensor, Tensor]:
        obs, next_obs = observations(batch.frames, self.spec.frame_stack)
        return self._scaled(obs), self._scaled(next_obs)

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """What the actor reads, normalised observations, and the critics, joined with actions: ``[M, N, ...]``."""
        obs = self._observations(batch)[0]
        return {"actor": obs, **dict.fromkeys(self.config.critic_names, joined(obs, batch.action))}

    def losses(self, batch: Batch) -> list[Tensor]:
        """The losses ``[M]`` of actor and critics."""
        noise, temperature = self._probe_noise(batch.action.shape[1]), self.temperature.value
        rows = Rows(batch, *self._observations(batch))
        critic_losses = self._critic_losses(rows, noise[:, 1], temperature)
        actor_loss, _ = self._actor_loss(rows.obs, *self._drawn(self.actor.forward(rows.obs), noise[:, 0]), temperature)
        return [actor_loss, *critic_losses]

    def _probe_noise(self, rows: int) -> Tensor:
        """The same noise at every look, so that values before and after a reset differ by the reset alone."""
        shape = (2, rows, len(self._centre))
        drawn = [derive_generator(s.seed, "probe noise").standard_normal(shape, dtype=np.float32) for s in self.streams]
        return torch.from_numpy(np.stack(drawn)).to(self.device)

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors ``[M, ...]`` and plain data, the replay left out (it is saved in chunks)."""
        tensors, plain = super().state_dict()
        tensors |= self.temperature.state_dict() | (self._norm.state_dict() if self._norm is not None else {})
        return tensors, plain | {"draws": {name: draw.state_dict() for name, draw in self._draws.items()}}

    def load_state_dict(self, tensors: dict[str, Tensor], plain: dict[str, Any], parents: Sequence[int]) -> None:
        """Member i continues as the saved member ``parents[i]``: the identity resumes, anything else forks."""
        self.temperature.load_state_dict(tensors, parents)
        if self._norm is not None:
            self._norm.load_state_dict(tensors, parents)
        for name, draw in self._draws.items():
            draw.load_state_dict(plain["draws"][name], parents)
        super().load_state_dict(tensors, plain, parents)
