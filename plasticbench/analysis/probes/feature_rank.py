"""Number of singular values of the features, over the root of the number of rows, that are above a threshold.

Source: Lyle, Rowland, Dabney, "Understanding and preventing capacity loss in RL", ICLR 2022, arXiv 2204.09560. It grows
with the size of the features, unlike the other ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._spectrum import feature_rank
from plasticbench.contracts.network import NetworkView
from plasticbench.settings import PositiveFloat


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``threshold`` is an absolute size."""

    threshold: PositiveFloat = 0.01

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """A rank in [0, d] per member, as total only."""
        if view.features is None:
            return {}
        least = self.threshold * math.sqrt(view.features.shape[1])
        return feature_rank(view, lambda sigma: torch.where(sigma.isnan(), sigma, (sigma > least).double()).sum(-1))
