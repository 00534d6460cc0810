"""Deep Fourier features in place of every hidden ReLU: each unit is passed on as its sine and its cosine.

Source: Lewandowski, Schuurmans & Machado, ICLR 2025, arXiv 2410.20634. At every point one of both is nearly linear in
the unit, so gradients always pass, and together they stay as expressive as any. As in the paper units are halved, so
that layers stay as wide as they were; ``width: double`` keeps the units instead.

What probes measure: no unit can be dead, and ``dormant_ratio`` is zero by construction. Ranks are of two features for
each unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.structures._doubling import Width, doubled
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``width``: halve keeps layers as wide as they were, with half the units; double keeps the units."""

    width: Width = "halve"

    def layers(self, specs: Sequence[LayerSpec]) -> list[LayerSpec]:
        """The layers with every hidden ReLU replaced; raises ``ValueError`` as ``doubled`` does."""
        return doubled(specs, "fourier", self.width, "deep_fourier")


PRESETS = {"clean": Config()}
