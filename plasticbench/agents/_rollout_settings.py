"""The settings that agents with rollouts share, and what they answer alike about themselves."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from plasticbench.agents._settings import AgentSettings
from plasticbench.contracts.network import Shown
from plasticbench.contracts.task import BoxActions, EnvSpec
from plasticbench.settings import PositiveInt

_FACT_BYTES = 40  # of a row: five numbers, on the host and where they are learnt from
_ON_POLICY = "a rollout is learnt from and forgotten: rollout_steps, epochs and minibatches say how"
_NO_MEMORY = "networks have no memory: minibatches are single steps, drawn apart from each other"


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutSettings(AgentSettings):
    """Settings of agents that learn from what their present policy did.

    Learning begins anew after every ``rollout_steps``: ``epochs`` times all their rows, in an order of each member's
    own, in ``minibatches`` of equal size. One minibatch is one update. ``observation_norm: running`` takes the place of
    the environment's fixed scale.
    """

    shows: ClassVar[frozenset[Shown]] = frozenset({"losses", "policy", "values"})

    rollout_steps: PositiveInt = 512
    epochs: PositiveInt = 4
    minibatches: PositiveInt = 4
    observation_norm: Literal["none", "running"] = "none"
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

    @abstractmethod
    def network_bytes(self, spec: EnvSpec) -> int:
        """Bytes of one member's networks, with gradients and moments."""

    def fits(self, num_envs: int, budget_steps: int) -> None:
        """Raises ``ValueError`` where the environments cannot fill a rollout, or the budget is shorter than one."""
        if self.rollout_steps % num_envs:
            raise ValueError(
                f"rollout_steps: must be a multiple of the {num_envs} environments, which step together, got "
                f"{self.rollout_steps}"
            )
        if self.rollout_steps > budget_steps:
            raise ValueError(f"rollout_steps: must be at most the budget of {budget_steps}, got {self.rollout_steps}")

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

    def _rollout_bytes(self, spec: EnvSpec) -> int:
        number_bytes = 4 if self.observation_norm == "running" else np.dtype(spec.obs_dtype).itemsize
        action_bytes = 4 * len(spec.actions.low) if isinstance(spec.actions, BoxActions) else 8
        row_bytes = int(np.prod(spec.obs_shape)) * number_bytes + action_bytes + _FACT_BYTES
        return self.rollout_steps * row_bytes

    def memory_bytes(self, spec: EnvSpec, num_members: int) -> int:
        """Bytes of rollouts (that under way, that learnt from, and its rows in another order) and networks."""
        return num_members * (3 * self._rollout_bytes(spec) + self.network_bytes(spec))

    def device_bytes(self, spec: EnvSpec, num_members: int) -> int:
        """What of ``memory_bytes`` lies on the device."""
        return self.memory_bytes(spec, num_members)

    def disk_bytes(self, spec: EnvSpec, num_members: int) -> int:
        """Bytes of one commit of a population."""
        return num_members * (2 * self._rollout_bytes(spec) + self.network_bytes(spec))
