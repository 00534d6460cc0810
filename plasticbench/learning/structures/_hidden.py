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


def hidden_relus(specs: Sequence[LayerSpec], kind: str) -> set[str]:
    """Names of the layers behind which a ReLU stands, for the structure ``kind`` to replace; ``ValueError`` if none."""
    found = {spec.name for spec in specs[: num_hidden(specs)] if spec.activation == "relu"}
    if not found:
        raise ValueError(
            f"{kind} needs a hidden ReLU to replace, but this network has none (nonlinearities: "
            f"{activations(specs)}). Leave {kind} out, or the part that put others in place of ReLU"
        )
    return found


def with_activation(specs: Sequence[LayerSpec], activation: str, kind: str) -> list[LayerSpec]:
    """The layers with every hidden ReLU replaced by a nonlinearity that leaves widths alone."""
    replaced = hidden_relus(specs, kind)
    return [spec._replace(activation=activation) if spec.name in replaced else spec for spec in specs]
