"""One task after the other: games, or a body that must stand, then walk, then run.

As in the continual MinAtar of C-CHAIN (Tang et al., ICML 2025) and the sequences of Continual World (Wolczyk et al.,
NeurIPS 2021, arXiv 2105.10919). Scores are each task's own; what is shown of the whole run is a mean over tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any

from plasticbench.contracts.task import EnvConfig, EnvSpec, Scenario, has_references
from plasticbench.envs.scenarios._changes import ReplayRule, equal_phases
from plasticbench.envs.scenarios._unchanged import Unchanged
from plasticbench.settings import MinLen, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``tasks`` of the environment's family in phases of equal length, the first of them the environment's own.

    All must show and take the same: MinAtar's games do so with ``channels: 10``. ``replay``: whether transitions of
    earlier tasks stay in the replay.
    """

    tasks: Annotated[tuple[str, ...], MinLen(2, "task")]
    replay: ReplayRule = "clear"

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if repeated := [task for task, following in pairwise(self.tasks) if task == following]:
            raise ValueError(f"tasks: each must be another one than that before, got {repeated[0]!r} twice in a row")

    def check(self, config: EnvConfig) -> None:
        """Raises ``ValueError`` for tasks that cannot follow each other."""
        check_tasks(self.tasks, config)

    def build(self, spec: EnvSpec, member_seeds: Sequence[int], budget_steps: int, num_envs: int) -> Scenario:
        """The same order for all members."""
        steps = equal_phases(len(self.tasks), budget_steps, num_envs)
        return TaskSequence(self.tasks, steps, clears_replay=self.replay == "clear")


def check_tasks(tasks: Sequence[str], config: EnvConfig) -> None:
    """Raises ``ValueError`` unless tasks are of a family, begin with its own, and show and take the same."""
    if tasks[0] != config.task:
        raise ValueError(f"tasks: the first must be the environment's own task {config.task!r}, got {tasks[0]!r}")
    for task in tasks:
        try:
            other = with_task(config, task)
        except ValueError as error:
            raise ValueError(f"tasks: {task!r} is no task of this family: {error}") from None
        if (own := _shown(config.spec)) != (theirs := _shown(other.spec)):
            raise ValueError(
                f"tasks: all must show and take the same, but {config.task!r} has {own} and {task!r} has {theirs}. "
                "Games of MinAtar do so with 'channels: 10' and their full action set"
            )
        if has_references(config) != has_references(other):
            raise ValueError(f"tasks: of {config.task!r} and {task!r} one alone has reference returns")


def with_task(config: EnvConfig, task: str) -> EnvConfig:
    """The same settings of another task."""
    any_config: Any = config
    other: EnvConfig = replace(any_config, task=task)
    return other


def _shown(spec: EnvSpec) -> str:
    return f"observations {spec.obs_shape} of {spec.obs_dtype} and {spec.actions}"


class TaskSequence(Unchanged):
    """Phase k is the k-th task."""

    def __init__(self, tasks: Sequence[str], change_steps: tuple[int, ...], *, clears_replay: bool) -> None:
        self.change_steps, self.clears_replay = change_steps, clears_replay
        self._tasks = tasks

    def env(self, config: EnvConfig, phase: int) -> EnvConfig:
        """The environments of the phase's task."""
        return with_task(config, self._tasks[phase])
