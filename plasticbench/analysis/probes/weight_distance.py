"""Euclidean distance of weights and biases from their first initialisation.

Source: Juliani & Ash, "A study of plasticity loss in on-policy deep RL", NeurIPS 2024, arXiv 2405.19153, who divide by
the square root of the number of parameters; here the plain distance, or relative to the initial norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._totals import squared_norm, summed
from plasticbench.contracts.network import LayerView, NetworkView


def _squares(layer: LayerView) -> tuple[Tensor, Tensor]:
    """Squared distance from and squared norm of a layer's initial parameters, ``[M]`` each."""
    assert layer.initial_weight is not None
    bias_change = None if layer.bias is None or layer.initial_bias is None else layer.bias - layer.initial_bias
    distance = squared_norm(layer.weight - layer.initial_weight, bias_change)
    return distance, squared_norm(layer.initial_weight, layer.initial_bias)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``scale: relative`` divides by the norm of the initial parameters.

    The total treats all layers as one vector. Normalisations, and layers without known initial weights, are left out.
    """

    scale: Literal["absolute", "relative"] = "absolute"

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Distances ``[M]``."""
        squares = {layer.name: _squares(layer) for layer in view.layers if layer.initial_weight is not None}
        distances = summed({name: distance for name, (distance, _) in squares.items()})
        if self.scale == "absolute":
            return {name: distance.sqrt() for name, distance in distances.items()}
        references = summed({name: reference for name, (_, reference) in squares.items()})
        return {name: (distance / references[name]).sqrt() for name, distance in distances.items()}
