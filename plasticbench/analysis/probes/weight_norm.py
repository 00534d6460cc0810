"""Euclidean norm of weights and biases.

Source: the quantity whose growth Lyle et al., "Normalization and effective learning rates in RL", NeurIPS 2024, arXiv
2407.01800, tie to loss of plasticity; there layer by layer, as the layer values here.
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
    """No settings. Each layer counts with its bias, a normalisation not at all; the total is over all layers."""

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Norms ``[M]``."""
        squares = {layer.name: squared_norm(layer.weight, layer.bias) for layer in view.layers}
        return {name: square.sqrt() for name, square in summed(squares).items()}
