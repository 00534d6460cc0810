"""Returns and lengths of episodes, accumulated per environment under next-step autoreset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from plasticbench.contracts.task import EnvStep


class EpisodeStatistics:
    """Sums over finished episodes of N environments; N = M*E, members first. Returns are unclipped."""

    def __init__(self, num_envs: int) -> None:
        self._running_return = np.zeros(num_envs)
        self._running_length = np.zeros(num_envs, np.int64)
        self._sum_returns = np.zeros(num_envs)
        self._sum_lengths = np.zeros(num_envs, np.int64)
        self._counts = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, bool)

    def update(self, step: EnvStep) -> None:
        """Takes one step of all environments; the step that follows an end has length 0."""
        self._running_return += step.raw_reward
        self._running_length += ~self._ended
        self._ended = step.terminated | step.truncated
        self._sum_returns[self._ended] += self._running_return[self._ended]
        self._sum_lengths[self._ended] += self._running_length[self._ended]
        self._counts += self._ended
        self._running_return[self._ended] = 0.0
        self._running_length[self._ended] = 0

    @property
    def ended(self) -> np.ndarray:
        """Which environments are between two episodes, ``[N]``."""
        return self._ended

    def drain(self, members: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sums of returns, sums of lengths and counts ``[M]`` of the finished episodes, which are then forgotten."""
        finished = (self._sum_returns, self._sum_lengths, self._counts)
        returns, lengths, counts = (total.reshape(members, -1).sum(axis=1) for total in finished)
        for total in finished:
            total[:] = 0
        return returns, lengths, counts

    def restart(self) -> None:
        """Drops the running episodes: the environments were reset from outside. Finished ones stay."""
        self._running_return[:] = 0.0
        self._running_length[:] = 0
        self._ended[:] = False

    def select(self, env_indices: Sequence[int] | np.ndarray) -> None:
        """Makes environment ``i`` continue as a copy of ``env_indices[i]``, as a fork of members does."""
        self.load_state_dict({name: values[np.asarray(env_indices)] for name, values in self.state_dict().items()})

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all arrays, each ``[N]``."""
        return {
            "running_return": self._running_return.copy(),
            "running_length": self._running_length.copy(),
            "sum_returns": self._sum_returns.copy(),
            "sum_lengths": self._sum_lengths.copy(),
            "counts": self._counts.copy(),
            "ended": self._ended.copy(),
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what ``state_dict`` returned."""
        self._running_return = state["running_return"].copy()
        self._running_length = state["running_length"].copy()
        self._sum_returns = state["sum_returns"].copy()
        self._sum_lengths = state["sum_lengths"].copy()
        self._counts = state["counts"].copy()
        self._ended = state["ended"].copy()
