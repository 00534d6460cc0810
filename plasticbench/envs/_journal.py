"""Environments that can be restored exactly: by their saved state, or by replaying the actions since their start."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np

from plasticbench.contracts.task import (
    DiscreteActions,
    EnvConfig,
    EnvSpec,
    EnvStep,
    RestorableEnv,
    VectorEnv,
    is_restorable,
)
from plasticbench.envs._apart import ApartEnvs
from plasticbench.envs._watch import watch

_FIRST_CAPACITY = 1024
_STATE = "state/"
_LOOK_EVERY_S = 5.0


class ReplayRefused(RuntimeError):
    """Stepping through the past of environments would take longer than it may; the message says what to do."""

    def __init__(self, steps: int, num_envs: int, whole_s: float, max_s: float) -> None:
        super().__init__(steps, num_envs, whole_s, max_s)

    def __str__(self) -> str:
        steps, num_envs, whole_s, max_s = self.args
        return (
            f"the environments' past of {steps:,} steps of {num_envs} environments would be stepped through again for "
            f"{whole_s / 60:,.0f} minutes, at the speed measured just now, and may take checkpoint.max_replay_s "
            f"({max_s:g} s). Raise that to wait for it, or go on with checkpoint.environments=restart, which begins "
            "new episodes and marks the trials: `plasticbench run` with the same file and directory takes both with "
            "--set"
        )


def select_envs(state: Mapping[str, np.ndarray], env_indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
    """The state of a journal whose environment ``i`` is environment ``env_indices[i]`` of ``state``, for forks."""
    indices = np.asarray(env_indices)
    return {name: value[:, indices] if name == "actions" else value[indices] for name, value in state.items()}


def _empty_journal(spec: EnvSpec, num_envs: int) -> np.ndarray:
    if isinstance(spec.actions, DiscreteActions):
        return np.empty((_FIRST_CAPACITY, num_envs), np.uint8 if spec.actions.count <= 256 else np.int32)
    return np.empty((_FIRST_CAPACITY, num_envs, len(spec.actions.low)), np.float32)


class JournaledEnv:
    """A ``VectorEnv`` that writes down its actions; ``obs`` is the current observation once it was reset.

    An environment's course depends on its seed and actions alone, so the two are its whole state: a few bytes per step
    and environment in place of emulator memory, at the price of stepping through the past again on a restore. Where
    the family can save its state and ``saves_states`` asks for it, that takes the place of all actions before.

    With ``per_member`` environments of each of several members, one that raises is found by its past, and is ``broken``
    from then on: the others go on as they would have (``ApartEnvs``). What all raise, or none again, is raised.
    """

    def __init__(
        self,
        config: EnvConfig,
        seeds: Sequence[int],
        num_threads: int,
        per_member: int | None = None,
        broken: Mapping[int, str] | None = None,
        saves_states: bool = True,
    ) -> None:
        self._config, self._saves_states = config, saves_states
        self._num_threads = num_threads
        self._per_member = per_member or len(seeds)
        self.broken = dict(broken or {})
        self._start(np.asarray(seeds, np.int64))

    def _start(self, seeds: np.ndarray) -> None:
        self._seeds = seeds
        with watch("build"):
            self._env: VectorEnv
            if self.broken:
                self._env = apart = self._apart()
                self.broken = apart.broken  # others may follow
            else:
                self._env = self._config.build(seeds.tolist(), self._num_threads)
        self.spec: EnvSpec = self._env.spec
        self.num_envs = self._env.num_envs
        self._journal = _empty_journal(self.spec, self.num_envs)
        self._length = 0
        self._base: dict[str, np.ndarray] = {}  # the state before the first action of the journal, if not the start
        self.obs = np.empty((0, *self.spec.obs_shape), self.spec.obs_dtype)

    def reset(self) -> np.ndarray:
        """First observations; called once, before the first step."""
        try:
            with watch("reset"):
                self.obs = self._env.reset()
        except Exception as error:
            self._set_apart(error)
        return self.obs

    def _apart(self) -> ApartEnvs:
        return ApartEnvs(self._config, self._seeds.tolist(), self._per_member, self._num_threads, self.broken)

    def _set_apart(self, error: Exception) -> EnvStep | None:
        """Finds out who raised, and goes on without; returns the latest step."""
        if self._per_member == len(self._seeds):
            raise error
        apart, step = self._apart(), None
        self.obs = apart.restore(self._base) if self._base else apart.reset()
        for actions in self._journal[: self._length]:
            step = apart.step(actions)
            self.obs = step.obs
        if len(apart.broken) in (0, len(self._seeds) // self._per_member):
            apart.close()
            raise error
        self._env.close()
        self._env, self.broken = apart, apart.broken
        return step

    def step(self, actions: np.ndarray) -> EnvStep:
        """Steps all environments and writes their actions down."""
        if self._length == len(self._journal):
            self._journal = np.concatenate([self._journal, np.empty_like(self._journal)])
        self._journal[self._length] = actions
        self._length += 1
        try:
            with watch("step"):
                step = self._env.step(actions)
        except Exception as error:
            found = self._set_apart(error)
            assert found is not None, "there was a step"
            step = found
        self.obs = step.obs
        return step

    def close(self) -> None:
        """Frees threads and memory."""
        self._env.close()

    def state_dict(self) -> dict[str, np.ndarray]:
        """``seeds`` [N] and ``actions`` [T, N] or [T, N, dimensions]; ``broken`` [N] where any is.

        A saved state is ``state/<name>`` [N, ...], and ``actions`` those since. They are a view that later steps leave
        as it is.
        """
        if self._saves_states and is_restorable(self._config) and self._length > 0:
            assert isinstance(self._env, RestorableEnv)
            with watch("save"):
                self._base = self._env.save()
            self._journal, self._length = _empty_journal(self.spec, self.num_envs), 0
        marks = np.isin(np.arange(self.num_envs) // self._per_member, list(self.broken))
        state = {"seeds": self._seeds.copy(), "actions": self._journal[: self._length]}
        state |= {f"{_STATE}{name}": value for name, value in self._base.items()}
        return state | ({"broken": marks} if self.broken else {})

    def load_state_dict(
        self, state: Mapping[str, np.ndarray], config: EnvConfig | None = None, max_replay_s: float = math.inf
    ) -> np.ndarray:
        """Builds the environments anew (of ``config``, if given), goes on as saved, returns the observation.

        Raises ``ReplayRefused`` for actions that would take longer than ``max_replay_s``.
        """
        self._env.close()
        self._config = config or self._config
        marks = state.get("broken", np.zeros(len(state["seeds"]), bool))
        self.broken = dict.fromkeys((np.flatnonzero(marks) // self._per_member).tolist(), "before this process began")
        self._start(state["seeds"].copy())
        base = {name.removeprefix(_STATE): value for name, value in state.items() if name.startswith(_STATE)}
        if base:
            if not is_restorable(self._config):
                raise ValueError(
                    "the state of environments was saved, and those of now cannot go on from it. Go on with the "
                    "backend that the run began with"
                )
            assert isinstance(self._env, RestorableEnv)
            with watch("restore"):
                self.obs = self._env.restore(base)
            self._base = base
        else:
            self.reset()
        self._replay(state["actions"], max_replay_s)
        return self.obs

    def _replay(self, journal: np.ndarray, max_s: float) -> None:
        began, looked_s = time.monotonic(), _LOOK_EVERY_S
        for done, actions in enumerate(journal, start=1):
            self.step(actions)
            elapsed_s = time.monotonic() - began
            if elapsed_s > looked_s:
                looked_s = elapsed_s + _LOOK_EVERY_S
                if (whole_s := elapsed_s * len(journal) / done) > max_s:
                    raise ReplayRefused(len(journal), self.num_envs, whole_s, max_s)
