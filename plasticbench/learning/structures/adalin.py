"""AdaLin: every hidden ReLU lets through a learned share of what it would hold back, each unit its own.

Source: Rohani, Khajavi, Chung, Chen & Vaswani, CoLLAs 2025, arXiv 2505.09486: ``relu(x) + alpha x g``, where the gate
``g = cos(pi/2 |relu'(x)|)`` is 1 below 0 and 0 above: a PReLU for each unit. Where their alphas start could not be
looked up; here it is 0, a plain ReLU, which still has a gradient for them. Channels of a convolution have one each.

What probes measure: a unit is dead on a batch where no input is above 0, as with leaky ReLU, although it passes on a
share of what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.structures._hidden import hidden_relus, num_hidden
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """The method has no settings."""

    excludes: ClassVar[dict[str, str]] = {"nap": "it would project slopes as if they were gains and shifts"}

    def layers(self, specs: Sequence[LayerSpec]) -> list[LayerSpec]:
        """The layers with ``<name>_slope`` behind each that a ReLU follows; ``ValueError`` if there is none."""
        replaced = hidden_relus(specs, "adalin")
        rewritten: list[LayerSpec] = []
        for spec in specs[: num_hidden(specs)]:
            if spec.name in replaced:
                own = LayerSpec(f"{spec.name}_slope", spec.role, spec.weight_shape[:1], norm="slope")
                rewritten += [spec._replace(activation="identity"), own._replace(activation="sloped_relu")]
            else:
                rewritten.append(spec)
        return [*rewritten, *specs[num_hidden(specs) :]]


PRESETS = {"clean": Config()}
