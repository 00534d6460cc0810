"""Share of hidden activations that are exactly zero.

For ReLU this is one minus ``fraction_active``. FIRE's code (github.com/isaac7778/FIRE) uses the name for units instead:
that quantity is ``dormant_ratio`` with tau 0.
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
    """No settings; a fraction in [0, 1], pooled over the entries of all layers."""

    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Fractions ``[M]``."""
        return share_of_entries(view, lambda activation: activation == 0)
