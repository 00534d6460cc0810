"""Squared Frobenius error: how far a reset moved the weights.

Source: FIRE, Han et al., ICLR 2026, arXiv 2602.08040: ||W_after - W_before||_F^2. It is not normalised:
what the paper's normalised variant divides by could not be found.
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
    """No settings. Weights without biases; the total is the sum over layers. Empty except right after a reset."""

    def __post_init__(self) -> None:
        ProbeConfig.__post_init__(self)
        if self.every_steps is not None:
            raise ValueError(
                f"every_steps: must be left out, since sfe is measured right after resets alone, got {self.every_steps}"
            )

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Squared distances ``[M]``."""
        return summed(
            {
                layer.name: squared_norm(layer.weight - layer.previous_weight)
                for layer in view.layers
                if layer.previous_weight is not None
            }
        )
