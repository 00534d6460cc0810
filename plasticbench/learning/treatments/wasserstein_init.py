"""Wasserstein distance to the initialisation: weights may move, as long as their distribution stays what it was.

Source: Lewandowski et al. 2023, arXiv 2312.00246: the loss plus strength times the squared 2-Wasserstein distance of
each parameter's values from its initial ones. In one dimension that is the squared distance of the sorted values, so
the largest weight is pulled to the largest initial one, wherever either stands. ``parseval_reg`` (Chung et al. 2024,
arXiv 2412.07224) divides each parameter's sum by its size; ``juliani_ash`` is a baseline of arXiv 2405.19153.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, State
from plasticbench.settings import Ge, PerMember, Settings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``strength`` of the penalty; ``reduction``: of a parameter's squared distances the sum or the mean."""

    strength: Annotated[float, Ge(0), PerMember] = 1e-2
    reduction: Literal["sum", "mean"] = "sum"

    def build(self) -> WassersteinInit:
        """The treatment."""
        return WassersteinInit(self)


COSTS = "1.5 to 2.7 times as long as with none, because all weights are sorted"
PRESETS = {
    "clean": Config(),
    "parseval_reg": Config(strength=1e-3, reduction="mean"),
    "juliani_ash": Config(strength=1e-2),
}


class WassersteinInit:
    """Adds the penalty's gradient to that of the loss. The state: the sorted initial values ``[m, n]`` by parameter."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def init(self, net: NetworkState) -> State:
        """Sorts the first initialisation once."""
        state: State = {}
        for name, parameter in net.parameters.items():
            assert parameter.original is not None
            state[name] = parameter.original.flatten(1).sort(dim=1).values
        return state

    def on_gradient(self, net: NetworkState, state: State, look: Look) -> None:
        """``gradient += 2 strength (value - initial value of the same rank)`` of every parameter ``[m, ...]``."""
        from plasticbench.learning.members import column

        for name, parameter in net.parameters.items():
            assert parameter.gradient is not None
            values = _as_it_lies(parameter.value)
            factor: Any = 2 * self.config.strength / (values[0].numel() if self.config.reduction == "mean" else 1)
            pull = values - drawn_to(values.flatten(1), state[name]).view_as(values)
            if isinstance(factor, float):
                _as_it_lies(parameter.gradient).add_(pull, alpha=factor)
            else:
                _as_it_lies(parameter.gradient).add_(pull.mul_(column(factor, pull)))


def _as_it_lies(parameter: Tensor) -> Tensor:
    """A view whose members are contiguous, as ``learning.network`` lays them out; ranks know no order."""
    return parameter.transpose(1, 2) if parameter.ndim == 3 else parameter


def drawn_to(values: Tensor, ordered: Tensor) -> Tensor:
    """Of ``ordered`` ``[m, n]`` the number whose rank is that of each value ``[m, n]``; equal values count in order.

    What is sorted are whole numbers: a value's bits, which order as values do once those of negative ones are turned
    round, above its place. On CPUs NumPy sorts these with vector instructions, about twelve times as fast as torch
    finds an order.
    """
    import torch

    bits = values.contiguous().view(torch.int32)
    ascending = (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits)
    places = torch.arange(values.shape[1], device=values.device)
    keys = ascending.long().bitwise_left_shift_(32).add_(places)
    if keys.device.type == "cpu":
        keys.numpy().sort(axis=1)
    else:
        keys = keys.sort(dim=1).values
    return torch.empty_like(values).scatter_(1, keys.bitwise_and_(0xFFFFFFFF), ordered)
