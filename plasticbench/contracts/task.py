"""What a task is to those who train on it: shapes, environments, their world and how it changes.

Shape legend: ``M`` members of a population, ``m`` members that one treatment concerns, ``E`` environments per member,
``N`` rows of a probe batch, ``B`` rows of an update batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscreteActions:
    """A choice among ``count`` actions; an action is an integer array without a trailing dimension."""

    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxActions:
    """A vector of bounded numbers; ``low`` and ``high`` have one entry per dimension."""

    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvSpec:
    """What an agent must know about a task.

    ``obs_shape`` is one environment's observation as delivered, channels first. With ``frame_stack`` above 1 its first
    dimension is exactly that many frames, oldest first, so that a replay may store each frame once. Of texts it is a
    sequence of tokens, and the actions are the vocabulary.
    ``obs_scale`` is what observations are multiplied with before a network sees them (1/255 for pixels).
    """

    obs_shape: tuple[int, ...]
    obs_dtype: Literal["uint8", "float32", "int64"]
    actions: DiscreteActions | BoxActions
    frame_stack: int = 1
    obs_scale: float = 1.0

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of the part of an observation that is new at each step."""
        return self.obs_shape[1:] if self.frame_stack > 1 else self.obs_shape


class EnvStep(NamedTuple):
    """One step of N environments, with next-step autoreset.

    The step after an end ignores its action and returns the first observation of the next episode with reward 0 and
    both flags False; the observation of the ending step itself is the episode's true last one.
    """

    obs: np.ndarray  # [N, *obs_shape]
    reward: np.ndarray  # [N] float32, what the agent learns from (clipped where the protocol clips)
    raw_reward: np.ndarray  # [N] float32, what is reported
    terminated: np.ndarray  # [N] bool
    truncated: np.ndarray  # [N] bool


class EnvironmentFault(RuntimeError):
    """What an environment delivered, or never did, so that nobody can be trained on it.

    ``index`` is its place among those that are stepped together; where the fault ``is_located``, the message says whose
    it is and when.
    """

    def __init__(self, what: str, index: int = 0, is_located: bool = False) -> None:
        super().__init__(what, index, is_located)  # all of them, or it could not be sent from a worker
        self.index, self.is_located = index, is_located

    def __str__(self) -> str:
        return str(self.args[0])


class EndlessEpisode(EnvironmentFault):
    """An episode of an evaluation that nobody can wait for."""


class VectorEnv(Protocol):
    """N environments stepped together; the course of each depends on its own seed and actions alone."""

    spec: EnvSpec
    num_envs: int

    def reset(self) -> np.ndarray:
        """First observations ``[N, *obs_shape]``; called once, before the first step."""
        ...

    def step(self, actions: np.ndarray) -> EnvStep:
        """Steps all environments with actions ``[N]`` (discrete, int) or ``[N, dimensions]`` (box, float32)."""
        ...

    def close(self) -> None:
        """Frees threads and memory."""
        ...


@runtime_checkable
class RestorableEnv(Protocol):
    """What a ``VectorEnv`` offers besides where its state can be saved; every array of a state is ``[N, ...]``.

    Row i is all that environment i depends on, so a state may be made of rows of others. Nothing in it is pickled.
    """

    def save(self) -> dict[str, np.ndarray]:
        """The state between two steps; arrays that no later step changes."""
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """Goes on as saved, once, in place of ``reset``; returns the current observations."""
        ...


class EnvConfig(Protocol):
    """``Config`` of an environment family: ``envs/<kind>.py``."""

    @property
    def task(self) -> str:
        """The task's published name, such as ``Acrobot-v1``."""
        ...

    @property
    def num_envs(self) -> int:
        """Environments per member."""
        ...

    @property
    def spec(self) -> EnvSpec:
        """Shapes and actions, known without starting an environment."""
        ...

    def build(self, seeds: Sequence[int], num_threads: int) -> VectorEnv:
        """Builds one environment per seed."""
        ...

    def score(self, mean_return: float) -> float:
        """Normalised score of a mean return: 0 is the reference low, 1 the reference high.

        A task without reference returns gives the return itself; its ``Config`` says so by ``has_references`` = False.
        """
        ...

    @property
    def score_source(self) -> str:
        """Where the two reference returns come from."""
        ...


def has_references(config: EnvConfig) -> bool:
    """Whether scores of a task can be pooled with those of others; a ``Config`` that does not say has references."""
    return bool(getattr(config, "has_references", True))


def is_restorable(config: EnvConfig) -> bool:
    """Whether what a ``Config`` builds is a ``RestorableEnv``; one that does not say builds none."""
    return bool(getattr(config, "is_restorable", False))


@runtime_checkable
class DrawnConfig(Protocol):
    """What the ``Config`` of an environment family offers besides where its tasks can be drawn."""

    @property
    def step_s(self) -> float:
        """Simulated seconds of one agent step."""
        ...

    def check_pictures(self) -> None:
        """Raises ``RuntimeError`` where this machine cannot draw, ``ValueError`` where these settings cannot be."""
        ...

    def render(
        self,
        act: Callable[[np.ndarray], np.ndarray],
        seed: int,
        num_steps: int,
        width: int,
        height: int,
        *,
        every: int = 1,
    ) -> np.ndarray:
        """Pictures ``[T, height, width, 3]`` uint8 of one episode, ``num_steps`` agent steps at most.

        ``every``: agent steps from one picture to the next. ``act`` maps observations ``[1, *obs_shape]`` to actions
        ``[1, ...]``.
        """
        ...


class World(Protocol):
    """The environments of a population as its agents see them now; arrays are shaped ``[M, E, ...]``."""

    @property
    def obs(self) -> np.ndarray:
        """Current observations."""
        ...

    @property
    def ended(self) -> np.ndarray:
        """Which episodes are over; the next step begins new ones."""
        ...

    def step(self, action: np.ndarray) -> EnvStep:
        """Steps all environments."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Demands:
    """What an agent asks of those who run it; an agent whose ``Config`` has no ``demands`` asks for nothing.

    The clock of its trials moves by ``round_steps`` times the environments of a member at once. ``None`` is no limit.
    """

    round_steps: int = 1
    max_members: int | None = None
    max_envs: int | None = None
    helper_cpus: int = 0  # of processes besides the population's own
    devices: tuple[str, ...] = ("cpu", "cuda")
    inside_ray: bool = False  # it is built only where Ray runs


class Evaluation(Protocol):
    """How long members are evaluated: whole ``episodes``, or ``steps`` agent steps, on ``num_envs`` environments.

    Whole episodes may last ``max_episode_steps``.
    """

    @property
    def episodes(self) -> int | None:
        """Episodes per member."""
        ...

    @property
    def steps(self) -> int | None:
        """Agent steps per member."""
        ...

    @property
    def num_envs(self) -> int:
        """Environments per member."""
        ...

    @property
    def max_episode_steps(self) -> int:
        """Agent steps of one episode, beyond which it is taken for one that never ends."""
        ...


class ScenarioConfig(Protocol):
    """``Config`` of a scenario: ``envs/scenarios/<kind>.py``.

    With a method ``check(config: EnvConfig)`` it refuses tasks that it cannot change, by ``ValueError``.
    """

    def build(self, spec: EnvSpec, member_seeds: Sequence[int], budget_steps: int, num_envs: int) -> Scenario:
        """The scenario of a population; ``num_envs`` are the steps by which its clock moves."""
        ...


class Scenario(Protocol):
    """How a task changes over the budget. ``phase`` counts the changes that have happened (0 before the first)."""

    @property
    def change_steps(self) -> tuple[int, ...]:
        """Agent steps at which the next phase begins, ascending."""
        ...

    @property
    def clears_replay(self) -> bool:
        """Whether the replay is emptied at each change."""
        ...

    def env(self, config: EnvConfig, phase: int) -> EnvConfig:
        """The environments of this phase, of the same ``spec``; they start anew where they are others than before."""
        ...

    def transform(self, obs: np.ndarray, phase: int) -> np.ndarray:
        """Maps raw observations ``[M, E, *obs_shape]`` to those that the agents see in this phase."""
        ...

    def reward(self, step: EnvStep, phase: int, obs: np.ndarray, action: np.ndarray) -> EnvStep:
        """The step with the rewards of this phase; arrays are shaped ``[M, E, ...]``.

        ``obs`` are the raw observations before it and ``action`` what was done.
        """
        ...
