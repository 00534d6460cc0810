"""Soft shrink and perturb: a trace of shrink and perturb after every update, in place of a jump now and then.

Source: Juliani & Ash 2024, arXiv 2405.19153: every parameter becomes (1 - shrink) times itself plus noise times a new
initial value, at every update. ``plasticine`` (RLE-Foundation/Plasticine) adds the same first initialisation each time,
which is a slow decay towards it and perturbs nothing; ``parseval_reg`` (a baseline of Chung et al. 2024, arXiv
2412.07224) only adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, State
from plasticbench.learning.treatments._settings import InitSource
from plasticbench.settings import Fraction, Ge, PerMember, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``shrink``: share of a parameter that is lost at an update; ``noise``: factor of the initial value added.

    ``init_source``: a fresh draw at each update, or the first initialisation. Normalisations are left alone.
    """

    shrink: Annotated[Fraction, PerMember] = 1e-6
    noise: Annotated[float, Ge(0), PerMember] = 1e-6
    init_source: InitSource = "fresh"

    def build(self) -> SoftShrinkPerturb:
        """The treatment."""
        return SoftShrinkPerturb(self)


COSTS = "1.4 to 1.9 times as long as with none, because every weight gets a new initial value"
PRESETS = {
    "clean": Config(),
    "plasticine": Config(init_source="original"),
    "parseval_reg": Config(shrink=0.0, noise=1e-3),
}


class SoftShrinkPerturb:
    """Rewrites weights and biases ``[m, ...]`` in place."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_update(self, net: NetworkState, state: State, look: Look) -> None:
        """Fresh values come from the treatment's own stream of each member."""
        from plasticbench.learning.members import column

        config = self.config
        for layer in net.layers:
            for parameter in layer.parameters.values():
                parameter.value.mul_(column(1 - config.shrink, parameter.value))
        if config.init_source == "fresh":
            _add_fresh(net, look, config.noise)
            return
        for layer in net.layers:
            for parameter in layer.parameters.values():
                assert parameter.original is not None
                parameter.value.add_(parameter.original * column(config.noise, parameter.value))


def _add_fresh(net: NetworkState, look: Look, noise: Any) -> None:
    """Adds ``noise`` times a new initialisation of all layers, each member's from its own stream."""
    for member in range(len(net.layers[0].weight.value)):
        rng, factor = look.rng(member), float(noise if isinstance(noise, float | int) else noise[member])
        for layer in net.layers:
            assert layer.redraw is not None, "layers of a population can be drawn"
            for parameter, value in zip(layer.parameters.values(), layer.redraw(rng), strict=False):
                assert value is not None
                parameter.value[member].add_(value, alpha=factor)
