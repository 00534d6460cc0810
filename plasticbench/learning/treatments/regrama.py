"""ReGraMa: hidden units that learn hardly anything are recycled, judged by gradients in place of activations.

Source: Liu et al., NeurIPS 2025, arXiv 2505.24061. A unit's score is the magnitude of the gradient that reaches it over
the mean of its layer; at ``tau`` or below it is recycled as in ``redo``. Units that speak may have stopped learning,
and behind normalisations or other nonlinearities than ReLU silence tells little. The gradient is that of a unit's
incoming weights, their mean magnitude, which the paper's code and a second implementation use. ``tau`` could not be
read with certainty and is ReDo's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, OptimizerRule, Report, State, TargetRule
from plasticbench.learning.units import Recycling, Start, UnitMoments, recycled_units, require_unit_layers
from plasticbench.settings import Ge, PerMember, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Units with a score of at most ``tau`` are recycled; ``outgoing`` and ``moments``: see ``redo``."""

    exchanges_units: ClassVar[bool] = True
    looks_at: ClassVar[tuple[str, ...]] = ("gradients",)

    tau: Annotated[float, Ge(0), PerMember] = 0.025
    outgoing: Start = "zero"
    moments: UnitMoments = "layer_mean"
    optimizer: OptimizerRule = "keep"
    target: TargetRule = "keep"

    def inert(self) -> dict[str, str]:
        """Settings without effect under the current values, and why."""
        return {"moments": f"optimizer is {self.optimizer}"} if self.optimizer in ("reset", "reset_touched") else {}

    def build(self) -> Regrama:
        """The treatment."""
        return Regrama(self)


PRESETS = {"clean": Config(), "zero_moments": Config(moments="zero")}


class Regrama:
    """Recycles units of hidden layers that the loss does not reach."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """Judges all layers by the event's sample, then recycles.

        Measures ``recycled``, units ``[m]``. Raises ``ValueError`` for a network without units that can be judged.
        """
        from plasticbench.learning.members import column
        from plasticbench.learning.unit_scores import gradient_scores, is_dormant

        config = self.config
        layers = require_unit_layers(net, "regrama")
        gradients = look.gradients
        scores = {layer.name: gradient_scores(gradients[f"{layer.name}.weight"]) for layer in layers}
        idle = {name: is_dormant(score, column(config.tau, score)) for name, score in scores.items()}
        rules = Recycling(outgoing=config.outgoing, moments=config.moments, bias_moments=config.moments)
        return recycled_units(net, layers, idle, look.rng, rules)
