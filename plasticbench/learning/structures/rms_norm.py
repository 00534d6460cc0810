"""RMS normalisation of what every hidden nonlinearity receives: as ``layer_norm``, without taking the mean out.

Source: Zhang & Sennrich, NeurIPS 2019, arXiv 1910.07467: pre-activations are divided by the root of their mean square
over the features of their layer and multiplied by a learned gain; there is no shift. The scale of the weights before it
plays no part, as with LayerNorm, but their common direction does.

What probes measure is what ``layer_norm`` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plasticbench.learning.layers import LayerSpec, Over
from plasticbench.learning.structures._hidden import normalised
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``over``: of a convolution, one mean square of each row's whole map, or one for each position."""

    over: Over = "map"

    def layers(self, specs: Sequence[LayerSpec]) -> list[LayerSpec]:
        """The layers with ``<name>_norm`` behind each that a nonlinearity follows; ``ValueError`` if there is none."""
        return normalised(specs, "rms", self.over, "rms_norm")


PRESETS = {"clean": Config()}
