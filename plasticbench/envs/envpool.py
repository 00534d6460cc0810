"""Any id of the installed EnvPool: control suite, Procgen, Meta-World, MiniGrid, robotics, playground and others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from plasticbench.contracts.task import EnvSpec, VectorEnv
from plasticbench.envs._envpool import EnvPoolEnv
from plasticbench.envs._envpool_ids import OPTIONS, group_of, groups, spaces_of
from plasticbench.envs._envpool_parts import published_parts
from plasticbench.envs._envpool_scores import reference
from plasticbench.envs._scores import Reference, score
from plasticbench.envs._spaces import Observations, actions_of, chosen, parts_of
from plasticbench.settings import Ge, PositiveInt, Settings

__all__ = ["Config", "groups", "tasks"]


def tasks() -> tuple[str, ...]:
    """All ids that the installed EnvPool registers."""
    return tuple(task for found in groups().values() for task in found)


@cache
def _task(task: str, names: tuple[str, ...] | None) -> tuple[EnvSpec, Observations]:
    group = group_of(task)
    delivered, acted = spaces_of(task, OPTIONS.get(group, {}))
    parts = parts_of(delivered)
    try:
        seen = chosen(parts, published_parts(group, task, parts) if names is None else names)
        actions = actions_of(acted)
    except ValueError as error:
        raise ValueError(f"task: {task} cannot be trained on: {error}") from error
    return EnvSpec(obs_shape=seen.shape, obs_dtype=seen.dtype, actions=actions, obs_scale=seen.scale), seen


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """A registered id such as ``CheetahRun-v1``, with EnvPool's own settings and time limit.

    ``observations`` names the parts of a task with several that the agent sees, such as ``[image]``; by default those
    that its publishers show. Procgen draws its levels from ``num_levels`` of them, ``start_level`` first; 0: from all.
    """

    task: str
    num_envs: PositiveInt = 1
    observations: tuple[str, ...] | None = None
    num_levels: Annotated[int, Ge(0)] = 0
    start_level: Annotated[int, Ge(0)] = 0

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        _ = self.spec  # what cannot be trained on is refused here

    def inert(self) -> dict[str, str]:
        """Settings without effect, and why."""
        if group_of(self.task) != "procgen":
            return dict.fromkeys(("num_levels", "start_level"), f"{self.task} has no levels, only Procgen has")
        return {"start_level": "num_levels is 0, so that all levels are played"} if self.num_levels == 0 else {}

    @property
    def spec(self) -> EnvSpec:
        """Shapes and actions, from EnvPool's description of the task."""
        return _task(self.task, self.observations)[0]

    @property
    def _reference(self) -> tuple[Reference | None, str]:
        return reference(group_of(self.task), self.task)

    @property
    def has_references(self) -> bool:
        """Whether its scores can be pooled with those of other tasks."""
        return self._reference[0] is not None

    @property
    def score_source(self) -> str:
        """Where the two reference returns come from."""
        return self._reference[1]

    def score(self, mean_return: float) -> float:
        """Linear between the two reference returns; the return itself where there are none."""
        return score(self._reference[0], mean_return)

    def build(self, seeds: Sequence[int], num_threads: int) -> VectorEnv:
        """One environment per seed, in one EnvPool."""
        group = group_of(self.task)
        options = dict(OPTIONS.get(group, {}))
        if group == "procgen":
            options |= {"num_levels": self.num_levels, "start_level": self.start_level}
        if group == "vizdoom":  # its games race to make this folder, and those that lose never answer
            Path("_vizdoom").mkdir(exist_ok=True)
        spec, observations = _task(self.task, self.observations)
        return EnvPoolEnv(
            spec,
            self.task,
            seeds,
            num_threads,
            read=observations.read,
            reports_success=group == "metaworld",
            **options,
        )
