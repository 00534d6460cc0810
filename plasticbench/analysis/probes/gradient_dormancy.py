"""Share of hidden units whose gradient is at most tau times their layer's mean: they learn next to nothing.

Source: Liu et al., "Measure gradients, not activations!" (GraMa), NeurIPS 2025, arXiv 2505.24061: the dormancy of Sokar
et al. 2023 with the mean magnitude of the loss's gradient of a unit's activation in place of the activation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._totals import pooled
from plasticbench.analysis.probes.dormant_ratio import count
from plasticbench.contracts.network import NetworkView, Shown
from plasticbench.learning.unit_scores import dormancy_scores
from plasticbench.settings import HalfOpenFraction


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``tau`` is relative to the layer's mean. The total pools units; the output layer is left out."""

    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[Shown | None] = "losses"

    tau: HalfOpenFraction = 0.025

    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Fractions ``[M]``."""
        if view.workings is None:
            return {}
        nonlinearities = {layer.name: layer.nonlinearity for layer in view.layers}
        scored = {
            name: dormancy_scores(gradient, nonlinearities[name])
            for name, gradient in view.workings.unit_gradients().items()
        }
        counts = {name: count(score, self.tau) for name, score in scored.items()}
        return pooled(counts, {name: score.shape[1] for name, score in scored.items()})
