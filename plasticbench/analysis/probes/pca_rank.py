"""Number of principal directions that carry a share 1 - delta of the features' squared size.

Source: Moalla, Miele, Pyatko, Pascanu, Gulcehre, "No representation, no trust", NeurIPS 2024, arXiv 2405.00662; also
FIRE's SAC code. As ``srank`` with squares of singular values; features are not centred.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._spectrum import feature_rank
from plasticbench.analysis.probes.srank import srank
from plasticbench.contracts.network import NetworkView
from plasticbench.settings import OpenFraction


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``delta`` is the share of the sum of squares that may be left out."""

    delta: OpenFraction = 0.01

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """A rank in [0, d] per member, as total only."""
        return feature_rank(view, lambda sigma: srank(sigma.square(), self.delta))
