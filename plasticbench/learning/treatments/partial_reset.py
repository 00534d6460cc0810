"""Partial reset: a random share of the hidden units is recycled, whatever they do.

Source: the control of methods that choose their units (Sokar et al., ICML 2023, arXiv 2302.12902, compare ReDo with
random choice): if it does as well, the choice was not what helped. What recycling means is the same as for ``redo``:
new incoming weights, silent outgoing ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from plasticbench.contracts.network import LayerState, NetworkState
from plasticbench.contracts.treatment import Look, OptimizerRule, Report, State, TargetRule
from plasticbench.learning.units import Recycling, Start, UnitMoments, recycled_units, require_unit_layers
from plasticbench.settings import Fraction, PerMember, Settings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``share`` of each layer's units, rounded to whole units; ``outgoing`` and ``moments``: see ``redo``."""

    exchanges_units: ClassVar[bool] = True

    share: Annotated[Fraction, PerMember] = 0.2
    outgoing: Start = "zero"
    moments: UnitMoments = "layer_mean"
    optimizer: OptimizerRule = "keep"
    target: TargetRule = "keep"

    def inert(self) -> dict[str, str]:
        """Settings without effect under the current values, and why."""
        return {"moments": f"optimizer is {self.optimizer}"} if self.optimizer in ("reset", "reset_touched") else {}

    def build(self) -> PartialReset:
        """The treatment."""
        return PartialReset(self)


PRESETS = {"clean": Config(), "all_moments": Config(optimizer="reset_touched", target="sync")}


class PartialReset:
    """Recycles units of hidden layers; each member chooses by its own stream."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """Measures ``recycled``, units ``[m]``. Raises ``ValueError`` for a network without units to exchange."""
        config = self.config
        layers = require_unit_layers(net, "partial_reset")
        chosen = _chosen(layers, config.share, look)
        rules = Recycling(
            outgoing=config.outgoing, between="fresh", moments=config.moments, bias_moments=config.moments
        )
        return recycled_units(net, layers, chosen, look.rng, rules)


def _chosen(layers: list[LayerState], share: Any, look: Look) -> dict[str, Tensor]:
    """Units ``[m, units]`` by layer."""
    import numpy as np
    import torch

    weight = layers[0].weight.value
    lots: dict[str, list[np.ndarray]] = {layer.name: [] for layer in layers}
    for member in range(len(weight)):
        rng = look.rng(member)
        for layer in layers:
            lots[layer.name].append(rng.permutation(layer.weight.value.shape[1]))
    shares = torch.as_tensor(share, device=weight.device).expand(len(weight))
    return {
        name: torch.from_numpy(np.stack(ranks)).to(weight.device) < (shares * len(ranks[0])).round().unsqueeze(1)
        for name, ranks in lots.items()
    }
