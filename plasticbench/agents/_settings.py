"""What most agents answer alike about themselves, and the settings that those with a replay share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np

from plasticbench.agents._effects import inert_updates, num_updates
from plasticbench.agents._replay import INDEX_ROW_BYTES
from plasticbench.contracts.learner import Precision, ReplayStore
from plasticbench.contracts.network import Shown
from plasticbench.contracts.task import Demands, EnvSpec
from plasticbench.contracts.treatment import Hook
from plasticbench.learning.replays import uniform
from plasticbench.plugins import PluginField
from plasticbench.settings import UNHASHED_DEFAULT, Ge, NonNegativeFloat, PositiveFloat, PositiveInt, Settings

_COMPRESSED_FROM_BYTES = 256 << 20
"""What a member's frames may take raw: opening blocks takes time where networks are small, and so are their replays."""

UpdateClock = Literal["after_step", "before_step"]
"""Which clock decides what is due: that after the step of the environments that was just taken, or that before it, by
which everything comes one step of the environments later, as in CleanRL."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentSettings(Settings):
    """Base of agents' Configs: treatments may act at every moment, there is no temperature, and nothing is demanded.

    ``precision``: of what products and convolutions of hidden layers read and give. With ``bfloat16`` 8 bits of
    a number count, and a processor that has such products makes several times as many. Outputs of native networks,
    weights, gradients and losses are float32 always; modules are rounded whole.
    """

    precision: Precision = field(default="float32", metadata=UNHASHED_DEFAULT)
    hooks: ClassVar[tuple[Hook, ...]] = ("event", "pass", "backward", "gradient", "update")
    has_temperature: ClassVar[bool] = False
    shows: ClassVar[frozenset[Shown]] = frozenset({"losses", "policy"})
    unseen: ClassVar[tuple[str, ...]] = ("next_inputs",)  # of what treatments may look at

    @property
    def demands(self) -> Demands:
        """What it asks of those who run it."""
        return Demands()


@dataclass(frozen=True, kw_only=True, slots=True)
class Priming(Settings):
    """``updates`` more than usual when the agent step ``at_step`` is reached, on what the replay holds by then.

    Heavy priming of Nikishin et al. 2022 (arXiv 2205.07802), the cheapest way to see the primacy bias.
    """

    at_step: PositiveInt
    updates: PositiveInt


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplaySettings(AgentSettings):
    """Settings of agents that learn values from a replay.

    ``n_step``: how many steps of rewards a target adds up before a value stands for the rest. ``max_gradient_norm``:
    what the gradient of the agent's loss is held to, for each network of each member by itself and before treatments
    see it. ``update_period_steps``: the updates of that many agent steps are made in one burst at their end.
    ``replay``: which transitions are likely in a batch. ``update_clock``: which clock says when learning starts,
    updates are due and the target moves. ``priming: {at_step: ..., updates: ...}``: so many more updates at one step,
    during which a target moves after as many updates as usual. ``adaptive_ratio`` takes the place of ``replay_ratio``
    once the critics' share of active units differs by at most ``adaptive_ratio_gap`` from that of
    ``adaptive_ratio_episodes`` before.
    """

    can_capture: ClassVar[bool] = True
    shows: ClassVar[frozenset[Shown]] = frozenset({"losses", "policy", "values", "next_observations", "returns"})

    update_period_steps: PositiveInt = field(default=1, metadata=UNHASHED_DEFAULT)
    update_clock: UpdateClock = field(default="after_step", metadata=UNHASHED_DEFAULT)
    n_step: PositiveInt = field(default=1, metadata=UNHASHED_DEFAULT)
    max_gradient_norm: PositiveFloat | None = field(default=None, metadata=UNHASHED_DEFAULT)
    replay: Annotated[Any, PluginField("replays")] = field(default=uniform.Config(), metadata=UNHASHED_DEFAULT)
    priming: Priming | None = field(default=None, metadata=UNHASHED_DEFAULT)
    adaptive_ratio: PositiveFloat | None = field(default=None, metadata=UNHASHED_DEFAULT)
    adaptive_ratio_gap: NonNegativeFloat = field(default=0.001, metadata=UNHASHED_DEFAULT)
    adaptive_ratio_episodes: Annotated[int, Ge(2)] = field(default=50, metadata=UNHASHED_DEFAULT)
    hooks: ClassVar[tuple[Hook, ...]] = (*AgentSettings.hooks, "turn")
    unseen: ClassVar[tuple[str, ...]] = ()

    @property
    def demands(self) -> Demands:
        """A ratio that adapts is a member's own, and all members of a population are updated together."""
        return Demands(max_members=None if self.adaptive_ratio is None else 1)

    def inert_within(self, num_envs: int, budget_steps: int) -> dict[str, str]:
        """Settings without effect with so many environments and steps, and why."""
        return inert_updates(self, num_envs, budget_steps)

    def num_updates(self, num_envs: int, budget_steps: int) -> int:
        """Updates of a member within so many steps, where no scenario clears its replay."""
        return num_updates(self, num_envs, budget_steps)

    def fitted(self, budget_steps: int) -> Self:
        """These settings with a replay no larger than so many steps fill."""
        own: Any = self
        fitted: Self = replace(own, capacity_transitions=min(own.capacity_transitions, budget_steps))
        return fitted

    def frame_bytes(self, spec: EnvSpec) -> int:
        """Bytes of the frames of one member, raw."""
        own: Any = self
        size: int = own.capacity_transitions * prod(spec.frame_shape) * np.dtype(spec.obs_dtype).itemsize
        return size

    def compresses(self, spec: EnvSpec, store: ReplayStore, budget_steps: int) -> bool:
        """Whether frames are held compressed: pictures, and where that is left open those that take much memory."""
        is_large = self.fitted(budget_steps).frame_bytes(spec) >= _COMPRESSED_FROM_BYTES
        return spec.obs_dtype == "uint8" and (store == "compressed" or (store == "auto" and is_large))

    def device_bytes(self, spec: EnvSpec, num_members: int) -> int:
        """What of ``memory_bytes`` lies on the device."""
        own: Any = self
        on_device: int = own.memory_bytes(spec, num_members) - num_members * own.capacity_transitions * INDEX_ROW_BYTES
        return on_device
