"""Mean information of whether a hidden unit is on, in bits: 1 for a unit that is on for half of the rows.

A unit that is never on is dead, and one that always is has become linear: both carry 0 bits. Source of the symptom:
Lyle et al., "Disentangling the causes of plasticity loss in neural networks", 2024, arXiv 2402.18762; the measure is
the entropy of a Bernoulli variable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._totals import pooled
from plasticbench.contracts.network import NetworkView
from plasticbench.learning.activations import by_unit


def bits(share: Tensor) -> Tensor:
    """Entropy of events with these probabilities."""
    entropy: Tensor = torch.special.entr(share) + torch.special.entr(1.0 - share)
    return entropy / math.log(2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """No settings. A unit is on where it passes on more than 0; of a convolution each position counts as a row."""

    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Bits ``[M]``; the total pools units."""
        on = {
            layer.name: (by_unit(layer.activation, layer.nonlinearity) > 0).double().mean(dim=(1, 3))
            for layer in view.layers
            if layer.activation is not None
        }
        sums = {name: bits(share).sum(-1) for name, share in on.items()}
        return pooled(sums, {name: share.shape[1] for name, share in on.items()})
