"""PPO (Schulman et al. 2017, arXiv 1707.06347) for populations: rollouts, GAE, a clipped objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch

from plasticbench.agents._ppo import PPO
from plasticbench.agents._ppo_networks import actor_layers, critic_layers, shared_layers
from plasticbench.agents._settings import AgentSettings
from plasticbench.contracts.task import BoxActions, EnvSpec
from plasticbench.contracts.treatment import Part
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.networks import mlp, nature_cnn
from plasticbench.plugins import PluginField
from plasticbench.seeding import Streams
from plasticbench.settings import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt

_ON_POLICY = "PPO learns from each rollout and forgets it: rollout_steps, epochs and minibatches say how"
_NO_MEMORY = "its networks have no memory: minibatches are single steps, drawn apart from each other"
_MLP = mlp.Config(hidden=(64, 64), initializer="orthogonal", activation="tanh")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(AgentSettings):
    """Settings of PPO. ``steps`` counts agent steps of one trial, of all its environments together.

    Learning begins anew after every ``rollout_steps``: ``epochs`` times all their rows, in an order of each member's
    own, in ``minibatches`` of equal size. One minibatch is one update.

    ``trunk: shared``: the critic is an output beside the actor's, and ``critic_network`` is not used; ``networks:
    actor`` and ``networks: critic`` then place a treatment on these outputs alone. Where a network's initialiser is
    ``orthogonal``, its gains are those of ``agents/_ppo_networks.py``.

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
    rollout_steps: PositiveInt = 512
    epochs: PositiveInt = 4
    minibatches: PositiveInt = 4
    discount: Fraction = 0.99
    gae_lambda: Fraction = 0.95
    ratio_clip: PositiveFloat = 0.2
    value_clip: PositiveFloat | None = 0.2
    value_coefficient: PositiveFloat = 0.5
    entropy_coefficient: NonNegativeFloat = 0.01
    advantage_norm: Literal["minibatch", "none"] = "minibatch"
    max_gradient_norm: PositiveFloat | None = 0.5
    target_kl: PositiveFloat | None = None
    observation_norm: Literal["none", "running"] = "none"
    reward_norm: Literal["none", "running"] = "none"
    evaluation_policy: Literal["mode", "sampled"] = "mode"
    not_settings: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("replay_ratio", "capacity_transitions", "learning_starts_steps", "n_step"), _ON_POLICY),
        **dict.fromkeys(("recurrent", "lstm", "use_lstm", "lstm_hidden_size", "sequence_steps", "rnn"), _NO_MEMORY),
    }

    def __post_init__(self) -> None:
        AgentSettings.__post_init__(self)
        if self.rollout_steps % self.minibatches:
            raise ValueError(
                f"minibatches: must divide rollout_steps ({self.rollout_steps}) evenly, got {self.minibatches}"
            )
        if self.batch_rows < 2:
            raise ValueError(
                f"minibatches: must leave at least 2 of rollout_steps ({self.rollout_steps}) in each, as one row alone "
                f"has no deviation, got {self.minibatches}"
            )

    def fits(self, num_envs: int, budget_steps: int) -> None:
        """Raises ``ValueError`` for environments or a budget with which nothing would be learnt."""
        if self.rollout_steps % num_envs:
            raise ValueError(
                f"rollout_steps: must be a multiple of the {num_envs} environments, which step together, got "
                f"{self.rollout_steps}"
            )
        if self.rollout_steps > budget_steps:
            raise ValueError(f"rollout_steps: must be at most the budget of {budget_steps}, got {self.rollout_steps}")

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

    def num_updates(self, num_envs: int, budget_steps: int) -> int:
        """Updates of a member within so many steps, where no scenario clears its rollout."""
        return budget_steps // self.rollout_steps * self.epochs * self.minibatches

    @property
    def batch_rows(self) -> int:
        """Rows of an update."""
        return self.rollout_steps // self.minibatches

    @property
    def learning_starts_steps(self) -> int:
        """Agent steps before the first update."""
        return self.rollout_steps - 1

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

    def _row_bytes(self, spec: EnvSpec) -> int:
        number_bytes = 4 if self.observation_norm == "running" else np.dtype(spec.obs_dtype).itemsize
        action_bytes = 4 * len(spec.actions.low) if isinstance(spec.actions, BoxActions) else 8
        return int(np.prod(spec.obs_shape)) * number_bytes + action_bytes + 40

    def memory_bytes(self, spec: EnvSpec, num_members: int) -> int:
        """Bytes of rollouts (that under way, that learnt from, and its rows in another order) and networks."""
        return num_members * (3 * self.rollout_steps * self._row_bytes(spec) + self.network_bytes(spec))

    def device_bytes(self, spec: EnvSpec, num_members: int) -> int:
        """What of ``memory_bytes`` lies on the device."""
        return self.memory_bytes(spec, num_members)

    def disk_bytes(self, spec: EnvSpec, num_members: int) -> int:
        """Bytes of one commit of a population."""
        return num_members * (2 * self.rollout_steps * self._row_bytes(spec) + self.network_bytes(spec))

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
