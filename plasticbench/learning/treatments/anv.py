"""Artificial neural variability: gradients are those of weights with noise, which is gone after the update.

Source: Xie, He, Fu, Sato, Tao & Sugiyama 2021, arXiv 2011.06220 (neural variable risk minimisation; code:
zeke-xie/artificial-neural-variability). Before an update's pass, normal numbers of one deviation are added to every
parameter; the optimizer steps from there, and then the same numbers are taken away. That code takes them away before
the next ones are added, so that weights are noisy between updates, and clean at every thousandth update alone. Here
they are clean whenever somebody acts, evaluates, measures or saves. Parts after it in a method see clean weights at
their updates, those before it noisy ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, State
from plasticbench.settings import Ge, PerMember, Settings

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``deviation`` of the noise."""

    deviation: Annotated[float, Ge(0), PerMember] = 0.01

    def build(self) -> Anv:
        """The treatment."""
        return Anv(self)


COSTS = "1.4 to 1.8 times as long as with none, because every weight gets a normal number"
PRESETS = {"clean": Config()}


class Anv:
    """Keeps the noise from an update's pass to its end; nothing lasts longer."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._noise: list[Tensor] = []

    def on_pass(self, net: NetworkState, state: State, look: Look) -> None:
        """Draws for every parameter ``[m, ...]`` in the network's order, and adds."""
        from plasticbench.learning.members import column

        values = [parameter.value for parameter in net.parameters.values()]
        generators = _seeded(look, len(values[0]))
        self._noise = [_drawn(value, generators).mul_(column(self.config.deviation, value)) for value in values]
        for value, noise in zip(values, self._noise, strict=True):
            value.add_(noise)

    def on_update(self, net: NetworkState, state: State, look: Look) -> None:
        """Takes away what was added."""
        for parameter, noise in zip(net.parameters.values(), self._noise, strict=True):
            parameter.value.sub_(noise)
        self._noise = []


def _seeded(look: Look, members: int) -> list[Generator]:
    """A generator for each member, seeded by its stream, which would take three times as long to draw."""
    import torch

    return [torch.Generator().manual_seed(int(look.rng(member).integers(2**63))) for member in range(members)]


def _drawn(value: Tensor, generators: list[Generator]) -> Tensor:
    """Normal numbers in the shape of a parameter, member by member, as they lie in memory."""
    import torch

    shape = value.shape if value.ndim != 3 else (value.shape[0], value.shape[2], value.shape[1])
    noise = torch.empty(shape)
    for own, generator in zip(noise, generators, strict=True):
        own.normal_(generator=generator)
    return (noise.transpose(1, 2) if value.ndim == 3 else noise).to(value.device)
