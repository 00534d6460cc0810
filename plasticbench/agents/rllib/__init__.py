"""RLlib's own DQN and SAC (new API stack, torch) under the same resets, probes, clock and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from plasticbench.agents.rllib.settings import Settings
from plasticbench.contracts.task import BoxActions, EnvSpec
from plasticbench.contracts.treatment import Hook, Part
from plasticbench.seeding import Streams

if TYPE_CHECKING:
    from plasticbench.agents.rllib.agent import RLlibAgent

_PROCESS_BYTES = 700_000_000  # ray, RLlib and torch in one process; measured as resident memory of a worker
_LIBRARY_BYTES = 300_000_000  # RLlib in a process that has the others
_ROW_BYTES = 400  # Python objects beside each stored transition


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``config`` and ``model`` hold RLlib's own settings, of AlgorithmConfig and DefaultModelConfig: docs/rllib.md.

    With ``num_learners: 1`` updates are made in a process of their own. One trial is one process: members are not
    trained in lockstep.
    """

    hooks: ClassVar[tuple[Hook, ...]] = ("event",)  # updates are RLlib's own

    @property
    def trained_networks(self) -> tuple[str, ...]:
        """Names of the networks that treatments may concern."""
        return ("q",) if self.algorithm == "DQN" else tuple(n for n in self.networks if not n.endswith("_target"))

    def build(
        self,
        *,
        spec: EnvSpec,
        num_envs: int,
        streams: Sequence[Streams],
        budget_steps: int,
        device: torch.device,
        parts: Sequence[Sequence[Part]] = ((),),
    ) -> RLlibAgent:
        """The agent of one member; Ray must be running."""
        from plasticbench.agents.rllib.agent import RLlibAgent  # seconds of imports, and ray

        return RLlibAgent(self, spec, streams[0], parts[0])

    def fitted(self, budget_steps: int) -> Config:
        """These settings with a replay no larger than so many steps fill."""
        capacity = min(self.capacity_transitions, budget_steps)
        return replace(self, config={**self.config, "replay_buffer_config": {"capacity": capacity}})

    def layers(self, spec: EnvSpec) -> dict[str, Sequence[object]]:
        """RLlib builds its networks itself."""
        return {}

    def network_bytes(self, spec: EnvSpec) -> int:
        """Counted with the library's process."""
        return 0

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
