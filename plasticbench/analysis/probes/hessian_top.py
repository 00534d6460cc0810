"""Eigenvalue of the Hessian of the agent's own loss that is largest in magnitude, with its sign.

Source: power iteration on products of the Hessian with a vector (Pearlmutter, Neural Computation 1994); as a symptom of
lost plasticity: Lewandowski et al., "Directions of curvature as an explanation for loss of plasticity", 2023, arXiv
2312.00246. Targets are frozen, as in an update. Huber's loss is flat beyond its threshold, and ReLU has no curvature of
its own.
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

_TINY = 1e-30


def normalised(vectors: Tensor) -> Tensor:
    """Vectors ``[M, P]`` of length 1; zeros stay."""
    unit: Tensor = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=_TINY)
    return unit


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``iterations`` of the power iteration, from a vector of each trial's own that is the same at every look."""

    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    needs: ClassVar[Shown | None] = "losses"

    iterations: PositiveInt = 20

    def working_bytes(self, weight_bytes: int, pass_bytes: int) -> int:
        """Directions, and the gradient's own graph, which a product with the Hessian goes back through."""
        return 6 * weight_bytes + 2 * pass_bytes

    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Eigenvalues ``[M]``, as total only."""
        if view.workings is None:
            return {}
        times = view.workings.curvature()
        size = sum(value[0].numel() for value in view.workings.parameters.values())
        drawn = [rng.standard_normal(size, dtype=np.float32) for rng in view.workings.generators("hessian_top")]
        direction = normalised(torch.from_numpy(np.stack(drawn)).to(view.workings.inputs.device))
        for _ in range(self.iterations):
            product = times(direction)
            value = (direction * product).sum(1)
            direction = normalised(product)
        return {"": value}
