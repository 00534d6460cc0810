"""Wasserstein distance to the initialisation: weights may move, as long as their distribution stays what it was.

Source: Lewandowski et al. 2023, arXiv 2312.00246: the loss plus strength times the squared 2-Wasserstein distance of
each parameter's values from its initial ones. In one dimension that is the squared distance of the sorted values, so
the largest weight is pulled to the largest initial one, wherever either stands. ``parseval_reg`` (Chung et al. 2024,
arXiv 2412.07224) divides each parameter's sum by its size; ``juliani_ash`` is a baseline of arXiv 2405.19153.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, State
from plasticbench.settings import Ge, PerMember, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``strength`` of the penalty; ``reduction``: of a parameter's squared distances the sum or the mean."""

    strength: Annotated[float, Ge(0), PerMember] = 1e-2
    reduction: Literal["sum", "mean"] = "sum"

    def build(self) -> WassersteinInit:
        """The treatment."""
        return WassersteinInit(self)


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
        import torch

        from plasticbench.learning.members import column

        factor = 2 * self.config.strength
        for name, parameter in net.parameters.items():
            assert parameter.gradient is not None
            values = parameter.value.flatten(1)
            drawn_to = torch.empty_like(values).scatter_(1, values.argsort(dim=1, stable=True), state[name])
            pull = values - drawn_to
            if self.config.reduction == "mean":
                pull.div_(pull.shape[1])
            parameter.gradient.add_(pull.mul_(column(factor, pull)).view_as(parameter.value))
