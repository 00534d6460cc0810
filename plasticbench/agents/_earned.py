"""What actions of the replay were thought to be worth, and what was earned after them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from plasticbench.agents._replay import Batch, PopulationReplay
from plasticbench.seeding import derive_generator

_RECENT_ROWS = 2_000  # of the replay, in which ends of episodes are looked for


def discounted_returns(reward: np.ndarray, terminated: np.ndarray, valid: np.ndarray, discount: float) -> np.ndarray:
    """What followed each row ``[M, rows, E]`` until its episode's end; NaN where that is not there or was cut short."""
    returns = np.full(reward.shape, np.nan)
    later = np.full(reward[:, 0].shape, np.nan)
    for row in reversed(range(reward.shape[1])):
        follows = np.where(terminated[:, row] > 0, 0.0, discount * later)
        later = np.where(valid[:, row], reward[:, row] + follows, np.nan)
        returns[:, row] = later
    return returns


@torch.no_grad()
def claimed_and_earned(
    replay: PopulationReplay, seeds: Sequence[int], values: Callable[[Batch], Tensor], rows: int
) -> tuple[Tensor, Tensor]:
    """Values and returns ``[M, rows]`` of transitions that are drawn with repeats where returns are known.

    Returns are those of the behaviour that filled the replay. A member without any has NaN.
    """
    slots, outcome, valid = replay.latest_courses(_RECENT_ROWS)
    if not len(slots):  # cleared at this very step
        nothing = torch.full((len(seeds), rows), torch.nan)
        return nothing, nothing
    returns = discounted_returns(outcome[..., 0], outcome[..., 1], valid, replay.discount).reshape(len(seeds), -1)
    chosen = np.zeros((len(seeds), rows), dtype=np.int64)  # without a known return, whatever is first
    for member, (own, seed) in enumerate(zip(returns, seeds, strict=True)):
        if len(known := np.flatnonzero(np.isfinite(own))):
            chosen[member] = derive_generator(seed, "probe", "earned").choice(known, rows)
    claimed = values(replay.transitions(slots.ravel()[chosen]))
    return claimed, torch.from_numpy(np.take_along_axis(returns, chosen, 1)).to(claimed)
