"""Evaluation of all members on environments of their own, outside every stream of the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from plasticbench.contracts.task import (
    BoxActions,
    DiscreteActions,
    EndlessEpisode,
    EnvConfig,
    EnvironmentFault,
    EnvStep,
    VectorEnv,
)
from plasticbench.envs._apart import ApartEnvs
from plasticbench.envs._entrance import Entrance
from plasticbench.envs._watch import watch
from plasticbench.seeding import derive_generator, derive_seed

Act = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Observations ``[M, E, ...]`` and uniforms ``[M, E, 2]`` -> actions ``[M, E]``."""

Rewarded = Callable[[EnvStep, np.ndarray, np.ndarray], EnvStep]
"""A step of N environments, raw observations before it and actions -> the step with other rewards."""


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """Per member ``[M]``: mean undiscounted return and length of the counted episodes, and how many were counted.

    Where a budget of steps ended no episode at all, the running ones are averaged and ``episodes`` is 0. Where an
    observation, an action or a reward was not finite, the return is NaN.
    """

    mean_return: np.ndarray
    mean_length: np.ndarray
    episodes: np.ndarray
    broken: Mapping[int, str] = field(default_factory=dict)  # members whose environments raised, and what


@dataclass(slots=True)
class _Tally:
    """Running sums per environment ``[N]`` of counted episodes and of the one under way."""

    returns: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray
    running_return: np.ndarray
    running_length: np.ndarray

    @classmethod
    def zeros(cls, num: int) -> _Tally:
        return cls(*(np.zeros(num) for _ in range(5)))

    def awaits(self, quota: float, left_out: np.ndarray) -> bool:
        """Whether an environment that still plays has episodes to end."""
        return not ((self.counts >= quota) | left_out).all()

    def spoil(self, broken: np.ndarray) -> None:
        """No return can be said of episodes that go on where something was not finite."""
        self.running_return[broken] = np.nan

    def add(self, step: EnvStep, starting: np.ndarray, quota: float) -> np.ndarray:
        """Takes one step of all environments; returns which episodes ended (the next step starts a new one)."""
        self.running_return += np.where(starting, 0, step.raw_reward.astype(np.float64))
        self.running_length += ~starting
        ended: np.ndarray = step.terminated | step.truncated
        counted = ended & (self.counts < quota)
        self.returns += np.where(counted, self.running_return, 0)
        self.lengths += np.where(counted, self.running_length, 0)
        self.counts += counted
        self.running_return[ended] = 0
        self.running_length[ended] = 0
        return ended

    def require_ends(self, quota: float, left_out: np.ndarray, max_episode_steps: int, task: str) -> None:
        """Raises ``EndlessEpisode`` for an episode that is awaited and as long as it may be."""
        endless = (self.running_length >= max_episode_steps) & (self.counts < quota) & ~left_out
        if endless.any():
            raise EndlessEpisode(
                f"no episode of {task} ended within {max_episode_steps:,} steps. Give the environment "
                "max_episode_steps, evaluate for a number of steps (evaluation.steps in place of evaluation.episodes), "
                "or raise evaluation.max_episode_steps",
                int(endless.argmax()),
            )

    def result(self, num_members: int) -> EvaluationResult:
        counts = self.counts.reshape(num_members, -1).sum(axis=1)
        returns, lengths = (x.reshape(num_members, -1).sum(axis=1) for x in (self.returns, self.lengths))
        partial_return, partial_length = (
            x.reshape(num_members, -1).mean(axis=1) for x in (self.running_return, self.running_length)
        )
        some = np.maximum(counts, 1)
        return EvaluationResult(
            mean_return=np.where(counts > 0, returns / some, partial_return),
            mean_length=np.where(counts > 0, lengths / some, partial_length),
            episodes=counts,
        )


def evaluate(
    act: Act,
    transform: Callable[[np.ndarray], np.ndarray],
    env_config: EnvConfig,
    member_seeds: Sequence[int],
    *,
    at_step: int,
    num_envs: int,
    episodes: int | None,
    steps: int | None,
    num_threads: int,
    max_episode_steps: int = 200_000,
    rewarded: Rewarded = lambda step, obs, action: step,
    broken: Mapping[int, str] = MappingProxyType({}),
) -> EvaluationResult:
    """Runs whole ``episodes`` per member, or ``steps`` agent steps per member, on ``num_envs`` environments each.

    ``rewarded`` gives a step the rewards of the task's phase.
    Every environment plays the same number of episodes, so that short episodes are not over-represented. Seeds depend
    on the member's seed and ``at_step`` alone. Members whose environments raise, or did before, are named in the result
    and count nothing; what all raise is raised. Raises ``EndlessEpisode`` for an episode of more than
    ``max_episode_steps``.
    """
    env_seeds = [derive_seed(seed, "evaluation", at_step, i) for seed in member_seeds for i in range(num_envs)]
    played = _Round(
        act=act,
        transform=transform,
        rewarded=rewarded,
        config=env_config,
        member_seeds=member_seeds,
        at_step=at_step,
        num_envs=num_envs,
        episodes=episodes,
        steps=steps,
        max_episode_steps=max_episode_steps,
    )

    def apart() -> tuple[EvaluationResult, dict[int, str]]:
        env = ApartEnvs(env_config, env_seeds, num_envs, num_threads, broken)
        return played.play(env), env.broken

    try:
        result, found = apart() if broken else (played.play(_built(env_config, env_seeds, num_threads)), {})
    except Exception as error:
        # Who raised is seen when each member has environments of its own; nothing is played twice that counts.
        if len(member_seeds) == 1 or isinstance(error, EndlessEpisode):
            raise
        result, found = apart()
        if len(found) in (0, len(member_seeds)):
            raise
    return replace(result, broken=found)


def _built(config: EnvConfig, seeds: Sequence[int], num_threads: int) -> VectorEnv:
    with watch("build"):
        return config.build(seeds, num_threads)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Round:
    """One evaluation of all members, as ``evaluate`` says."""

    act: Act
    transform: Callable[[np.ndarray], np.ndarray]
    rewarded: Rewarded
    config: EnvConfig
    member_seeds: Sequence[int]
    at_step: int
    num_envs: int
    episodes: int | None
    steps: int | None
    max_episode_steps: int

    def play(self, env: VectorEnv) -> EvaluationResult:
        """Plays in these environments and closes them."""
        entrance = Entrance(self.config.task, self.member_seeds, self.num_envs, "evaluation")
        try:
            tally = self._tally(env)
        except EnvironmentFault as fault:
            raise entrance.located(fault, self.at_step) from None
        finally:
            env.close()
        return tally.result(len(self.member_seeds))

    def _tally(self, env: VectorEnv) -> _Tally:
        generators = [derive_generator(seed, "evaluation", self.at_step) for seed in self.member_seeds]
        tally = _Tally.zeros(env.num_envs)
        quota = float(self.episodes // self.num_envs) if self.episodes is not None else np.inf
        rounds = -(-self.steps // self.num_envs) if self.steps is not None else np.inf
        with watch("reset"):
            obs = env.reset()
        taken, starting = 0, np.zeros(env.num_envs, dtype=bool)
        while taken < rounds and tally.awaits(quota, _left_out(env, self.num_envs)):
            action = self._actions(obs, np.stack([generator.random((self.num_envs, 2)) for generator in generators]))
            tally.spoil(_not_finite(obs) | _not_finite(action))
            with watch("step"):
                step = env.step(action if _is_finite(action) else _bounded(action, self.config.spec.actions))
            starting = tally.add(self.rewarded(step, obs, action), starting, quota)
            obs = step.obs
            taken += 1
            if self.episodes is not None and taken >= self.max_episode_steps:
                left_out = _left_out(env, self.num_envs)
                tally.require_ends(quota, left_out, self.max_episode_steps, self.config.task)
        return tally

    def _actions(self, obs: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Of N environments ``[N, ...]``, for what they show."""
        action = self.act(self.transform(obs.reshape(len(self.member_seeds), self.num_envs, *obs.shape[1:])), uniforms)
        return action.reshape(-1, *action.shape[2:])


def _left_out(env: VectorEnv, num_envs: int) -> np.ndarray:
    """Which of N environments raised and play no more."""
    if not getattr(env, "broken", ()):
        return np.zeros(env.num_envs, dtype=bool)
    return np.isin(np.arange(env.num_envs) // num_envs, list(getattr(env, "broken", ())))


def _is_finite(values: np.ndarray) -> bool:
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def _not_finite(values: np.ndarray) -> np.ndarray:
    """Which of N environments have a number ``[N, ...]`` that is not finite."""
    if _is_finite(values):
        return np.zeros(len(values), dtype=bool)
    broken: np.ndarray = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    return broken


def _bounded(action: np.ndarray, space: BoxActions | DiscreteActions) -> np.ndarray:
    """Actions that every environment can stand: those that are not finite as near to 0 as is allowed."""
    assert isinstance(space, BoxActions), "choices are whole numbers"
    return np.where(np.isfinite(action), action, np.clip(0, space.low, space.high)).astype(action.dtype)
