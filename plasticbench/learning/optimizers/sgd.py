"""Stochastic gradient descent, plain or with momentum.

Source: Robbins & Monro 1951; momentum as in Sutskever et al., ICML 2013, in PyTorch's form: the velocity sums
gradients, and the learning rate multiplies it. It agrees with ``torch.optim.SGD`` but for ``weight_decay``, which
is decoupled.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from plasticbench.learning.optimizer import BaseSettings, FlatParameters, completed
from plasticbench.learning.optimizers._elementwise import Elementwise
from plasticbench.settings import HalfOpenFraction, NonNegativeFloat, PositiveFloat, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """A learning rate or weight decay that is left out is the agent's own."""

    learning_rate: PositiveFloat | None = None
    momentum: HalfOpenFraction = 0.0
    weight_decay: NonNegativeFloat | None = None

    def build(self, network: FlatParameters, base: BaseSettings) -> PopulationSGD:
        """The optimizer of all parameters."""
        return PopulationSGD(network, completed(self, base))


PRESETS = {"clean": Config(), "momentum": Config(momentum=0.9)}


class PopulationSGD(Elementwise):
    """Plain, or with a velocity."""

    def __init__(self, network: FlatParameters, config: Config) -> None:
        super().__init__(network, ["velocity"] if config.momentum else [])
        self.config = config

    @torch.no_grad()
    def _update(self, weights: Tensor, gradients: Tensor, moments: dict[str, Tensor]) -> None:
        config = self.config
        assert config.learning_rate is not None
        if config.weight_decay:
            weights.mul_(1 - config.learning_rate * config.weight_decay)
        direction = moments["velocity"].mul_(config.momentum).add_(gradients) if config.momentum else gradients
        weights.add_(direction, alpha=-config.learning_rate)
