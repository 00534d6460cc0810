"""What most agents answer alike about themselves, and the settings that those with a replay share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, Self

from plasticbench.agents._effects import inert_updates, num_updates
from plasticbench.agents._replay import INDEX_ROW_BYTES
from plasticbench.contracts.task import Demands, EnvSpec
from plasticbench.contracts.treatment import Hook
from plasticbench.learning.replays import uniform
from plasticbench.plugins import PluginField
from plasticbench.settings import UNHASHED_DEFAULT, Ge, NonNegativeFloat, PositiveFloat, PositiveInt, Settings

UpdateClock = Literal["after_step", "before_step"]
"""Which clock decides what is due: that after the step of the environments that was just taken, or that before it, by
which everything comes one step of the environments later, as in CleanRL."""


class AgentSettings(Settings):
    """Base of agents' Configs: treatments may act at every moment, there is no temperature, and nothing is demanded."""

    __slots__ = ()
    hooks: ClassVar[tuple[Hook, ...]] = ("event", "pass", "backward", "gradient", "update")
    has_temperature: ClassVar[bool] = False
    unseen: ClassVar[tuple[str, ...]] = ("next_inputs",)  # of what treatments may look at

    @property
    def demands(self) -> Demands:
        """What it asks of those who run it."""
        return Demands()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplaySettings(AgentSettings):
    """Settings of agents that learn from a replay.

    ``n_step``: how many steps of rewards a target adds up before a value stands for the rest. ``max_gradient_norm``:
    what the gradient of the agent's loss is held to, for each network of each member by itself and before treatments
    see it. ``update_period_steps``: the updates of that many agent steps are made in one burst at their end.
    ``replay``: which transitions are likely in a batch. ``update_clock``: which clock says when learning starts,
    updates are due and the target moves. ``adaptive_ratio`` takes the place of ``replay_ratio`` once the critics' share
    of active units differs by at most ``adaptive_ratio_gap`` from that of ``adaptive_ratio_episodes`` before.
    """

    update_period_steps: PositiveInt = field(default=1, metadata=UNHASHED_DEFAULT)
    update_clock: UpdateClock = field(default="after_step", metadata=UNHASHED_DEFAULT)
    n_step: PositiveInt = field(default=1, metadata=UNHASHED_DEFAULT)
    max_gradient_norm: PositiveFloat | None = field(default=None, metadata=UNHASHED_DEFAULT)
    replay: Annotated[Any, PluginField("replays")] = field(default=uniform.Config(), metadata=UNHASHED_DEFAULT)
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

    def device_bytes(self, spec: EnvSpec, num_members: int) -> int:
        """What of ``memory_bytes`` lies on the device."""
        own: Any = self
        on_device: int = own.memory_bytes(spec, num_members) - num_members * own.capacity_transitions * INDEX_ROW_BYTES
        return on_device
