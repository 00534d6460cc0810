"""Share of hidden units whose mean magnitude is at most tau times their layer's mean.

Source: Sokar, Agarwal, Castro, Evci, "The dormant neuron phenomenon in deep RL", ICML 2023, arXiv 2302.12902, eq. 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._totals import pooled
from plasticbench.contracts.network import NetworkView
from plasticbench.learning.unit_scores import dormancy_scores, is_dormant
from plasticbench.settings import HalfOpenFraction


def count(score: Tensor, tau: float) -> Tensor:
    """Number of dormant units ``[M]``; NaN for a layer with non-finite activations."""
    return torch.where(score.isfinite().all(-1), is_dormant(score, tau).sum(-1).double(), torch.nan)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``tau`` is relative to the layer's mean: 0.025 and 0.1 are both in use, 0 counts units that never fire.

    The total pools units: all dormant units over all hidden units, a fraction in [0, 1]. The output layer is left out.
    """

    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    tau: HalfOpenFraction = 0.025

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Fractions ``[M]``."""
        scored = {
            layer.name: dormancy_scores(layer.activation, layer.nonlinearity)
            for layer in view.layers
            if layer.activation is not None
        }
        counts = {name: count(score, self.tau) for name, score in scored.items()}
        return pooled(counts, {name: score.shape[1] for name, score in scored.items()})
