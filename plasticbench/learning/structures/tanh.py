"""Tanh in place of every hidden ReLU: bounded, and saturated rather than silent where it stops learning.

Source: the nonlinearity of on-policy agents (Schulman et al. 2017, arXiv 1707.06347), for whose loss of plasticity
Moalla et al. 2024 (arXiv 2405.00662) call a unit dead whose deviation over a batch is below 0.001.
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
        return with_activation(specs, "tanh", "tanh")


PRESETS = {"clean": Config()}
