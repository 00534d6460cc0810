"""Selective weight reinitialisation: the single weights that matter least are drawn anew.

Source: Hernandez-Garcia et al., CoLLAs 2025, arXiv 2508.00212. A weight's utility is |weight x gradient|, or its
magnitude, or chance; of every layer the share with the lowest utility gets new initial values. Single weights can be
exchanged where units cannot: in small layers, in residual streams, behind normalisations. How often is the schedule of
the event. What the optimizer remembers of a new weight starts anew, its mean of squares from the mean of the layer (see
``learning.units`` for why not from zero).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from plasticbench.contracts.network import LayerState, NetworkState, ParameterState
from plasticbench.contracts.treatment import Look, OptimizerRule, Report, State, TargetRule
from plasticbench.learning.treatments._selection import split
from plasticbench.settings import Fraction, PerMember, Settings

if TYPE_CHECKING:
    from torch import Tensor

Utility = Literal["gradient", "magnitude", "random"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``share`` of each layer's weights, rounded to whole weights; biases are left alone.

    ``utility``: |weight x gradient| on the event's sample, |weight|, or chance. ``layers``: all, hidden, encoder, head,
    or a glob pattern on layer names.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("gradients",)

    share: Annotated[Fraction, PerMember] = 0.05
    utility: Utility = "gradient"
    layers: str = "hidden"
    optimizer: OptimizerRule = "keep"
    target: TargetRule = "keep"

    def build(self) -> SelectiveWeightReinit:
        """The treatment."""
        return SelectiveWeightReinit(self)


PRESETS = {"clean": Config(), "magnitude": Config(utility="magnitude"), "random": Config(utility="random")}


class SelectiveWeightReinit:
    """Each member draws new values from its own stream."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """Measures ``redrawn``, weights ``[m]``."""
        import torch

        config = self.config
        selected = split(net, config.layers)[0]
        members = len(net.layers[0].weight.value)
        shares = torch.as_tensor(config.share, device=net.layers[0].weight.value.device).expand(members)
        redrawn = torch.zeros_like(shares)
        for layer in selected:
            weight = layer.weight.value
            count = (shares * weight[0].numel()).round()
            order = self._utility(layer, look).flatten(1).argsort(dim=1, stable=True)
            is_chosen = order.argsort(dim=1).view_as(weight) < count.view(-1, *(1,) * (weight.ndim - 1))
            weight.copy_(_redrawn(layer, look).where(is_chosen, weight))
            _forget(layer.weight, is_chosen, net.second_moments)
            redrawn = redrawn + count
        return Report(touched={f"{layer.name}.weight" for layer in selected}, measurements={"redrawn": redrawn})

    def _utility(self, layer: LayerState, look: Look) -> Tensor:
        import numpy as np
        import torch

        value = layer.weight.value
        match self.config.utility:
            case "gradient":
                return (value * look.gradients[f"{layer.name}.weight"]).abs()
            case "magnitude":
                return value.abs()
        drawn = [look.rng(member).random(tuple(value.shape[1:]), dtype=np.float32) for member in range(len(value))]
        return torch.from_numpy(np.stack(drawn)).to(value.device)


def _redrawn(layer: LayerState, look: Look) -> Tensor:
    """New initial weights ``[m, ...]`` of a whole layer."""
    import torch

    assert layer.redraw is not None, "layers of a population can be drawn"
    return torch.stack([layer.redraw(look.rng(member))[0] for member in range(len(layer.weight.value))])


def _forget(weight: ParameterState, is_chosen: Tensor, second_moments: frozenset[str]) -> None:
    """Of the chosen weights: moments of 0, and means of squares as large as those of the member's others."""
    for name, held in weight.moments.items():
        if name not in second_moments:
            held.masked_fill_(is_chosen, 0.0)
            continue
        dims = tuple(range(1, held.ndim))
        others = (~is_chosen).sum(dim=dims, keepdim=True)
        mean = held.masked_fill(is_chosen, 0.0).sum(dim=dims, keepdim=True) / others.clamp_min(1)
        held.copy_(mean.where(others > 0, held.mean(dim=dims, keepdim=True)).where(is_chosen, held))
