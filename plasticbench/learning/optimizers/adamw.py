"""AdamW: Adam with weight decay that does not pass through the moments.

Source: Loshchilov & Hutter, ICLR 2019, arXiv 1711.05101. The default decay is PyTorch's; SimBa (arXiv 2410.09754) was
published with the same, BBF (arXiv 2305.19452) with ten times as much and its own epsilon.
"""

from __future__ import annotations

from dataclasses import dataclass

from plasticbench.learning.optimizer import BaseSettings, FlatParameters
from plasticbench.learning.optimizers import adam
from plasticbench.settings import HalfOpenFraction, NonNegativeFloat, PositiveFloat, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """A learning rate or ``eps`` that is left out is the agent's own; decay is times the rate, at every update."""

    learning_rate: PositiveFloat | None = None
    beta1: HalfOpenFraction = 0.9
    beta2: HalfOpenFraction = 0.999
    eps: PositiveFloat | None = None
    weight_decay: NonNegativeFloat = 1e-2

    def build(self, network: FlatParameters, base: BaseSettings) -> adam.PopulationAdam:
        """Adam over all parameters, biases and normalisations too."""
        return adam.Config.within(self).build(network, base)


PRESETS = {"clean": Config(), "bbf": Config(learning_rate=1e-4, eps=1.5e-4, weight_decay=0.1)}
