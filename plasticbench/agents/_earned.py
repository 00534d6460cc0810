"""What actions of the replay were thought to be worth, and what was earned after them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from plasticbench.seeding import derive_generator

if TYPE_CHECKING:
    from plasticbench.agents._population import ReplayAgent

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
def claimed_and_earned(agent: ReplayAgent, network: str, rows: int) -> tuple[Tensor, Tensor]:
    """Values of a network, and returns, of ``rows`` transitions of each member, drawn with repeats.

    Returns are those of the behaviour that filled the replay. A member without any has NaN.
    """
    slots, outcome, valid = agent.replay.latest_courses(_RECENT_ROWS)
    if not len(slots):  # cleared at this very step
        nothing = torch.full((len(agent.streams), rows), torch.nan)
        return nothing, nothing
    returns = discounted_returns(outcome[..., 0], outcome[..., 1], valid, agent.replay.discount)
    chosen = np.zeros((len(returns), rows), dtype=np.int64)  # without a known return, whatever is first
    for member, (own, streams) in enumerate(zip(returns.reshape(len(returns), -1), agent.streams, strict=True)):
        if len(known := np.flatnonzero(np.isfinite(own))):
            chosen[member] = derive_generator(streams.seed, "probe", "earned").choice(known, rows)
    batch = agent.replay.transitions(slots.ravel()[chosen])
    (trained,) = (each for each in agent.trained if each.name == network)
    values = trained.online.forward(agent.inputs(batch)[network])
    if "action_values" in agent.meaning(network):
        values = values.gather(-1, batch.action[..., None])
    earned = np.take_along_axis(returns.reshape(len(returns), -1), chosen, 1)
    return values.squeeze(-1), torch.from_numpy(earned).to(values)
