"""Euclidean norm of the gradient of the agent's own loss on the probe batch, before any clipping.

Source: tracked as a symptom of plasticity loss by Abbas, Zhao, Modayil, White, Machado, "Loss of plasticity in
continual deep RL", CoLLAs 2023, arXiv 2303.07507. Its size depends on how the loss is reduced over the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._totals import squared_norm, summed
from plasticbench.contracts.network import NetworkView


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """No settings. The total is over all layers; normalisations, and layers without a gradient, are left out."""

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Norms ``[M]``."""
        squares = {
            layer.name: squared_norm(layer.weight_gradient, layer.bias_gradient)
            for layer in view.layers
            if layer.weight_gradient is not None
        }
        return {name: square.sqrt() for name, square in summed(squares).items()}
