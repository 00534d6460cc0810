"""Norm of the optimizer's next change over the norm of the parameters: the effective step.

Source: the effective learning rate of Lyle et al., "Normalization and effective learning rates in RL", NeurIPS 2024,
arXiv 2407.01800, measured on the step that the optimizer would take, because under Adam the gradient misleads. It is
the step at the optimizer's own learning rate: what a schedule multiplies that with (PPO's linear one, a learner's
warm-up and cosine) is left out, so that phases of training can be compared.
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
    """No settings. A layer counts with its bias, so that a bias of zero norm does not make the ratio infinite.

    Normalisations are left out.
    """

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Ratios ``[M]`` >= 0; the total is the ratio of the norms over all layers."""
        moving = [layer for layer in view.layers if layer.weight_update is not None]
        updates = summed({layer.name: squared_norm(layer.weight_update, layer.bias_update) for layer in moving})
        weights = summed({layer.name: squared_norm(layer.weight, layer.bias) for layer in moving})
        return {name: (update / weights[name]).sqrt() for name, update in updates.items()}
