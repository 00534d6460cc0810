"""RLlib's episode replay, saved row by row: one row per transition, in the order of arrival.

Rows of one environment arrive episode after episode and leave in whole episodes, oldest first, so the live rows are
the latest ones and the lengths of the live episodes cut them. The observation after an episode's last row is no
row's own; these are kept apart as ``last_obs``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.replay_buffers.episode_replay_buffer import EpisodeReplayBuffer
from torch import Tensor

from plasticbench.contracts.learner import MemberRows


class RowReplay(EpisodeReplayBuffer):
    """RLlib's uniform episode buffer; its generator, capacity and spaces are set by the agent."""

    spaces: tuple[Any, Any]
    last_obs: Tensor | None = None

    def add(self, episodes: Any) -> None:  # type: ignore[override]
        """Adds episodes or parts of them, without the network's outputs, which nothing reads."""
        for episode in episodes:
            episode.extra_model_outputs.clear()
        super().add(episodes)

    @property
    def rows(self) -> int:
        """Transitions added since the beginning."""
        return int(self._num_timesteps_added)

    @property
    def oldest_row(self) -> int:
        """The first transition that is still there."""
        return int(self._num_timesteps_added - self._num_timesteps)

    def clear(self) -> None:
        """Forgets all transitions."""
        self._num_episodes_evicted += len(self.episodes)
        self.episodes, self._indices, self.episode_id_to_index, self._num_timesteps = deque(), [], {}, 0

    def sample_rows(self, uniforms: np.ndarray, n_step: int = 1, gamma: float = 1.0) -> dict[str, np.ndarray]:
        """The transitions over ``n_step`` steps that uniforms ``[N]`` in [0, 1) point to, as arrays ``[N, ...]``."""
        places = [self._indices[int(u * len(self._indices))] for u in uniforms]
        found = [(self.episodes[index - self._num_episodes_evicted], t) for index, t in places]
        return transitions(found, n_step, gamma)

    def meta(self) -> dict[str, Any]:
        """Lengths and ends of the live episodes, and the counters."""
        episodes = [[e.id_, len(e), e.t_started, bool(e.is_terminated), bool(e.is_truncated)] for e in self.episodes]
        return {"rows": self.rows, "evicted": self._num_episodes_evicted, "episodes": episodes}

    def last_observations(self) -> Tensor:
        """The observation after the last row of each live episode, ``[episodes, ...]``."""
        last = [episode.get_observations(-1) for episode in self.episodes]
        shape = (0, *self.spaces[0].shape)
        return torch.from_numpy(np.stack(last) if last else np.empty(shape, np.float32))

    def export(self, since_row: int) -> dict[str, Tensor]:
        """Rows ``[max(since_row, oldest_row), rows)`` as tensors ``[1, rows, ...]``."""
        skip = max(since_row, self.oldest_row) - self.oldest_row
        parts = []
        for episode in self.episodes:
            if skip < len(episode):
                parts.append(_arrays(episode, skip))
            skip = max(0, skip - len(episode))
        if not parts:
            return {"empty": torch.zeros(1, 0)}
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {name: torch.from_numpy(values)[None] for name, values in joined.items()}

    def restore(self, meta: dict[str, Any], chunks: Iterable[tuple[int, MemberRows]], parents: Sequence[int]) -> None:
        """Loads chunks in order of export, into an empty buffer whose ``last_obs`` was loaded before."""
        lengths = [length for _, length, *_ in meta["episodes"]]
        rows = _join(chunks, meta["rows"] - sum(lengths), meta["rows"])
        assert self.last_obs is not None
        self.clear()
        self._num_episodes_evicted = meta["evicted"]
        self._num_timesteps, self._num_timesteps_added = sum(lengths), meta["rows"]
        bounds = np.cumsum([0, *lengths])
        for number, ((low, high), saved) in enumerate(zip(pairwise(bounds), meta["episodes"], strict=True)):
            part = {name: values[low:high] for name, values in rows.items()}
            self.episodes.append(self._episode(part, self.last_obs[number].numpy(), saved))
            index = meta["evicted"] + number
            self.episode_id_to_index[saved[0]] = index
            self._indices.extend((index, t) for t in range(high - low))
        self.last_obs = None

    def _episode(self, rows: dict[str, np.ndarray], last_obs: np.ndarray, saved: Sequence[Any]) -> SingleAgentEpisode:
        id_, length, t_started, terminated, truncated = saved
        return SingleAgentEpisode(
            id_=id_,
            observations=[*rows["obs"], last_obs],
            actions=list(rows["actions"]),
            rewards=list(rows["rewards"]),
            infos=[{}] * (length + 1),
            observation_space=self.spaces[0],
            action_space=self.spaces[1],
            terminated=terminated,
            truncated=truncated,
            t_started=t_started,
            len_lookback_buffer=0,
        ).to_numpy()


def transitions(
    found: Sequence[tuple[SingleAgentEpisode, int]], n_step: int = 1, gamma: float = 1.0
) -> dict[str, np.ndarray]:
    """The transitions over ``n_step`` steps from times of episodes, as RLlib hands them to its learner: ``[N, ...]``.

    Where fewer steps are left they end with what there is. RLlib then discounts what follows by ``gamma ** n_step`` all
    the same, and takes the end for one that episodes go on from.
    """
    ends = [min(t + n_step, len(episode)) for episode, t in found]
    paths = [(episode, t, end) for (episode, t), end in zip(found, ends, strict=True)]
    return {
        "obs": np.stack([episode.get_observations(t) for episode, t in found]),
        "new_obs": np.stack([episode.get_observations(end) for episode, _, end in paths]),
        "actions": np.stack([episode.get_actions(t) for episode, t in found]),
        "rewards": np.array([_discounted(episode, t, end, gamma) for episode, t, end in paths], np.float32),
        "terminateds": np.array([t + n_step == len(episode) and episode.is_terminated for episode, t in found]),
        "n_step": np.full(len(found), n_step, np.float32),
    }


def _discounted(episode: SingleAgentEpisode, start: int, stop: int, gamma: float) -> float:
    rewards = np.asarray(episode.get_rewards(slice(start, stop)), np.float64)
    return float(rewards @ gamma ** np.arange(stop - start))


def targets_of(config: Any) -> dict[str, Any]:
    """``n_step`` and ``gamma`` of an AlgorithmConfig; of a range from which RLlib draws its steps, the lowest."""
    n_step = config.n_step if isinstance(config.n_step, int) else config.n_step[0]
    return {"n_step": n_step, "gamma": config.gamma}


def _arrays(episode: SingleAgentEpisode, skip: int) -> dict[str, np.ndarray]:
    return {
        "obs": np.asarray(episode.get_observations(slice(skip, len(episode)))),
        "actions": np.asarray(episode.get_actions(slice(skip, None))),
        "rewards": np.asarray(episode.get_rewards(slice(skip, None)), np.float32),
    }


def _join(chunks: Iterable[tuple[int, MemberRows]], start: int, stop: int) -> dict[str, np.ndarray]:
    """Rows ``[start, stop)``; where chunks overlap, the later one holds."""
    rows: dict[str, np.ndarray] = {}
    for first_row, tensors in chunks:
        for name, tensor in tensors.items() if "empty" not in tensors else ():
            values = tensor[0].numpy()
            joined = rows.setdefault(name, np.empty((stop - start, *values.shape[1:]), values.dtype))
            low, high = max(first_row, start), min(first_row + len(values), stop)
            if low < high:
                joined[low - start : high - start] = values[low - first_row : high - first_row]
    return rows
