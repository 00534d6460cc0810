"""Weight projection: after every update each weight matrix is scaled back to the size that it began with.

Source: the projection of Normalize-and-Project (Lyle et al., NeurIPS 2024, arXiv 2407.01800) by itself, for networks
whose functions do change with it; ``nap`` is the whole method. Growing weights make every step relatively smaller; of
weights of constant size the learning rate is what the schedule says. ``unit_rows`` scales each unit's incoming weights
to length 1, as CrossQ + WN does before its normalisations (Palenicek et al. 2025, arXiv 2502.07523).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, State
from plasticbench.learning.treatments._projection import Sizes, initial_sizes, project
from plasticbench.learning.treatments._selection import split
from plasticbench.settings import Fraction, PerMember, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``rate``: how far the logarithm of a size goes back at each update; 1 is all the way, 0 nowhere.

    ``size``: the Frobenius norm of a whole matrix at initialisation, or 1 for the weights of each unit. ``layers``:
    hidden (all but the output layer), all, encoder, head, or a glob pattern on layer names.
    """

    rate: Annotated[Fraction, PerMember] = 1.0
    size: Sizes = "initial"
    layers: str = "hidden"

    def build(self) -> WeightProjection:
        """The treatment."""
        return WeightProjection(self)


PRESETS = {"clean": Config(), "crossq_wn": Config(size="unit_rows")}


class WeightProjection:
    """Rescales weights in place; the optimizer's state stays. The state: the sizes ``[m, 1, ...]`` by layer."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def init(self, net: NetworkState) -> State:
        """What the weights are brought back to."""
        return initial_sizes(split(net, self.config.layers)[0], self.config.size)

    def on_update(self, net: NetworkState, state: State, look: Look) -> None:
        """``weight *= (size / its norm)^rate``, for weights that are not zero."""
        for layer in split(net, self.config.layers)[0]:
            project(layer.weight.value, state[layer.name], self.config.size, self.config.rate)
