"""Classic control and Box2D through EnvPool: CartPole, Acrobot, MountainCar, Pendulum, LunarLander."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, NamedTuple

from plasticbench.contracts.task import BoxActions, DiscreteActions, EnvSpec, VectorEnv
from plasticbench.envs._envpool import EnvPoolEnv
from plasticbench.envs._scores import RANDOM_PLAY, Reference
from plasticbench.settings import OneOf, PositiveInt, Settings


class _Task(NamedTuple):
    obs_size: int
    actions: DiscreteActions | BoxActions
    reference: Reference
    high_source: str


_SOLVED = "Gym's reward threshold"
_TASKS = {
    "CartPole-v1": _Task(4, DiscreteActions(count=2), Reference(22.1, 500.0), "the largest possible return"),
    "Acrobot-v1": _Task(6, DiscreteActions(count=3), Reference(-499.4, -100.0), _SOLVED),
    "MountainCar-v0": _Task(2, DiscreteActions(count=3), Reference(-200.0, -110.0), _SOLVED),
    "MountainCarContinuous-v0": _Task(2, BoxActions(low=(-1.0,), high=(1.0,)), Reference(-33.2, 90.0), _SOLVED),
    "Pendulum-v1": _Task(
        3, BoxActions(low=(-2.0,), high=(2.0,)), Reference(-1231.0, -130.0), "the return of gymnax's trained PPO"
    ),
    "LunarLander-v3": _Task(8, DiscreteActions(count=4), Reference(-182.0, 200.0), _SOLVED),
    "LunarLanderContinuous-v3": _Task(
        8, BoxActions(low=(-1.0, -1.0), high=(1.0, 1.0)), Reference(-213.3, 200.0), _SOLVED
    ),
}


def tasks() -> tuple[str, ...]:
    """All tasks of the family."""
    return tuple(_TASKS)


@cache
def _spec(task: str) -> EnvSpec:
    return EnvSpec(obs_shape=(_TASKS[task].obs_size,), obs_dtype="float32", actions=_TASKS[task].actions)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """A classic task with its published time limit.

    EnvPool reports an episode that ends by itself exactly at the time limit as truncated.
    """

    task: Annotated[str, OneOf(tasks())]
    num_envs: PositiveInt = 1

    @property
    def spec(self) -> EnvSpec:
        """Shapes and actions, without starting an environment."""
        return _spec(self.task)

    @property
    def score_source(self) -> str:
        """Where the two reference returns come from."""
        return _TASKS[self.task].reference.source(RANDOM_PLAY, _TASKS[self.task].high_source)

    def score(self, mean_return: float) -> float:
        """0 for random actions, 1 for the solved task."""
        return _TASKS[self.task].reference.score(mean_return)

    def build(self, seeds: Sequence[int], num_threads: int) -> VectorEnv:
        """One environment per seed, in one EnvPool."""
        return EnvPoolEnv(self.spec, self.task, seeds, num_threads)
