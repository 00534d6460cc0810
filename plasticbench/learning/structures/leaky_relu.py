"""Leaky ReLU in place of every hidden ReLU: a slope of 0.01 below zero lets gradients through to every unit.

Source: Maas, Hannun & Ng, ICML workshop 2013. A unit can hardly die; whether that keeps it plastic is the question that
Dohare et al. 2024 (arXiv 2306.13812) and Lyle et al. 2023 (arXiv 2303.01486) ask of it. ``dormant_ratio`` looks at
magnitudes, ``dead_units`` calls a unit dead that is below zero on a whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.structures._hidden import with_activation
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Nothing to set."""

    def layers(self, specs: Sequence[LayerSpec]) -> list[LayerSpec]:
        """The layers with every hidden ReLU replaced; raises ``ValueError`` if there is none."""
        return with_activation(specs, "leaky_relu", "leaky_relu")


PRESETS = {"clean": Config()}
