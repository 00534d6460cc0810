"""Nonlinearities that pass each unit on twice, in place of every hidden ReLU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.structures._hidden import hidden_relus

Width = Literal["double", "halve"]
"""Whether units stay, and readers have twice the inputs, or readers stay, and units are half as many."""


def doubled(specs: Sequence[LayerSpec], activation: str, width: Width, kind: str) -> list[LayerSpec]:
    """The layers with every hidden ReLU replaced by ``activation``; ``kind`` is the structure's name, for messages.

    Raises ``ValueError`` if there is none, if a residual stream would change its width, or if an odd number of units
    would have to be halved.
    """
    replaced = hidden_relus(specs, kind)
    return list(_rewritten(specs, replaced, _halved(specs, replaced) if width == "halve" else set(), activation))


def _halved(specs: Sequence[LayerSpec], replaced: set[str]) -> set[str]:
    """The layers whose units the replaced ReLUs pass on."""
    halved: dict[str, int] = {}
    source: LayerSpec | None = None  # whose units are on their way; none while they are a residual stream's
    for spec in specs:
        if not spec.is_norm:
            source = spec
        if spec.wiring == "closes_residual" or (spec.is_norm and spec.wiring == "opens_residual"):
            source = None
        if spec.name in replaced:
            if source is None:
                where = f"halve the residual stream on which the ReLU of {spec.name} stands"
                raise ValueError(f"width: 'halve' would {where}. Try 'double'")
            halved[source.name] = source.weight_shape[0]
    if odd := [f"{units} in {name}" for name, units in halved.items() if units % 2]:
        raise ValueError(f"width: 'halve' needs even numbers of units, got {', '.join(odd)}")
    return set(halved)


def _rewritten(
    specs: Sequence[LayerSpec], replaced: set[str], halved: set[str], activation: str
) -> Iterator[LayerSpec]:
    """Layers with the new nonlinearity where a ReLU is replaced, and of those that are halved half the units."""
    wider = read = Fraction(1)  # than before: what the layer before passes on, and what this layer reads
    for spec in specs:
        if spec.wiring == "opens_residual" and wider != 1:
            where = f"double the residual stream that {spec.name} reads"
            raise ValueError(f"width: 'double' would {where}. Try 'halve'")
        if spec.wiring != "sibling":
            read = wider
        if spec.is_norm:
            shape: tuple[int, ...] = (1 if spec.norm == "gamma" else int(wider * spec.weight_shape[0]),)
        else:
            wider = Fraction(1, 2) if spec.name in halved else Fraction(1)
            units, inputs, *kernel = spec.weight_shape
            shape = (int(wider * units), int(read * inputs), *kernel)
        spec = spec._replace(weight_shape=shape)
        if spec.name in replaced:
            wider *= 2
            spec = spec._replace(activation=activation)
        yield spec
