"""Which parameters are matrices, for optimizers that treat those apart."""

from __future__ import annotations

from typing import Literal

from plasticbench.learning.network import ParameterSlot
from plasticbench.learning.optimizer import NetworkParameters

Layers = Literal["hidden", "all"]
"""All layers but the outputs, or all; normalisations never."""


def matrix_slots(network: NetworkParameters, layers: Layers) -> list[ParameterSlot]:
    """The weights of linear and convolutional layers, in the network's order.

    Raises ``ValueError`` if there are none: a network of outputs alone has no hidden layers.
    """
    chosen = network.matrices(layers)
    if not chosen:
        names = ", ".join(spec.name for spec in network.specs)
        raise ValueError(f"layers: 'hidden' needs a layer before the outputs, but this network has {names} alone")
    return [slot for slot in network.slots if slot.name in chosen]
