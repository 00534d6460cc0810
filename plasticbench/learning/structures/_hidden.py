"""Where in a network nonlinearities stand, for structures that rewrite them."""

from __future__ import annotations

from collections.abc import Sequence

from plasticbench.learning.layers import LayerSpec, Norm, Over


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


def takes_norm(spec: LayerSpec) -> bool:
    """Whether a normalisation can stand between this layer and a nonlinearity of its own units alone."""
    return not (spec.is_norm or spec.activation == "identity" or spec.wiring == "closes_residual")


def normalised(specs: Sequence[LayerSpec], norm: Norm, over: Over, kind: str) -> list[LayerSpec]:
    """The layers with ``<name>_norm`` behind each that a nonlinearity follows, which moves there.

    Raises ``ValueError`` if a normalisation stands before every nonlinearity already or there is none.
    """
    rewritten: list[LayerSpec] = []
    for spec in specs[: num_hidden(specs)]:
        if takes_norm(spec):
            own = LayerSpec(f"{spec.name}_norm", spec.role, spec.weight_shape[:1], activation=spec.activation)
            rewritten += [spec._replace(activation="identity"), own._replace(over=over, norm=norm)]
        else:
            rewritten.append(spec)
    if len(rewritten) == num_hidden(specs):
        raise ValueError(
            f"{kind} needs a hidden nonlinearity without a normalisation before it, but this network has none "
            f"(nonlinearities: {activations(specs)}). Leave {kind} out, or choose another network"
        )
    return [*rewritten, *specs[num_hidden(specs) :]]
