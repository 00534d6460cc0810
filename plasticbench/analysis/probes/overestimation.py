"""Mean of values less the returns that followed: what the agent claims beyond what it earned.

Source: van Hasselt, Guez, Silver, "Deep reinforcement learning with double Q-learning", AAAI 2016, arXiv 1509.06461.
Returns are discounted, of the behaviour that filled the replay, up to episodes' ends among its latest 2,000 rows. SAC's
values count entropy and its returns here do not, so that the temperature's share is in the difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.contracts.network import NetworkView, Shown
from plasticbench.settings import PositiveInt


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``rows`` are transitions whose return is known, drawn anew, not those of the probe batch."""

    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    needs: ClassVar[Shown | None] = "returns"

    rows: PositiveInt = 512

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Means ``[M]``, NaN while no episode has come to its end, as total only; empty without values of actions."""
        known = view.workings.claimed_and_earned(self.rows) if view.workings is not None else None
        return {} if known is None else {"": (known[0] - known[1]).mean(1)}
