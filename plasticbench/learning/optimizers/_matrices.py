"""Which parameters are matrices, for optimizers that treat those apart."""

from __future__ import annotations

from typing import Literal

from plasticbench.learning.network import ParameterSlot, PopulationNetwork

Layers = Literal["hidden", "all"]
"""All layers but the outputs, or all; normalisations never."""


def matrix_slots(network: PopulationNetwork, layers: Layers) -> list[ParameterSlot]:
    """The weights of linear and convolutional layers, in the network's order.

    Raises ``ValueError`` if there are none: a network of outputs alone has no hidden layers.
    """
    chosen = {
        f"{spec.name}.weight"
        for spec in network.specs
        if not spec.is_norm and (layers == "all" or spec not in network.outputs)
    }
    if not chosen:
        names = ", ".join(spec.name for spec in network.specs)
        raise ValueError(f"layers: 'hidden' needs a layer before the outputs, but this network has {names} alone")
    return [slot for slot in network.slots if slot.name in chosen]
