"""PPO (Schulman et al. 2017, arXiv 1707.06347) for populations: rollouts, GAE, a clipped objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from plasticbench.agents._early_stops import EarlyStops, exceeding
from plasticbench.agents._losses import clipped_policy_loss, normalised, value_loss, weighted_mean
from plasticbench.agents._policies import policy_for
from plasticbench.agents._population import PopulationAgent
from plasticbench.agents._ppo_networks import actor_layers, critic_layers, head_layers, shared_layers
from plasticbench.agents._reward_norm import RewardNorm
from plasticbench.agents._rollout import Rollouts, Rows
from plasticbench.agents._rollout_settings import RolloutSettings
from plasticbench.agents._running_norm import RunningNorm
from plasticbench.agents._silence import Silence
from plasticbench.agents._uniforms import MemberNormals, MemberUniforms
from plasticbench.agents._value_bound import ValueBound
from plasticbench.contracts.task import BoxActions, EnvSpec, EnvStep
from plasticbench.contracts.treatment import Part, Report
from plasticbench.learning.clipping import MemberClipping
from plasticbench.learning.descent import descend_together
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.networks import mlp, nature_cnn
from plasticbench.learning.optimizers import adam
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.plugins import PluginField
from plasticbench.seeding import Streams
from plasticbench.settings import Fraction, NonNegativeFloat, PositiveFloat

_OBSERVATION_LIMIT = 10.0  # of normalised ones, in deviations, as in CleanRL and stable-baselines3
_MLP = mlp.Config(hidden=(64, 64), initializer="orthogonal", activation="tanh")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(RolloutSettings):
    """Settings of PPO. ``steps`` counts agent steps of one trial, of all its environments together.

    Learning begins anew after every ``rollout_steps``: ``epochs`` times all their rows, in an order of each member's
    own, in ``minibatches`` of equal size. One minibatch is one update.

    ``trunk: shared``: the critic is an output beside the actor's and ``critic_network`` unused; ``networks: actor`` and
    ``critic`` then place a treatment on these alone. ``orthogonal`` has the gains of ``agents/_ppo_networks.py``.

    ``ratio_clip``, ``value_clip``, ``value_coefficient`` and ``entropy_coefficient`` belong to the loss.
    ``advantage_norm``: over each member's rows of a minibatch. ``max_gradient_norm`` holds each member's gradient over
    all of its networks together, before treatments see it. ``learning_rate_schedule: linear``: every step of the
    optimizer, of whatever kind, is multiplied with the part of the budget that was left when its rollout began.
    ``target_kl``: a member whose policy has moved that far within an epoch leaves the others of its rollout out.
    """

    trunk: Literal["separate", "shared"] = "separate"
    network: Annotated[Any, PluginField("networks")] = field(default_factory=lambda: _MLP)
    critic_network: Annotated[Any, PluginField("networks")] = field(default_factory=lambda: _MLP)
    learning_rate: PositiveFloat = 2.5e-4
    learning_rate_schedule: Literal["constant", "linear"] = "constant"
    adam_eps: PositiveFloat = 1e-5
    discount: Fraction = 0.99
    gae_lambda: Fraction = 0.95
    ratio_clip: PositiveFloat = 0.2
    value_clip: PositiveFloat | None = 0.2
    value_coefficient: PositiveFloat = 0.5
    entropy_coefficient: NonNegativeFloat = 0.01
    advantage_norm: Literal["minibatch", "none"] = "minibatch"
    max_gradient_norm: PositiveFloat | None = 0.5
    target_kl: PositiveFloat | None = None
    reward_norm: Literal["none", "running"] = "none"
    evaluation_policy: Literal["mode", "sampled"] = "mode"

    def inert(self) -> dict[str, str]:
        """Settings without effect under the current values, and why."""
        inert = {}
        if self.trunk == "shared":
            inert["critic_network"] = "the critic reads what the actor reads"
        if self.epochs == 1:
            inert["target_kl"] = "there is one epoch, and it is not left out"
            if self.minibatches == 1:
                only = "the only update from a rollout begins where its policy and values are"
                inert |= dict.fromkeys(("ratio_clip", "value_clip"), only)
        return inert

    def inert_within(self, num_envs: int, budget_steps: int) -> dict[str, str]:
        """Settings without effect with so many environments and steps, and why."""
        if budget_steps < 2 * self.rollout_steps:
            return {"learning_rate_schedule": f"the budget of {budget_steps} steps has one rollout"}
        return {}

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks as probes see them."""
        return ("shared",) if self.trunk == "shared" else ("actor", "critic")

    @property
    def trained_networks(self) -> tuple[str, ...]:
        """Names of the networks that treatments may concern; of a shared one also its two outputs."""
        return ("shared", "actor", "critic") if self.trunk == "shared" else ("actor", "critic")

    def layers(self, spec: EnvSpec) -> dict[str, Sequence[LayerSpec]]:
        """The layers of each network that is built."""
        if self.trunk == "shared":
            return {"shared": shared_layers(self.network, spec)}
        return {"actor": actor_layers(self.network, spec), "critic": critic_layers(self.critic_network, spec)}

    def sections(self, spec: EnvSpec) -> dict[str, Sequence[LayerSpec]]:
        """Layers of a network that is built, on which treatments may be placed alone."""
        return {**head_layers(self.network, spec)} if self.trunk == "shared" else {}

    def build(
        self,
        *,
        spec: EnvSpec,
        num_envs: int,
        streams: Sequence[Streams],
        budget_steps: int,
        device: torch.device,
        parts: Sequence[Sequence[Part]] = (),
    ) -> PPO:
        """A population of ``len(streams)`` members with ``num_envs`` environments each, and each one's parts."""
        return PPO(self, spec, num_envs, streams, budget_steps, device, parts)

    def network_bytes(self, spec: EnvSpec) -> int:
        """Bytes of one member's networks, with gradients and moments."""
        return 24 * sum(int(np.prod(layer.weight_shape)) for own in self.layers(spec).values() for layer in own)


PRESETS = {
    # vwxyzjn/cleanrl cleanrl/ppo.py at fe8d8a0, for 4 environments of classic control over 500,000 steps.
    "cleanrl_ppo": Config(learning_rate_schedule="linear", evaluation_policy="sampled"),
    # vwxyzjn/cleanrl cleanrl/ppo_continuous_action.py at fe8d8a0, for 1 environment over 1,000,000 steps.
    "cleanrl_ppo_continuous": Config(
        learning_rate=3e-4,
        learning_rate_schedule="linear",
        rollout_steps=2048,
        epochs=10,
        minibatches=32,
        entropy_coefficient=0.0,
        observation_norm="running",
        reward_norm="running",
    ),
    # vwxyzjn/cleanrl cleanrl/ppo_atari.py at fe8d8a0, for 8 environments over 10,000,000 steps.
    "cleanrl_ppo_atari": Config(
        trunk="shared",
        network=nature_cnn.Config(initializer="orthogonal"),
        learning_rate_schedule="linear",
        rollout_steps=1024,
        ratio_clip=0.1,
        value_clip=0.1,
        evaluation_policy="sampled",
    ),
}


def check(config: Config, spec: EnvSpec) -> None:
    """Raises ``ValueError`` if this agent cannot act in such environments."""
    config.layers(spec)
    if isinstance(spec.actions, BoxActions) and config.evaluation_policy == "sampled":
        raise ValueError("evaluation_policy: must be mode for continuous actions, got sampled")


class PPO(PopulationAgent[Rows]):
    """M members in lockstep. ``act`` and ``observe`` take ``[M, E, ...]``; ``learn`` trains at a rollout's end."""

    temperature = None  # entropy has a fixed weight

    def __init__(
        self,
        config: Config,
        spec: EnvSpec,
        num_envs: int,
        streams: Sequence[Streams],
        budget_steps: int,
        device: torch.device,
        parts: Sequence[Sequence[Part]] = (),
    ) -> None:
        self.config, self.spec, self.streams, self.device, self.parts = config, spec, streams, device, parts
        self.num_members, self.num_envs, self._budget_steps = len(streams), num_envs, budget_steps
        base = adam.Config(learning_rate=config.learning_rate, eps=config.adam_eps, weight_decay=0.0)
        build = partial(
            TrainedNetwork.build,
            base=base,
            streams=streams,
            device=device,
            target="none",
            parts=parts,
            precision=config.precision,
            sections={name: frozenset(layer.name for layer in own) for name, own in config.sections(spec).items()},
        )
        self._networks = tuple(build(name, layers) for name, layers in config.layers(spec).items())
        limit, slots = config.max_gradient_norm, [network.online.slots for network in self._networks]
        self._clip = None if limit is None else MemberClipping(slots[0], limit, *slots[1:])
        self._policy = policy_for(spec.actions)
        self._norm = RunningNorm(len(streams), spec.obs_shape, device) if config.observation_norm == "running" else None
        self._reward_norm = (
            RewardNorm(len(streams), num_envs, config.discount) if config.reward_norm == "running" else None
        )
        self._norms = [norm for norm in (self._norm, self._reward_norm) if norm is not None]
        stored = "float32" if self._norm is not None else spec.obs_dtype
        self.replay = self.rollouts = Rollouts(
            spec, len(streams), num_envs, config.rollout_steps // num_envs, device, stored
        )
        self.value_bound, self.silent = ValueBound(config.discount, len(streams), device), Silence(spec)
        chance = MemberNormals if isinstance(spec.actions, BoxActions) else MemberUniforms
        self._chance = chance(streams, "exploration", (num_envs, self._policy.num_uniforms))

    @property
    def trained(self) -> tuple[TrainedNetwork, ...]:
        """The networks that resets and probes concern."""
        return self._networks

    # -- acting --------------------------------------------------------------------------------------------------

    def begin(self, obs: np.ndarray, ended: np.ndarray | None = None) -> None:
        """Starts a new course at ``obs``, after environments or their view of the world were changed."""
        before = self._value_of(self.rollouts.latest) if self.rollouts.needs_cut else None
        met = self._met(obs)
        self.rollouts.begin(met, ended, before)
        if self._reward_norm is not None:
            self._reward_norm.begin()
        self._take_in(met)

    @torch.no_grad()
    def act(self, obs: np.ndarray, step: int) -> np.ndarray:
        """Actions for training, drawn from the policy."""
        stored = self._stored(self.silent.observed(obs))
        outputs, value = self._outputs(self._scaled(stored))
        action, log_prob = self._policy.sample(outputs, self._chance.draw())
        facts = torch.stack((log_prob, value)).cpu().numpy()
        self.rollouts.act(stored, action, *self.silent.observed(facts.swapaxes(0, 1)).swapaxes(0, 1))
        return self._policy.to_environment(action)

    @torch.no_grad()
    def act_in_evaluation(self, obs: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Actions for evaluation, with uniforms ``[M, E, 2]`` from outside the trial's streams."""
        outputs, _ = self._outputs(self._scaled(self._stored(obs)))
        if self.config.evaluation_policy == "mode":
            return self._policy.to_environment(self._policy.mode(outputs))
        return self._policy.to_environment(self._policy.sample(outputs, uniforms[..., :1])[0])

    @torch.no_grad()
    def _value_of(self, obs: np.ndarray) -> np.ndarray:
        found: np.ndarray = self._outputs(self._scaled(self._stored(obs)))[1].cpu().numpy()
        return self.silent.observed(found)

    def _stored(self, obs: np.ndarray) -> Tensor:
        """Observations as rollouts keep them: as they are, or normalised by what is known when they are met."""
        met = torch.from_numpy(obs).to(self.device)
        if self._norm is None:
            return met
        return self._norm.apply(met.float()).clamp_(-_OBSERVATION_LIMIT, _OBSERVATION_LIMIT)

    def _scaled(self, stored: Tensor) -> Tensor:
        """What networks read of them."""
        scale = self.spec.obs_scale if self._norm is None else 1.0
        return stored.float() * scale if scale != 1.0 else stored.float()

    def _outputs(self, obs: Tensor, *, is_update: bool = False) -> tuple[Tensor, Tensor]:
        """What the policy is made of ``[M, B, outputs]``, and values ``[M, B]``."""
        found = [network.forward(obs) if is_update else network.online.forward(obs) for network in self._networks]
        if len(found) == 1:
            return found[0][..., :-1], found[0][..., -1]
        return found[0], found[1].squeeze(-1)

    def observe(self, action: np.ndarray, step: EnvStep) -> None:
        """Keeps what followed; the fields of ``step`` are shaped ``[M, E, ...]``."""
        reward = step.reward
        if self._reward_norm is not None:
            reward = self._reward_norm.scaled(step, self.rollouts.is_transition)
        self.rollouts.observe(step, reward)
        self._take_in(step.obs)
        self.value_bound.see(reward)

    def _take_in(self, obs: np.ndarray) -> None:
        if self._norm is not None:
            self._norm.update(obs)

    # -- learning ------------------------------------------------------------------------------------------------

    def learn(self, step: int) -> Iterator[dict[str, Tensor]]:
        """Makes all updates from a rollout that is complete now; yields each one's metrics ``[M]``."""
        if not self.rollouts.is_complete:
            return
        config, value = self.config, self._value_of(self.rollouts.latest)
        rows = self.rollouts.finish(value, config.discount, config.gae_lambda)
        stops = EarlyStops(self._networks, self.streams)
        extra = {"q/bound_ratio": self.value_bound.ratio(rows.value)}
        for order in self._orders(rows.facts.shape[1]):
            shuffled = rows.taken(order)
            for start in range(0, config.rollout_steps, config.batch_rows):
                metrics = self.update(shuffled.part(start, start + config.batch_rows), step)
                self._hold()
                yield stops.reported(metrics | extra)
                extra = {}
            if config.target_kl is not None:
                stops.stop(exceeding(metrics["policy/approx_kl"], config.target_kl), metrics)
                if stops.are_all:
                    break
        stops.restore()

    def _orders(self, num_rows: int) -> Iterator[np.ndarray]:
        """For each epoch an order of the rows ``[M, num_rows]``, each member's from its own stream."""
        epochs = np.tile(np.arange(num_rows), (self.config.epochs, 1))
        drawn = np.stack([streams["minibatches"].permuted(epochs, axis=1) for streams in self.streams])
        return iter(drawn.swapaxes(0, 1))

    def update(self, rows: Rows, step: int) -> dict[str, Tensor]:
        """One gradient step of every member on rows of its own, at clock ``step``."""
        self.updates_made += 1
        for network in self._networks:
            network.begin(step)
        losses, metrics = self._losses(rows, is_update=True)
        descend_together(self._networks, torch.stack(losses).sum(0), step, self._clip, self._share(step))
        return metrics

    def _share(self, step: int) -> float:
        """How much of its step an optimizer makes: what of the budget's whole rollouts was left as this one began."""
        if self.config.learning_rate_schedule == "constant":
            return 1.0
        steps = self.config.rollout_steps
        return max(0.0, 1 - (step - steps) / (self._budget_steps // steps * steps))

    def _losses(self, rows: Rows, *, is_update: bool = False) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The losses ``[M]`` of policy and values, and the metrics of an update."""
        config, weight = self.config, rows.weight
        outputs, value = self._outputs(self._scaled(rows.obs), is_update=is_update)
        log_prob, entropy = self._policy.judge(outputs, rows.action)
        log_ratio = log_prob - rows.log_prob
        advantage = normalised(rows.advantage, weight) if config.advantage_norm == "minibatch" else rows.advantage
        policy = clipped_policy_loss(log_ratio, advantage, config.ratio_clip, weight)
        mean_entropy = weighted_mean(entropy, weight)
        of_values = value_loss(value, rows.value, rows.target, config.value_clip, weight)
        with torch.no_grad():
            ratio = log_ratio.exp()
            metrics = {
                "loss/actor": policy.detach(),
                "loss/critic": of_values.detach(),
                "policy/entropy": mean_entropy.detach(),
                "policy/approx_kl": weighted_mean(ratio - 1 - log_ratio, weight),
                "policy/clip_fraction": weighted_mean(((ratio - 1).abs() > config.ratio_clip).float(), weight),
            }
        return [policy - config.entropy_coefficient * mean_entropy, config.value_coefficient * of_values], metrics

    # -- probes and resets ---------------------------------------------------------------------------------------

    def probe_batch(self, uniforms: np.ndarray) -> Rows | None:
        """Rows of the last rollout that was learnt from, chosen by uniforms ``[M, N]``."""
        return self.rollouts.sample(uniforms)

    def inputs(self, batch: Rows) -> dict[str, Tensor]:
        """What every network reads of rows, scaled or normalised: ``[M, N, ...]``."""
        return dict.fromkeys((network.name for network in self._networks), self._scaled(batch.obs))

    def losses(self, batch: Rows) -> list[Tensor]:
        """Each network's loss ``[M]`` on rows."""
        losses, _ = self._losses(batch)
        return losses if len(self._networks) == len(losses) else [torch.stack(losses).sum(0)]

    def followed(self, gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Flat gradients of the losses, by network, as optimizers would follow them: held together."""
        held = {name: gradient.clone() for name, gradient in gradients.items()}
        if self._clip is not None:
            self._clip(*held.values())
        return held

    def treat(self, members: Sequence[int], index: int, step: int, batch: Rows | None) -> dict[str, Report]:
        """The event of part ``index`` of the members' methods; who acts otherwise from then on forgets what it did."""
        reports = super().treat(members, index, step, batch)
        if any(report.touched for report in reports.values()):
            self.rollouts.forget(members)
        return reports

    def silence(self, faults: Mapping[int, str]) -> None:
        """These members are zeros from now on."""
        super().silence(faults)
        if faults and self._reward_norm is not None:
            self._reward_norm.silence(list(self.not_finite))

    # -- saving and going on -------------------------------------------------------------------------------------

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors ``[M, ...]`` and plain data."""
        tensors, plain = super().state_dict()
        rows, place = self.rollouts.state_dict()
        for named in (rows, *(norm.state_dict() for norm in self._norms)):
            tensors |= named
        return tensors, plain | {"rollout": place, "exploration": self._chance.state_dict()}

    def load_state_dict(self, tensors: dict[str, Tensor], plain: dict[str, Any], parents: Sequence[int]) -> None:
        """Member i continues as the saved member ``parents[i]``: the identity resumes, anything else forks."""
        for norm in self._norms:
            norm.load_state_dict(tensors, parents)
        self.rollouts.load_state_dict(tensors, plain["rollout"], parents)
        self._chance.load_state_dict(plain["exploration"], parents)
        super().load_state_dict(tensors, plain, parents)
