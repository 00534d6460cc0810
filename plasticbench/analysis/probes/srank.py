"""Number of singular values that carry a share 1 - delta of their sum.

Source: Kumar, Agarwal, Ghosh, Levine, "Implicit under-parameterization inhibits data-efficient deep RL", ICLR 2021,
arXiv 2010.14498. Several code bases call it stable rank; here ``stable_rank`` is the classical one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._spectrum import feature_rank
from plasticbench.contracts.network import NetworkView
from plasticbench.settings import OpenFraction


def srank(sigma: Tensor, delta: float) -> Tensor:
    """Smallest k ``[M]`` with the k largest of ``[M, d]`` descending values summing to (1 - delta) of all."""
    cumulative = sigma.cumsum(-1)
    return (cumulative < (1.0 - delta) * cumulative[:, -1:]).sum(-1).double() + 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``delta`` is the share of the sum of singular values that may be left out."""

    delta: OpenFraction = 0.01

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """A rank in [0, d] per member, as total only."""
        return feature_rank(view, lambda sigma: srank(sigma, self.delta))
