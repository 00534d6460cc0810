"""RMSprop over the flat buffer of a population: the gradient divided by the root of its running mean of squares.

Source: Tieleman & Hinton 2012, lecture 6.5 of Coursera's Neural Networks for Machine Learning; centred as in Graves
2013 (arXiv 1308.0850, eq. 40), with which DQN was published. It agrees with ``torch.optim.RMSprop``. ``minatar`` is
what Young & Tian 2019 (arXiv 1903.03176) train with: their code names a momentum, but gives it to no optimizer.
``dopamine`` is what Castro et al. 2018 (arXiv 1812.06110) do: TensorFlow and Optax add ``eps`` under the root.
TensorFlow moreover starts the mean of squares at 1; Optax, as here, at 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from plasticbench.learning.optimizer import BaseSettings, FlatParameters, completed
from plasticbench.learning.optimizers._elementwise import Elementwise
from plasticbench.settings import HalfOpenFraction, NonNegativeFloat, PositiveFloat, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """A learning rate, ``eps`` or weight decay that is left out is the agent's own.

    ``decay`` is PyTorch's ``alpha``; ``centered`` divides by the standard deviation in place of the root mean square;
    ``momentum`` is of the divided gradients; ``eps`` is added to the root, or to what stands under it. ``weight_decay``
    is decoupled.
    """

    learning_rate: PositiveFloat | None = None
    decay: HalfOpenFraction = 0.99
    centered: bool = False
    momentum: HalfOpenFraction = 0.0
    eps: PositiveFloat | None = None
    eps_place: Literal["outside_root", "inside_root"] = "outside_root"
    weight_decay: NonNegativeFloat | None = None

    def build(self, network: FlatParameters, base: BaseSettings) -> PopulationRMSprop:
        """The optimizer of all parameters."""
        return PopulationRMSprop(network, completed(self, base))


PRESETS = {
    "clean": Config(),
    "minatar": Config(decay=0.95, eps=0.01, centered=True),
    "dopamine": Config(decay=0.95, eps=1e-5, eps_place="inside_root", centered=True),
}


class PopulationRMSprop(Elementwise):
    """Centred or not, with momentum or without."""

    second_moments = frozenset({"square_avg"})

    def __init__(self, network: FlatParameters, config: Config) -> None:
        names = ["square_avg", *(["grad_avg"] if config.centered else ())]
        super().__init__(network, names + (["momentum_buffer"] if config.momentum else []))
        self.config = config

    @torch.no_grad()
    def _update(self, weights: Tensor, gradients: Tensor, moments: dict[str, Tensor]) -> None:
        config = self.config
        assert config.learning_rate is not None
        if config.weight_decay:
            weights.mul_(1 - config.learning_rate * config.weight_decay)
        divisor = self._divisor(gradients, moments)
        if config.momentum:
            buffer = moments["momentum_buffer"].mul_(config.momentum).addcdiv_(gradients, divisor)
            weights.add_(buffer, alpha=-config.learning_rate)
        else:
            weights.addcdiv_(gradients, divisor, value=-config.learning_rate)

    def _divisor(self, gradients: Tensor, moments: dict[str, Tensor]) -> Tensor:
        config = self.config
        assert config.eps is not None
        squares = moments["square_avg"].mul_(config.decay).addcmul_(gradients, gradients, value=1 - config.decay)
        variance = squares
        if config.centered:
            mean = moments["grad_avg"].lerp_(gradients, 1 - config.decay)
            # Of a constant gradient there is no variance, which rounding may take below 0, and its root to NaN.
            variance = squares.addcmul(mean, mean, value=-1).clamp_(min=0.0)
        if config.eps_place == "inside_root":
            return (variance + config.eps).sqrt_()
        return variance.sqrt().add_(config.eps)
