"""Share of hidden units that no row of the batch moves: they pass nothing on and get no gradient.

Source: Abbas et al., CoLLAs 2023, arXiv 2303.07507, for ReLU; the rules for tanh and leaky ReLU are those of Moalla et
al. 2024, arXiv 2405.00662 (``learning/activations.py``). The share falls with the number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._totals import pooled
from plasticbench.contracts.network import NetworkView
from plasticbench.learning.activations import dead_units


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """No settings. The total pools units; behind GELU, SiLU, sines and MaxMin none is ever dead."""

    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Fractions ``[M]``."""
        dead = {
            layer.name: dead_units(layer.activation, layer.nonlinearity)
            for layer in view.layers
            if layer.activation is not None
        }
        counts = {name: each.sum(-1).double() for name, each in dead.items()}
        return pooled(counts, {name: each.shape[1] for name, each in dead.items()})
