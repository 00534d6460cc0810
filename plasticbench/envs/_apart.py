"""Environments of a population in pools of their own, for when one of them has raised: it takes no sibling with it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from plasticbench.contracts.task import EnvConfig, EnvStep, RestorableEnv, VectorEnv
from plasticbench.envs._packing import joined
from plasticbench.envs._watch import watch

_T = TypeVar("_T")


class ApartEnvs:
    """One pool of ``per_member`` environments for each member; those of members that raised show zeros and never end.

    An environment's course depends on its seed and actions alone, so it is the same in a pool of all. ``broken`` maps
    members to what their environments raised, as Python prints it; pools of those named at the start are never made.
    """

    def __init__(
        self,
        config: EnvConfig,
        seeds: Sequence[int],
        per_member: int,
        num_threads: int,
        broken: Mapping[int, str] | None = None,
    ) -> None:
        self.spec, self.num_envs, self._per_member = config.spec, len(seeds), per_member
        self.broken = dict(broken or {})
        self._seeds, self._config, self._num_threads = [int(seed) for seed in seeds], config, num_threads
        self._pools: list[VectorEnv | None] = [None] * (self.num_envs // per_member)

    def reset(self) -> np.ndarray:
        """First observations ``[N, *obs_shape]``."""
        return self._begin(lambda member, pool: pool.reset)

    def _begin(self, first: Callable[[int, VectorEnv], Callable[[], np.ndarray]]) -> np.ndarray:
        """Makes the pools and calls what gives the first observations of each."""
        obs = np.zeros((self.num_envs, *self.spec.obs_shape), self.spec.obs_dtype)
        for member, own in self._members():
            made = self._tried(member, "build", partial(self._config.build, self._seeds[own], self._num_threads))
            self._pools[member] = made
            if made is not None and (seen := self._tried(member, "reset", first(member, made))) is not None:
                obs[own] = seen
        return obs

    def step(self, actions: np.ndarray) -> EnvStep:
        """Steps all environments that are left."""
        obs = np.zeros((self.num_envs, *self.spec.obs_shape), self.spec.obs_dtype)
        rewards = np.zeros((2, self.num_envs), np.float32)
        ends = np.zeros((2, self.num_envs), bool)
        for member, own in self._members():
            pool = self._pools[member]
            assert pool is not None
            step = self._tried(member, "step", partial(pool.step, actions[own]))
            if step is not None:
                obs[own], rewards[0, own], rewards[1, own], ends[0, own], ends[1, own] = step
        return EnvStep(obs, rewards[0], rewards[1], ends[0], ends[1])

    def save(self) -> dict[str, np.ndarray]:
        """The states of those that are left; zeros of the others."""
        found: list[dict[str, np.ndarray] | None] = [None] * len(self._pools)
        for member, _ in self._members():
            pool = self._pools[member]
            assert pool is not None
            found[member] = self._tried(member, "save", _restorable(pool).save)
        names = next((state for state in found if state is not None), {})
        return {
            name: joined([None if state is None else state[name] for state in found], self._per_member)
            for name in names
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """Goes on as saved, in place of ``reset``."""
        own_states = {m: {name: rows[own] for name, rows in state.items()} for m, own in self._members()}
        return self._begin(lambda member, pool: partial(_restorable(pool).restore, own_states[member]))

    def _members(self) -> list[tuple[int, slice]]:
        size = self._per_member
        return [(m, slice(m * size, (m + 1) * size)) for m in range(len(self._pools)) if m not in self.broken]

    def _tried(self, member: int, call: str, action: Callable[[], _T]) -> _T | None:
        try:
            with watch(call):
                return action()
        except Exception:
            self.broken[member] = traceback.format_exc()
            return None

    def close(self) -> None:
        """Frees what is left."""
        for pool in self._pools:
            if pool is not None:
                pool.close()


def _restorable(pool: VectorEnv) -> RestorableEnv:
    assert isinstance(pool, RestorableEnv)
    return pool
