"""Mean product of the features of a state and of the next one: what value functions learn to tell apart no more.

Source: Kumar, Agarwal, Ma, Courville, Tucker, Levine, "DR3: Value-based deep RL requires explicit regularization", ICLR
2022, arXiv 2112.04716. The product, not the cosine; next actions are the present policy's; ends of episodes count too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.contracts.network import NetworkView, Shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """No settings. Features are what enters the output layer."""

    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    needs: ClassVar[Shown | None] = "next_observations"

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Means ``[M]`` over rows, as total only; empty where next observations are not known."""
        workings = view.workings
        if workings is None or view.features is None or (later := workings.next_inputs) is None:
            return {}
        _, features = workings.forward(workings.parameters, later)
        return {"": (view.features * features).sum(-1).mean(-1)}
