"""Weight clipping: after each update every weight is cut off at a multiple of the largest initial one.

Source: Elsayed, Lan, Lyle & Mahmood, RLC 2024, arXiv 2407.01704: weights and biases of layer l are clamped to
[-kappa s_l, kappa s_l], where s_l is the bound of the initialiser. Their code takes 1 / sqrt(fan_in), the bound of
PyTorch's default, whatever the initialiser (orthogonal with a larger gain in their PPO): preset ``elsayed_ppo``. By
default each layer's own bound counts. Biases that start at zero have none; theirs is 1 / sqrt(fan_in), as if they
had been drawn as PyTorch draws them. Normalisations, which do not start at random, are left alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from plasticbench.contracts.network import LayerState, NetworkState, ParameterState
from plasticbench.contracts.treatment import Look, State
from plasticbench.learning.treatments._selection import split
from plasticbench.settings import Gt, PerMember, Settings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Weights are kept within ``kappa`` bounds; ``bound``: of the layer's own initialiser, or 1 / sqrt(fan_in).

    ``layers``: all, hidden (without the output layer), encoder, head, or a glob pattern on layer names.
    """

    kappa: Annotated[float, Gt(0), PerMember] = 3.0
    bound: Literal["initializer", "fan_in"] = "initializer"
    layers: str = "all"

    def build(self) -> WeightClipping:
        """The treatment."""
        return WeightClipping(self)


PRESETS = {"clean": Config(), "elsayed_ppo": Config(bound="fan_in")}


class WeightClipping:
    """Clamps the weights and biases of the selected layers."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_update(self, net: NetworkState, state: State, look: Look) -> None:
        """Clamps ``[m, ...]`` in place."""
        for layer in split(net, self.config.layers)[0]:
            fan_in_bound = 1 / math.sqrt(math.prod(layer.weight.value.shape[2:]))
            self._clamp(layer.weight, self._bound_of(layer, fan_in_bound))
            if layer.bias is not None:
                self._clamp(layer.bias, fan_in_bound)

    def _bound_of(self, layer: LayerState, fan_in_bound: float) -> float:
        if self.config.bound == "fan_in":
            return fan_in_bound
        assert layer.initial_bound is not None
        return layer.initial_bound

    def _clamp(self, parameter: ParameterState, bound: float) -> None:
        from plasticbench.learning.members import column

        limit: Tensor = column(self.config.kappa * bound, parameter.value)
        # One side after the other: with tensors as limits, both at once were measured seven times slower.
        parameter.value.clamp_max_(limit).clamp_min_(-limit)
