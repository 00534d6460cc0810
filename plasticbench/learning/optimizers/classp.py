"""CLASSP: each weight's steps shrink with the gradients that it has followed, and small gradients are not followed.

Source: Ludwig 2024, arXiv 2405.09637: ``w <- w - lr g / (eps + sum |g|^power)^(1 / power)`` where ``g^2 > threshold``,
a generalisation of AdaGrad. Here the sum holds the gradients that were followed, the present one included, as in the
author's code; without it the first step would be one over eps. That code compares no single weight with its threshold
and sums absolute gradients whatever the power; here both are as the paper says. ``ludwig_code`` has its constants,
chosen for image classification: the gradients of most agents never pass that threshold. The default is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from plasticbench.learning.optimizer import BaseSettings, FlatParameters, completed
from plasticbench.learning.optimizers._elementwise import Elementwise
from plasticbench.settings import NonNegativeFloat, PositiveFloat, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``threshold`` is of squared gradients, ``eps`` is added to the sum.

    A learning rate or weight decay that is left out is the agent's own; the decay is decoupled, and of all weights.
    """

    threshold: NonNegativeFloat = 1e-8
    power: PositiveFloat = 1.0
    eps: PositiveFloat = 1e-5
    learning_rate: PositiveFloat | None = None
    weight_decay: NonNegativeFloat | None = None

    def build(self, network: FlatParameters, base: BaseSettings) -> PopulationCLASSP:
        """The optimizer of all parameters."""
        return PopulationCLASSP(network, completed(self, base))


PRESETS = {
    "clean": Config(),
    "adagrad": Config(threshold=0.0, power=2.0, eps=1e-20),
    "ludwig_code": Config(threshold=0.5, learning_rate=0.2),
}


class PopulationCLASSP(Elementwise):
    """The sum of what was followed is its only moment."""

    def __init__(self, network: FlatParameters, config: Config) -> None:
        super().__init__(network, ["followed"])
        self.config = config
        self._passing, self._divisor = torch.empty_like(network.flat), torch.empty_like(network.flat)

    @torch.no_grad()
    def _update(self, weights: Tensor, gradients: Tensor, moments: dict[str, Tensor]) -> None:
        config, followed = self.config, moments["followed"]
        assert config.learning_rate is not None
        passing, divisor = self._passing, self._divisor
        torch.ops.aten.hardshrink.out(gradients, math.sqrt(config.threshold), out=passing)  # NaN passes, and is found
        torch.abs(passing, out=divisor)
        if config.power == 1.0:
            torch.add(followed.add_(divisor), config.eps, out=divisor)
        else:
            torch.add(followed.add_(divisor.pow_(config.power)), config.eps, out=divisor).pow_(1 / config.power)
        if config.weight_decay:
            weights.mul_(1 - config.learning_rate * config.weight_decay)
        weights.addcdiv_(passing, divisor, value=-config.learning_rate)
