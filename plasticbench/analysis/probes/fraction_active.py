"""Share of hidden activations above zero (FAU, fraction of active units).

Source: Ma et al., "Revisiting plasticity in visual reinforcement learning", ICLR 2024, arXiv 2310.07418.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._shares import share_of_entries
from plasticbench.contracts.network import NetworkView


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """No settings. Meant for ReLU-like nonlinearities; a fraction in [0, 1], pooled over the entries of all layers."""

    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Fractions ``[M]``."""
        return share_of_entries(view, lambda activation: activation > 0)
