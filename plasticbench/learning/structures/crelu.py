"""Concatenated ReLU in place of every hidden ReLU: each unit is passed on twice, as its positive and its negative part.

Source: Abbas et al., CoLLAs 2023, arXiv 2303.07507, after Shang et al., ICML 2016, arXiv 1603.05201. Either part lets
gradients through, so a unit is dead only where its pre-activation is exactly 0. Layers that read it have two inputs for
each unit (or channel), first all positive parts, then all negative ones, and are initialised for that fan-in.

What probes measure: both parts count as one unit in ``dormant_ratio``. ``fraction_active`` and ``zero_activation``
count entries, of which half are 0 by construction: both are 0.5 while nothing is lost, and move away from it only where
a pre-activation is exactly 0. ``feature_norm`` is the norm of the last pre-activations. Ranks are of two features for
each unit, so they need as many rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.structures._hidden import activations, num_hidden
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``width``: ``double`` keeps the units, and readers have twice the inputs; ``halve`` halves the units instead.

    Of a network of L hidden layers of width n, ``double`` has about twice the weights and ``halve`` about half of them.
    """

    width: Literal["double", "halve"] = "double"

    def layers(self, specs: Sequence[LayerSpec]) -> list[LayerSpec]:
        """The layers with every hidden ReLU replaced.

        Raises ``ValueError`` if there is none, if a residual stream would change its width, or if an odd number of
        units would have to be halved.
        """
        replaced = {spec.name for spec in specs[: num_hidden(specs)] if spec.activation == "relu"}
        if not replaced:
            raise ValueError(
                "crelu needs a hidden ReLU to replace, but this network has none (nonlinearities: "
                f"{activations(specs)}). Leave crelu out, or the part that put others in place of ReLU"
            )
        return list(_rewritten(specs, replaced, _halved(specs, replaced) if self.width == "halve" else set()))


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
                raise ValueError(f"width: 'halve' would {where}. Try 'double', or leave crelu out")
            halved[source.name] = source.weight_shape[0]
    if odd := [f"{units} in {name}" for name, units in halved.items() if units % 2]:
        raise ValueError(f"width: 'halve' needs even numbers of units, got {', '.join(odd)}")
    return set(halved)


def _rewritten(specs: Sequence[LayerSpec], replaced: set[str], halved: set[str]) -> Iterator[LayerSpec]:
    """Layers with CReLU where a ReLU is replaced, and of those that are halved half the units."""
    wider = read = Fraction(1)  # than before: what the layer before passes on, and what this layer reads
    for spec in specs:
        if spec.wiring == "opens_residual" and wider != 1:
            where = f"double the residual stream that {spec.name} reads"
            raise ValueError(f"width: 'double' would {where}. Try 'halve', or leave crelu out")
        if spec.wiring != "sibling":
            read = wider
        if spec.is_norm:
            shape: tuple[int, ...] = (int(wider * spec.weight_shape[0]),)
        else:
            wider = Fraction(1, 2) if spec.name in halved else Fraction(1)
            units, inputs, *kernel = spec.weight_shape
            shape = (int(wider * units), int(read * inputs), *kernel)
        spec = spec._replace(weight_shape=shape)
        if spec.name in replaced:
            wider *= 2
            spec = spec._replace(activation="crelu")
        yield spec


PRESETS = {"clean": Config()}
