"""RLlib's own DQN and SAC (new API stack, torch) under the same resets, probes, clock and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from plasticbench.agents._rllib_settings import DEFAULTS, check_settings
from plasticbench.contracts import BoxActions, Demands, EnvSpec
from plasticbench.seeding import Streams

if TYPE_CHECKING:
    from plasticbench.agents._rllib_agent import RLlibAgent

_PROCESS_BYTES = 700_000_000  # ray, RLlib and torch in one process; measured as resident memory of a worker
_LIBRARY_BYTES = 300_000_000  # RLlib in a process that has the others
_ROW_BYTES = 400  # Python objects beside each stored transition


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """``config`` and ``model`` hold RLlib's own settings, of AlgorithmConfig and DefaultModelConfig: docs/rllib.md.

    With ``num_learners: 1`` updates are made in a process of their own. One trial is one process: members are not
    trained in lockstep.
    """

    algorithm: Literal["DQN", "SAC"] = "DQN"
    config: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    num_learners: Literal[0, 1] = 0

    def __post_init__(self) -> None:
        if self.algorithm not in DEFAULTS:
            raise ValueError(f"algorithm: must be one of {', '.join(DEFAULTS)}, got {self.algorithm!r}")
        if self.num_learners not in (0, 1):
            raise ValueError(f"num_learners: must be 0 (this process) or 1 (its own), got {self.num_learners!r}")
        check_settings(self.algorithm, self.config, self.model)
        if self.updates_per_round < 1:
            raise ValueError(
                f"config.training_intensity: must make at least one update per rollout fragment, got "
                f"{self.config['training_intensity']}. Give rollout_fragment_length a larger value instead"
            )
        if self.config.get("n_step", 1) > self.fragment_steps:
            raise ValueError(
                f"config.n_step: must be at most rollout_fragment_length ({self.fragment_steps}), got "
                f"{self.config['n_step']}"
            )

    def setting(self, name: str) -> Any:
        """A setting of ``config``, or RLlib's default."""
        return self.config.get(name, DEFAULTS[self.algorithm].get(name))

    @property
    def fragment_steps(self) -> int:
        """Agent steps between two looks at the agent."""
        return int(self.config.get("rollout_fragment_length", self.config.get("n_step", 1)))

    @property
    def updates_per_round(self) -> int:
        """RLlib's own rule: trained transitions per sampled one, in whole batches."""
        if "training_intensity" not in self.config:
            return 1
        native = self.setting("train_batch_size_per_learner") / self.fragment_steps
        ratio: float = self.config["training_intensity"] / native
        return round(ratio) if ratio >= 1 else 0

    @property
    def capacity_transitions(self) -> int:
        """Transitions that the replay holds."""
        return int(self.config.get("replay_buffer_config", {}).get("capacity", DEFAULTS[self.algorithm]["capacity"]))

    @property
    def learning_starts_steps(self) -> int:
        """Agent steps before the first update."""
        return int(self.setting("num_steps_sampled_before_learning_starts"))

    @property
    def has_temperature(self) -> bool:
        """Whether entropy is weighed by a temperature, which a reset may concern."""
        return self.algorithm == "SAC"

    @property
    def demands(self) -> Demands:
        """One member with one environment, on the CPU; a learner of its own needs one more."""
        return Demands(
            round_steps=self.fragment_steps, max_members=1, max_envs=1, helper_cpus=self.num_learners, devices=("cpu",)
        )

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks as probes see them: those of the native agents."""
        if self.algorithm == "DQN":
            return ("online", "target")
        critics = ("critic1", "critic2") if self.config.get("twin_q", True) else ("critic1",)
        return ("actor", *critics, *(f"{name}_target" for name in critics))

    def build(
        self, *, spec: EnvSpec, num_envs: int, streams: Sequence[Streams], budget_steps: int, device: torch.device
    ) -> RLlibAgent:
        """The agent of one member; Ray must be running."""
        from plasticbench.agents._rllib_agent import RLlibAgent  # seconds of imports, and ray

        return RLlibAgent(self, spec, streams[0])

    def memory_bytes(self, spec: EnvSpec, num_members: int) -> int:
        """Bytes of RLlib, of its learner's process and of the replay."""
        replay_bytes = self.disk_bytes(spec, num_members) + num_members * self.capacity_transitions * _ROW_BYTES
        return num_members * (_LIBRARY_BYTES + self.num_learners * _PROCESS_BYTES) + replay_bytes

    def disk_bytes(self, spec: EnvSpec, num_members: int) -> int:
        """Bytes of the replay's observations, actions and rewards, which are nearly all of a commit."""
        actions = len(spec.actions.low) if isinstance(spec.actions, BoxActions) else 2
        return num_members * self.capacity_transitions * 4 * (int(np.prod(spec.obs_shape)) + actions + 1)


def check(config: Config, spec: EnvSpec) -> None:
    """Raises ``ValueError`` if this agent cannot act in such environments."""
    needs_box, has_box = config.algorithm == "SAC", isinstance(spec.actions, BoxActions)
    if needs_box != has_box:
        wanted, other = ("continuous", "DQN") if needs_box else ("discrete", "SAC")
        raise ValueError(f"RLlib's {config.algorithm} needs {wanted} actions. Choose algorithm {other}")
    if needs_box and len(spec.obs_shape) != 1:
        raise ValueError(f"RLlib's SAC needs vectors as observations, but they are shaped {list(spec.obs_shape)}")
