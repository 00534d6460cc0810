"""MuJoCo locomotion through EnvPool: HalfCheetah, Hopper, Walker2d, Ant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, NamedTuple

from plasticbench.contracts.task import BoxActions, EnvSpec, VectorEnv
from plasticbench.envs._dynamics import Dynamics, model_file
from plasticbench.envs._envpool import EnvPoolEnv
from plasticbench.envs._scores import Reference
from plasticbench.settings import UNHASHED_DEFAULT, OneOf, PositiveFloat, PositiveInt, Settings


class _Task(NamedTuple):
    obs_size: int
    action_size: int  # each in [-1, 1]
    model: str
    reference: Reference


_TASKS = {
    "HalfCheetah-v4": _Task(17, 6, "half_cheetah_envpool.xml", Reference(-280.2, 12135.0)),
    "Hopper-v4": _Task(11, 3, "hopper_envpool.xml", Reference(-20.3, 3234.3)),
    "Walker2d-v4": _Task(17, 6, "walker2d_envpool.xml", Reference(1.6, 4592.3)),
    "Ant-v4": _Task(27, 8, "ant_envpool.xml", Reference(-325.6, 3879.7)),
}


def tasks() -> tuple[str, ...]:
    """All tasks of the family."""
    return tuple(_TASKS)


@cache
def _spec(task: str) -> EnvSpec:
    size = _TASKS[task].action_size
    actions = BoxActions(low=(-1.0,) * size, high=(1.0,) * size)
    return EnvSpec(obs_shape=(_TASKS[task].obs_size,), obs_dtype="float32", actions=actions)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """A Gym MuJoCo task with its published limit of 1,000 steps; an agent step is a step of the task.

    ``friction``, ``gravity`` and ``action_scale`` are factors: sliding friction of all bodies and the ground, gravity,
    and the force of the motors for an action. Scores are measured between the same returns whatever they are.
    """

    task: Annotated[str, OneOf(tasks())]
    num_envs: PositiveInt = 1
    friction: PositiveFloat = field(default=1.0, metadata=UNHASHED_DEFAULT)
    gravity: PositiveFloat = field(default=1.0, metadata=UNHASHED_DEFAULT)
    action_scale: PositiveFloat = field(default=1.0, metadata=UNHASHED_DEFAULT)

    @property
    def spec(self) -> EnvSpec:
        """Shapes and actions, without starting an environment."""
        return _spec(self.task)

    @property
    def score_source(self) -> str:
        """Where the two reference returns come from."""
        high = "a trained SAC, both from D4RL (Fu et al. 2020, arXiv:2004.07219), measured on v2"
        return _TASKS[self.task].reference.source("random actions", high)

    def score(self, mean_return: float) -> float:
        """0 for random actions, 1 for D4RL's expert."""
        return _TASKS[self.task].reference.score(mean_return)

    def build(self, seeds: Sequence[int], num_threads: int) -> VectorEnv:
        """One environment per seed, in one EnvPool."""
        dynamics = Dynamics(self.friction, self.gravity, self.action_scale)
        if dynamics == Dynamics():
            return EnvPoolEnv(self.spec, self.task, seeds, num_threads)
        with model_file(self.task, _TASKS[self.task].model, dynamics) as xml_file:
            return EnvPoolEnv(self.spec, self.task, seeds, num_threads, xml_file=xml_file)
