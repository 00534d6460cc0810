"""Standard deviation of each weight's singular values over their mean: 0 where it is a multiple of an isometry.

Source: Saxe, McClelland, Ganguli, ICLR 2014, arXiv 1312.6120 (dynamical isometry); unlike the largest over the smallest
it does not hang on the smallest alone. A convolution is the matrix [out, in * kh * kw].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._spectrum import singular_values
from plasticbench.analysis.probes._totals import pooled
from plasticbench.contracts.network import NetworkView


def spread(sigma: Tensor) -> Tensor:
    """Coefficient of variation ``[M]`` of ``[M, d]``, 0 for zeros alone."""
    mean = sigma.mean(-1)
    deviation: Tensor = sigma.std(-1, correction=0)
    return torch.where(mean > 0.0, deviation / mean, mean)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """No settings. The total is the mean over layers, each with the number of its singular values."""

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Spreads ``[M]`` >= 0."""
        matrices = {layer.name: layer.weight.flatten(2) for layer in view.layers}
        upright = {name: each if each.shape[1] >= each.shape[2] else each.mT for name, each in matrices.items()}
        sizes = {name: each.shape[2] for name, each in upright.items()}
        spreads = {name: spread(singular_values(each)) for name, each in upright.items()}
        total = pooled({name: value * sizes[name] for name, value in spreads.items()}, sizes)
        return {"": total[""], **spreads} if spreads else {}
