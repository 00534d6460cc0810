"""Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438) over rollouts of environments."""

from __future__ import annotations

import numpy as np


def generalized_advantages(
    reward: np.ndarray,
    value: np.ndarray,
    next_value: np.ndarray,
    terminated: np.ndarray,
    is_last: np.ndarray,
    discount: float,
    trace_decay: float,
) -> np.ndarray:
    """Advantages ``[M, T, E]`` of the actions of T steps, the sum of ``(discount trace_decay)^k`` times later errors.

    The error of a step is ``reward + discount next_value - value``, without ``next_value`` where the episode
    ``terminated``. No later error counts beyond a step that ``is_last`` of its path: it ended its episode, by
    termination or truncation, or the environments began anew behind it.
    """
    error: np.ndarray = reward + discount * np.where(terminated, np.float32(0), next_value) - value
    factor = np.where(is_last, np.float32(0), np.float32(discount * trace_decay))
    advantage: np.ndarray = np.empty_like(error)
    later = np.zeros_like(error[:, 0])
    for step in reversed(range(error.shape[1])):
        later = error[:, step] + factor[:, step] * later
        advantage[:, step] = later
    return advantage
