"""Trace of the Hessian of the agent's own loss: the sum of all curvatures.

Source: Hutchinson, "A stochastic estimator of the trace of the influence matrix", 1990: the mean of v' H v over vectors
of random signs. Its standard error falls with the square root of ``samples``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.contracts.network import NetworkView, Shown
from plasticbench.settings import PositiveInt


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``samples`` are vectors of signs, the same ones at every look, so that a change is the network's own."""

    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    needs: ClassVar[Shown | None] = "losses"

    samples: PositiveInt = 10

    def working_bytes(self, weight_bytes: int, pass_bytes: int) -> int:
        """Directions, and the gradient's own graph, which a product with the Hessian goes back through."""
        return 6 * weight_bytes + 2 * pass_bytes

    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Traces ``[M]``, as total only."""
        if view.workings is None:
            return {}
        times, generators = view.workings.curvature(), view.workings.generators("hessian_trace")
        size = sum(value[0].numel() for value in view.workings.parameters.values())
        found = []
        for _ in range(self.samples):
            signs = np.stack([2 * rng.integers(2, size=size, dtype=np.int8) - 1 for rng in generators])
            direction = torch.from_numpy(signs).to(view.workings.inputs.device, torch.float32)
            found.append((direction * times(direction)).sum(1))
        return {"": torch.stack(found).mean(0)}
