"""Share of hidden units whose mean magnitude is at most tau times their layer's mean.

Source: Sokar, Agarwal, Castro, Evci, "The dormant neuron phenomenon in deep RL", ICML 2023, arXiv 2302.12902, eq. 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._totals import pooled
from plasticbench.contracts.network import NetworkView
from plasticbench.settings import HalfOpenFraction

# Scores are never negative: at tau 0 a score counts that rounding alone keeps above it.
_TOLERANCE = 1e-8
# A layer of silent units has mean 0: all its scores must be 0, not 0/0.
_EPSILON = 1e-9


def scores(activation: Tensor) -> Tensor:
    """Mean magnitude of each unit over its layer's mean, ``[M, units]`` >= 0.

    A convolution's unit is a channel; its mean runs over rows and positions.
    """
    dims = [dim for dim in range(activation.ndim) if dim not in (0, 2)]
    # The 1-norm is the sum of magnitudes, without a copy of all of them.
    sums: Tensor = vector_norm(activation, ord=1, dim=dims)
    magnitude = sums.double() / math.prod(activation.shape[dim] for dim in dims)
    return magnitude / (magnitude.mean(-1, keepdim=True) + _EPSILON)


def count(score: Tensor, tau: float) -> Tensor:
    """Number of dormant units ``[M]``; NaN for a layer with non-finite activations."""
    dormant = (score <= tau + _TOLERANCE).sum(-1)
    return torch.where(score.isfinite().all(-1), dormant.double(), torch.nan)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``tau`` is relative to the layer's mean: 0.025 and 0.1 are both in use, 0 counts units that never fire.

    The total pools units: all dormant units over all hidden units, a fraction in [0, 1]. The output layer is left out.
    """

    tau: HalfOpenFraction = 0.025

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Fractions ``[M]``."""
        scored = {layer.name: scores(layer.activation) for layer in view.layers if layer.activation is not None}
        counts = {name: count(score, self.tau) for name, score in scored.items()}
        return pooled(counts, {name: score.shape[1] for name, score in scored.items()})
