"""Width multiplier: every hidden layer has so many times as many units.

Source: the scaling studies of deep RL, which widen all hidden layers by one factor (SimBa: Lee et al., ICLR 2025, arXiv
2410.09754). Initialisers follow the new sizes. Numbers of units are rounded, halves up, and are at least 1.

What probes measure: shares of units compare across widths; ranks and numbers of units do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from plasticbench.learning.activations import ACTIVATIONS
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.structures._hidden import num_hidden
from plasticbench.settings import PositiveFloat, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``factor``: above 1 makes layers wider, below 1 narrower; channels of convolutions are units."""

    factor: PositiveFloat = 2.0

    def layers(self, specs: Sequence[LayerSpec]) -> list[LayerSpec]:
        """The layers with other numbers of hidden units.

        Raises ``ValueError`` if no layer is hidden, or if units that a nonlinearity takes in pairs become odd.
        """
        if not (last := num_hidden(specs)):
            raise ValueError("width needs a hidden layer, but this network has outputs alone. Choose another network")
        rewritten: list[LayerSpec] = []
        before = after = 1  # units that the next layer reads, of the network as it was and of the new one
        for index, spec in enumerate(specs):
            units, *inputs = spec.weight_shape
            if spec.norm == "gamma":
                rewritten.append(spec)
                continue
            if spec.is_norm:
                rewritten.append(spec._replace(weight_shape=(units // before * after,)))
                continue
            inputs[0] = inputs[0] // before * after
            if index >= last:
                rewritten.append(spec._replace(weight_shape=(units, *inputs)))
                continue
            before, after = units, max(1, math.floor(self.factor * units + 0.5))
            rewritten.append(spec._replace(weight_shape=(after, *inputs)))
        _require_pairs(rewritten[:last])
        return rewritten


PRESETS = {"clean": Config(), "half": Config(factor=0.5)}


def _require_pairs(hidden: Sequence[LayerSpec]) -> None:
    odd = [s for s in hidden if ACTIVATIONS[s.activation].mixes_units and s.weight_shape[0] % 2]
    if odd:
        found = ", ".join(f"{spec.weight_shape[0]} in {spec.name}" for spec in odd)
        raise ValueError(f"factor: {odd[0].activation} takes units in pairs, got {found}. Choose another factor")
