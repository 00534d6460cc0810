"""ReDo: hidden units that hardly ever speak are recycled, with new incoming weights and silent outgoing ones.

Source: Sokar et al., ICML 2023, arXiv 2302.12902, algorithm 1 and equation 1. A unit's score is its mean magnitude on a
batch over the mean of its layer; at ``tau`` or below it is dormant. The authors count a convolution's channel as one
unit, and so do we. How often is the schedule of the event: every 1,000 updates in the paper.

``paper`` is the authors' code at the paper's threshold (0.025 at their default replay ratio of 0.25, 0.1 elsewhere);
``dopamine`` is the same code (google/dopamine, labs/redo) at its own, which recycles dead units alone, every 200,000
updates; ``timoklein`` is the PyTorch port timoklein/redo, which draws biases too and has Adam count the updates of all
rewritten parameters anew. ``fire_vision`` is what FIRE's code for images (isaac7778/FIRE, vision) means to do, once an
epoch, at its threshold for a warm start; 0.05 (CIFAR-10) and 0.01 where data grow, 0.01 (CIFAR-100) and 0.05 (Tiny
ImageNet) where classes do. All four take their moments back to zero. The defaults differ from the paper in that alone:
see ``learning.units.Recycling`` for what is wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, OptimizerRule, Report, State, TargetRule
from plasticbench.learning.units import (
    Recycling,
    Start,
    UnitMoments,
    recycled_units,
    require_unit_layers,
)
from plasticbench.settings import Ge, PerMember, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Units with a score of at most ``tau`` are recycled; 0 means those that are silent on the whole batch.

    ``bias`` and ``outgoing``: what biases and outgoing weights of a recycled unit start from; ``between``: weights from
    one recycled unit to another. ``moments`` and, for biases, ``bias_moments``: what the optimizer remembers of them.
    ``target: same_operation`` recycles the same units of the target, from another draw.
    """

    exchanges_units: ClassVar[bool] = True
    looks_at: ClassVar[tuple[str, ...]] = ("activations",)

    tau: Annotated[float, Ge(0), PerMember] = 0.1
    bias: Start = "zero"
    outgoing: Start = "zero"
    between: Start = "zero"
    moments: UnitMoments = "layer_mean"
    bias_moments: UnitMoments = "layer_mean"
    optimizer: OptimizerRule = "keep"
    target: TargetRule = "keep"

    def inert(self) -> dict[str, str]:
        """Settings without effect under the current values, and why."""
        inert = {"between": "outgoing weights are drawn as well"} if self.outgoing == "fresh" else {}
        if self.optimizer in ("reset", "reset_touched"):
            inert |= dict.fromkeys(("moments", "bias_moments"), f"optimizer is {self.optimizer}")
        return inert

    def build(self) -> Redo:
        """The treatment."""
        return Redo(self)


PRESETS = {
    "clean": Config(),
    "paper": Config(moments="zero", bias_moments="keep"),
    "dopamine": Config(tau=0.0, moments="zero", bias_moments="keep"),
    "timoklein": Config(
        tau=0.025,
        bias="fresh",
        between="fresh",
        moments="zero",
        bias_moments="zero",
        optimizer="reset_touched_steps",
    ),
    "fire_vision": Config(tau=0.5, bias="fresh", moments="zero", bias_moments="zero", optimizer="reset_touched_steps"),
}


class Redo:
    """Recycles dormant units of hidden layers; outputs and units of a residual stream are never judged."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """Judges all layers on the event's sample, then recycles.

        Measures ``recycled``, units ``[m]``. Raises ``ValueError`` for a network without units that can be judged.
        """
        from plasticbench.learning.members import column
        from plasticbench.learning.unit_scores import dormancy_scores, is_dormant

        config = self.config
        layers = require_unit_layers(net, "redo")
        activations = look.activations
        scores = {layer.name: dormancy_scores(activations[layer.name], layer.activation) for layer in layers}
        dormant = {name: is_dormant(score, column(config.tau, score)) for name, score in scores.items()}
        rules = Recycling(
            bias=config.bias,
            outgoing=config.outgoing,
            between=config.between,
            moments=config.moments,
            bias_moments=config.bias_moments,
        )
        return recycled_units(net, layers, dormant, look.rng, rules)
