"""Squared Frobenius norm of the features over their squared spectral norm.

Source: Rudelson & Vershynin, "Sampling from large matrices", J. ACM 2007, arXiv math/0503442 (as numerical rank).
Code that calls Kumar's rank by this name measures ``srank``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._spectrum import feature_rank
from plasticbench.contracts.network import NetworkView


def stable_rank(sigma: Tensor) -> Tensor:
    """Sum of squares over the largest square, from descending ``[M, d]`` to ``[M]``."""
    return (sigma / sigma[:, :1]).square().sum(-1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """No settings."""

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """A number in [1, d] per member, 0 for all-zero features, as total only."""
        return feature_rank(view, stable_rank)
