"""Exponential of the entropy of the normalised singular values of the features.

Source: Roy & Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007, definition 1. It uses
the singular values themselves; code that uses their squares, or eigenvalues of the covariance, reports other numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._spectrum import feature_rank
from plasticbench.contracts.network import NetworkView


def effective_rank(sigma: Tensor) -> Tensor:
    """exp(-sum p ln p) with p = sigma / sum sigma, from ``[M, d]`` to ``[M]``; natural logarithm, 0 ln 0 = 0."""
    share = sigma / sigma.sum(-1, keepdim=True)
    entropy: Tensor = torch.special.entr(share).sum(-1)
    return entropy.exp()


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """No settings."""

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """A number in [1, d] per member, 0 for all-zero features, as total only."""
        return feature_rank(view, effective_rank)
