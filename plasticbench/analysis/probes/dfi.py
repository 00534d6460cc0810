"""Deviation from isometry: squared distance of each weight's smaller Gram matrix from the identity.

Source: FIRE, Han et al., ICLR 2026, arXiv 2602.08040: ||W^T W - I||_F^2. For out < in we use W W^T, which drops the
constant in - out that no weight can remove. A convolution is measured per kernel position and averaged over them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._totals import pooled, squared_norm, summed
from plasticbench.contracts.network import NetworkView


def slices(weight: Tensor) -> Tensor:
    """The matrices ``[M, positions, out, in]`` of a linear weight, which has one, or of a convolution's kernel."""
    return weight.reshape(*weight.shape[:3], -1).permute(0, 3, 1, 2)


def muon_scale(weight: Tensor) -> float:
    """What FIRE multiplies an isometry with: sqrt(out / in), for convolutions over the number of positions too."""
    return math.sqrt(weight.shape[1] / weight.shape[2]) / math.prod(weight.shape[3:])


def deviation(weight: Tensor, scale: float) -> Tensor:
    """Sum over singular values of ((sigma / scale)^2 - 1)^2, ``[M]``, averaged over kernel positions."""
    matrices = slices(weight)
    out_width, in_width = matrices.shape[-2:]
    gram = matrices @ matrices.mT if out_width <= in_width else matrices.mT @ matrices
    gram /= scale**2
    gram.diagonal(dim1=-2, dim2=-1).sub_(1.0)
    return squared_norm(gram) / matrices.shape[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``scale: muon`` divides each weight by FIRE's scale first, so that a layer just projected measures 0.

    ``reduction: mean`` divides by min(out, in), which makes layers of different width comparable. The total is the sum
    over all layers, the output layer included; with ``mean`` it is the mean over the singular values of all layers.
    """

    scale: Literal["none", "muon"] = "none"
    reduction: Literal["sum", "mean"] = "sum"

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Deviations ``[M]`` >= 0."""
        weights = {layer.name: layer.weight for layer in view.layers}
        scales = {name: muon_scale(weight) if self.scale == "muon" else 1.0 for name, weight in weights.items()}
        deviations = {name: deviation(weight, scales[name]) for name, weight in weights.items()}
        if self.reduction == "sum":
            return summed(deviations)
        return pooled(deviations, {name: min(weight.shape[1:3]) for name, weight in weights.items()})
