"""Share of activations of bounded nonlinearities that are close to a bound, where hardly any gradient passes.

Source: Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010; the
threshold is that of Plasticine (arXiv 2504.17490) for tanh.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._shares import share_of_entries
from plasticbench.contracts.network import NetworkView
from plasticbench.settings import OpenFraction


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``threshold`` of the magnitude, whose bound is 1. Layers behind anything but tanh are left out."""

    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    nonlinearities: ClassVar[frozenset[str]] = frozenset({"tanh"})

    threshold: OpenFraction = 0.99

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Fractions ``[M]``, pooled over entries; empty where nothing is bounded."""
        bounded = tuple(layer for layer in view.layers if layer.nonlinearity in self.nonlinearities)
        return share_of_entries(replace(view, layers=bounded), lambda activation: activation.abs() > self.threshold)
