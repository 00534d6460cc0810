"""Learning rate over the norm of the weights: how fast directions can turn as weights grow.

Source: Lyle et al., "Normalization and effective learning rates in RL", NeurIPS 2024, arXiv 2407.01800: eta / ||W|| for
optimizers that normalise their steps, eta / ||W||^2 for plain descent. See ``update_ratio`` for the step itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._totals import squared_norm, summed
from plasticbench.contracts.network import NetworkView, Shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """No settings. An optimizer with means of squared gradients counts as one that normalises its steps.

    Biases, normalisations and schedules of the learning rate are left out. Empty where the optimizer has no learning
    rate.
    """

    needs: ClassVar[Shown | None] = "losses"

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Rates ``[M]``; the total is over the norm of all weights. Infinite where the weights are zeros."""
        if view.workings is None or (rate := view.workings.learning_rate) is None:
            return {}
        squares = summed({layer.name: squared_norm(layer.weight) for layer in view.layers})
        is_normalised = bool(view.workings.second_moments)
        return {name: rate / (square.sqrt() if is_normalised else square) for name, square in squares.items()}
