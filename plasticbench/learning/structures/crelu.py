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

from collections.abc import Sequence
from dataclasses import dataclass

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.structures._doubling import Width, doubled
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``width``: ``double`` keeps the units, and readers have twice the inputs; ``halve`` halves the units instead.

    Of a network of L hidden layers of width n, ``double`` has about twice the weights and ``halve`` about half of them.
    """

    width: Width = "double"

    def layers(self, specs: Sequence[LayerSpec]) -> list[LayerSpec]:
        """The layers with every hidden ReLU replaced; raises ``ValueError`` as ``doubled`` does."""
        return doubled(specs, "crelu", self.width, "crelu")


PRESETS = {"clean": Config()}
