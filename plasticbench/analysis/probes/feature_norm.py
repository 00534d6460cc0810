"""Mean Euclidean norm of the feature vectors that enter the output layer.

Source: Lyle, Rowland, Dabney, "Understanding and preventing capacity loss in RL", ICLR 2022, arXiv 2204.09560, studies
the features; FIRE's code sums norms over all modules instead, which gives larger numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.contracts.network import NetworkView


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """No settings."""

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Mean over rows ``[M]``, as total only."""
        return {} if view.features is None else {"": vector_norm(view.features, dim=-1).mean(-1)}
