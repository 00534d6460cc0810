"""Spectral regularisation: the largest singular value of every layer is drawn to a target.

Source: Lewandowski et al., ICLR 2025, arXiv 2406.06811: the loss plus strength (sigma_max^k - 1)^2 for each layer, with
k = 2, found by power iteration from a vector that is kept between updates; a convolution counts as the matrix
``[out, in kh kw]``; biases are drawn to 0 and scales of normalisations to 1. The strength of the paper could not be
read, so ours is a choice. ``l2_er`` is the variant in the code of He et al. 2025 (arXiv 2509.22335): ten iterations,
sigma^2 drawn to 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from plasticbench.contracts.network import LayerState, NetworkState, ParameterState
from plasticbench.contracts.treatment import Look, State
from plasticbench.settings import Ge, Gt, PerMember, PositiveInt, Settings

if TYPE_CHECKING:
    from torch import Tensor

_FIRST_ITERATIONS = 20  # from a vector that knows nothing of the layer


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``strength`` of the penalty; ``target`` of sigma^``exponent``; ``iterations`` of the power method per update.

    ``vectors``: biases and normalisations are drawn to 0 and 1 with the same strength, or are free.
    """

    strength: Annotated[float, Ge(0), PerMember] = 1e-3
    target: Annotated[float, Gt(0), PerMember] = 1.0
    exponent: PositiveInt = 2
    iterations: PositiveInt = 1
    vectors: Literal["drawn", "free"] = "drawn"

    def build(self) -> Spectral:
        """The treatment."""
        return Spectral(self)


COSTS = "1.3 to 1.9 times as long as with none, because of power iterations of every layer"
PRESETS = {"clean": Config(), "l2_er": Config(strength=0.1, target=2.0, iterations=10)}


class Spectral:
    """Adds the penalty's gradient to that of the loss. The state: a right singular vector ``[m, n]`` by layer."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def init(self, net: NetworkState) -> State:
        """Vectors near the leading ones of the weights at that moment."""
        state: State = {}
        for layer in net.layers:
            matrix = layer.weight.value.flatten(2)
            state[layer.name] = matrix.new_full((len(matrix), matrix.shape[2]), matrix.shape[2] ** -0.5)
            _leading(matrix, state[layer.name], _FIRST_ITERATIONS)
        return state

    def on_gradient(self, net: NetworkState, state: State, look: Look) -> None:
        """``gradient += 2 k strength (sigma^k - target) sigma^(k - 1) u v^T`` of each weight ``[m, out, in, ...]``."""
        from plasticbench.learning.members import column

        config = self.config
        for layer in net.layers:
            weight = layer.weight
            assert weight.gradient is not None
            left, sigma = _leading(weight.value.flatten(2), state[layer.name], config.iterations)
            slope = 2 * config.exponent * (sigma**config.exponent - config.target) * sigma ** (config.exponent - 1)
            outer = left.unsqueeze(2) * state[layer.name].unsqueeze(1)
            pull = outer.mul_((slope * config.strength).view(-1, 1, 1))
            weight.gradient.add_(pull.view(weight.value.shape))
        if config.vectors == "free":
            return
        for part in (*net.layers, *net.norms):
            for vector, rest in _vectors(part, part in net.norms):
                assert vector.gradient is not None
                vector.gradient.add_((vector.value - rest).mul_(column(2 * config.strength, vector.value)))


def _vectors(part: LayerState, is_norm: bool) -> list[tuple[ParameterState, float]]:
    """What is drawn, and to which number."""
    biases = [(part.bias, 0.0)] if part.bias is not None else []
    return [(part.weight, 1.0), *biases] if is_norm else biases


def _leading(matrix: Tensor, right: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Left vector ``[m, out]`` and singular value ``[m]``; ``right`` ``[m, n]`` is improved in place.

    Where a matrix is zero the vector stays, so that it can find a direction again.
    """
    left = matrix.new_zeros(matrix.shape[:2])
    for _ in range(iterations):
        left = (matrix @ right.unsqueeze(2)).squeeze(2)
        left = left / left.norm(dim=1, keepdim=True).clamp_min(1e-12)
        found = (left.unsqueeze(1) @ matrix).squeeze(1)
        size = found.norm(dim=1, keepdim=True)
        right.copy_((found / size.clamp_min(1e-12)).where(size > 0, right))
    return left, (left.unsqueeze(1) @ matrix @ right.unsqueeze(2)).view(-1)
