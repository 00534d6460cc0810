"""Muon: momentum whose singular values are all made about equal, for matrices; Adam for everything else.

Source: Jordan 2024, kellerjordan.github.io/posts/muon: Nesterov momentum, five Newton-Schulz steps
``X <- a X + (b A + c A^2) X``, ``A = X X^T``, that bring singular values near 1 (0.7 to 1.2), times
``max(1, out / in)^0.5``. Liu et al. 2025 (Moonlight, arXiv 2502.16982) multiply by ``0.2 max(out, in)^0.5`` instead, so
that an entry changes as much as under Adam. A convolution is the matrix ``out x (in kh kw)``.

Unlike both we iterate in single precision, not bfloat16, and keep the momentum as an exponential mean, as PyTorch does:
in Adam's ``exp_avg``. The direction is that of a sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from plasticbench.learning.optimizer import BaseSettings, NetworkParameters, completed
from plasticbench.learning.optimizers import adam
from plasticbench.learning.optimizers._matrices import Layers, matrix_slots
from plasticbench.settings import HalfOpenFraction, NonNegativeFloat, PositiveFloat, PositiveInt, Settings

Scale = Literal["original", "moonlight"]

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_LEAST_NORM = 1e-7
_TIMES_ADAMS_RATE = {"original": 10.0, "moonlight": 1.0}
"""FIRE's vision code (github.com/isaac7778/FIRE) with the original scale; Moonlight's is made for Adam's own rate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``adam_learning_rate``, ``eps`` and a weight decay that are left out are the agent's own; betas are Adam's.

    ``learning_rate`` is that of matrices: by default ten times Adam's, or Adam's own with the scale of Moonlight.
    ``weight_decay`` is decoupled and concerns all parameters. ``layers``: whose weights count as matrices; the outputs'
    do not by default, as its author advises.
    """

    learning_rate: PositiveFloat | None = None
    momentum: HalfOpenFraction = 0.95
    nesterov: bool = True
    iterations: PositiveInt = 5
    scale: Scale = "original"
    layers: Layers = "hidden"
    adam_learning_rate: PositiveFloat | None = None
    beta1: HalfOpenFraction = 0.9
    beta2: HalfOpenFraction = 0.999
    eps: PositiveFloat | None = None
    weight_decay: NonNegativeFloat | None = None

    def inert(self) -> dict[str, str]:
        """Settings without effect under the current values, and why."""
        return {"nesterov": "there is no momentum"} if self.momentum == 0 else {}

    def build(self, network: NetworkParameters, base: BaseSettings) -> Muon:
        """The optimizer of all parameters."""
        own = adam.Config.within(self, learning_rate=self.adam_learning_rate)
        return Muon(network, self, completed(own, base))


COSTS = "2.1 to 6.9 times as long as with none, because of five Newton-Schulz steps of every matrix"
PRESETS = {
    "clean": Config(),
    "jordan": Config(learning_rate=0.02, adam_learning_rate=3e-4, beta2=0.95, eps=1e-10, weight_decay=0.0),
    "moonlight": Config(scale="moonlight", beta2=0.95, weight_decay=0.1),
    "fire_vision": Config(beta2=0.95),
}


class Muon(adam.PopulationAdam):
    """Its moments of matrices are the momentum in ``exp_avg``, and zeros in ``exp_avg_sq``.

    Matrices of equal sides, transposed or not, of all members and layers are iterated together.
    """

    def __init__(self, network: NetworkParameters, config: Config, settings: adam.Config) -> None:
        self._matrices = matrix_slots(network, config.layers)
        names = {slot.name for slot in self._matrices}
        super().__init__(network, settings, only={slot.name for slot in network.slots} - names)
        self._own = config
        assert settings.learning_rate is not None
        own_rate = _TIMES_ADAMS_RATE[config.scale] * settings.learning_rate
        self._rate = own_rate if config.learning_rate is None else config.learning_rate
        self._decay = 1 - self._rate * (settings.weight_decay or 0.0)

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients in ``network.flat_grad``."""
        super().step()
        self._move(self.network.flat, self.moments["exp_avg"], self.network.flat_grad)

    @torch.no_grad()
    def ahead(self, gradients: Tensor) -> Tensor:
        """The weights (flat) that a step with these flat gradients would lead to; nothing is modified."""
        weights = super().ahead(gradients)
        self._move(weights, self.moments["exp_avg"].clone(), gradients)
        return weights

    def _move(self, flat: Tensor, momentum: Tensor, gradients: Tensor) -> None:
        """Updates the matrices in ``flat`` and their momentum."""
        weights, means, new = ([slot.view(buffer) for slot in self._matrices] for buffer in (flat, momentum, gradients))
        torch._foreach_lerp_(means, new, 1 - self._own.momentum)
        directions = torch._foreach_lerp(new, means, self._own.momentum) if self._own.nesterov else means
        matrices = [direction.flatten(2) for direction in directions]
        if self._decay != 1.0:
            torch._foreach_mul_(weights, self._decay)
        for weight, update in zip(weights, orthogonalized(matrices, self._own.iterations), strict=True):
            weight.add_(update.view(weight.shape), alpha=-self._rate * self._size(*update.shape[1:]))

    def _size(self, rows: int, columns: int) -> float:
        if self._own.scale == "moonlight":
            return 0.2 * math.sqrt(max(rows, columns))
        return math.sqrt(max(1.0, rows / columns))


def orthogonalized(matrices: Sequence[Tensor], iterations: int) -> list[Tensor]:
    """Matrices ``[m, rows, columns]`` with their singular values near 1; zeros stay zeros."""
    wide = [matrix.mT if matrix.shape[1] > matrix.shape[2] else matrix for matrix in matrices]
    groups: dict[torch.Size, list[int]] = {}
    for position, matrix in enumerate(wide):
        groups.setdefault(matrix.shape, []).append(position)
    for positions in groups.values():
        iterated = _iterated(torch.cat([wide[position] for position in positions]), iterations)
        for position, one in zip(positions, iterated.chunk(len(positions)), strict=True):
            wide[position] = one
    return [one.mT if one.shape != matrix.shape else one for one, matrix in zip(wide, matrices, strict=True)]


def _iterated(x: Tensor, iterations: int) -> Tensor:
    """Newton-Schulz steps of ``[B, small, large]``, from Frobenius norm 1."""
    a, b, c = _COEFFICIENTS
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(_LEAST_NORM)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
