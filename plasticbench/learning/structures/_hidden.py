"""Where in a network nonlinearities stand, for structures that rewrite them."""

from __future__ import annotations

from collections.abc import Sequence

from plasticbench.learning.layers import LayerSpec


def num_hidden(specs: Sequence[LayerSpec]) -> int:
    """How many layers come before the outputs, which are the last layer and its siblings."""
    return max(i for i, spec in enumerate(specs) if spec.wiring != "sibling")


def activations(specs: Sequence[LayerSpec]) -> str:
    """The nonlinearities of the hidden layers, for messages: ``fc1: relu, fc2: relu``, or ``none``."""
    hidden = specs[: num_hidden(specs)]
    return ", ".join(f"{spec.name}: {spec.activation}" for spec in hidden if spec.activation != "identity") or "none"
