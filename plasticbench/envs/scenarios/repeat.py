"""The same tasks come again and again: what was learned may help, and a network that lost its plasticity gains nothing.

Abbas et al. 2023 (arXiv 2303.07507) play Atari games in a cycle; each return to a task is as hard as the first for who
forgot it, and easier for who did not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from plasticbench.contracts.task import EnvConfig, EnvSpec, Scenario
from plasticbench.envs.scenarios._changes import ReplayRule, equal_phases
from plasticbench.envs.scenarios.task_sequence import TaskSequence, check_tasks
from plasticbench.settings import Ge, MinLen, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``tasks`` of the environment's family in turn, its own first, ``rounds`` times over, in phases of equal length.

    As for ``task_sequence`` all must show and take the same. ``replay``: whether transitions of earlier phases stay.
    """

    tasks: Annotated[tuple[str, ...], MinLen(2, "task")]
    rounds: Annotated[int, Ge(2)] = 2
    replay: ReplayRule = "clear"

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks: each must be listed once, got {list(self.tasks)}")

    def check(self, config: EnvConfig) -> None:
        """Raises ``ValueError`` for tasks that cannot follow each other."""
        check_tasks(self.tasks, config)

    def build(self, spec: EnvSpec, member_seeds: Sequence[int], budget_steps: int, num_envs: int) -> Scenario:
        """The same order for all members."""
        order = self.tasks * self.rounds
        steps = equal_phases(len(order), budget_steps, num_envs)
        return TaskSequence(order, steps, clears_replay=self.replay == "clear")
