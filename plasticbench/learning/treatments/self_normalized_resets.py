"""Self-normalized resets: a unit is recycled when its silence is improbable under its own history.

Source: Farias & Jozefiak, ICLR 2025, arXiv 2410.20098, and its public code (ajozefiak/SelfNormalizedResets). Each unit
has a threshold of its own for the time since it last fired on any row of an update: the ``eta`` quantile of its own
gaps, found anew every ``recompute_updates``. A quantile that is not below the present threshold doubles it; gaps of
zero do not count; a unit without any gap gets the smallest threshold, since it fired in every update. Time is counted
in updates, where the code counts rows in steps of a batch. ``public_code`` takes moments back to zero, as it does
there. ``fire_vision`` are the constants of FIRE's code for images (isaac7778/FIRE, vision) for a warm start on CIFAR:
it looks at 512 rows an update, and its longest gap is 20,000 rows; ``eta`` is 0.92 for Tiny ImageNet, and 0.92, 0.96
and 0.99 (CIFAR-10, CIFAR-100, Tiny ImageNet) where data grow. What recycling means is the same as for ``redo``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from plasticbench.contracts.network import LayerState, NetworkState
from plasticbench.contracts.treatment import Look, State
from plasticbench.learning.units import Recycling, UnitMoments, recycle, require_unit_layers
from plasticbench.settings import Gt, Le, PerMember, PositiveInt, Settings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``eta``: the quantile of a unit's own gaps beyond which it counts as silent.

    ``longest_gap_updates``: the largest threshold, with which all begin; ``recompute_updates``: how often thresholds
    are found anew. ``moments``: what the optimizer remembers of a recycled unit, see ``learning.units``.
    """

    exchanges_units: ClassVar[bool] = True

    eta: Annotated[float, Gt(0), Le(1), PerMember] = 0.98
    longest_gap_updates: PositiveInt = 200
    recompute_updates: PositiveInt = 16
    moments: UnitMoments = "layer_mean"

    def build(self) -> SelfNormalizedResets:
        """The treatment."""
        return SelfNormalizedResets(self)


COSTS = "1.4 to 2.7 times as long as with none, because units are watched, and layers drawn where one is recycled"
PRESETS = {
    "clean": Config(),
    "public_code": Config(moments="zero"),
    "fire_vision": Config(eta=0.99, longest_gap_updates=39, moments="zero"),
}


class SelfNormalizedResets:
    """Watches every unit of every hidden layer at each update.

    The state, by layer: of every unit ``age``, updates since it fired, its ``threshold``, its ``gaps``
    ``[m, units, longest + 1]`` since the last recomputation, and ``recycled``, units ``[m]`` so far; and ``updates``.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def init(self, net: NetworkState) -> State:
        """Nobody was silent yet. Raises ``ValueError`` for a network without units that can be judged."""
        import torch

        longest, state = self.config.longest_gap_updates, State()
        for layer in require_unit_layers(net, "self_normalized_resets"):
            value = layer.weight.value
            members, units = value.shape[:2]
            state[f"{layer.name}.age"] = value.new_zeros(members, units, dtype=torch.int64)
            state[f"{layer.name}.threshold"] = value.new_full((members, units), longest, dtype=torch.int64)
            state[f"{layer.name}.gaps"] = value.new_zeros(members, units, longest + 1, dtype=torch.int32)
            state[f"{layer.name}.recycled"] = value.new_zeros(members, dtype=torch.int64)
        state["updates"] = net.layers[0].weight.value.new_zeros(len(net.layers[0].weight.value), dtype=torch.int64)
        return state

    def on_update(self, net: NetworkState, state: State, look: Look) -> None:
        """Counts, recycles who has been silent for too long, then finds thresholds anew where they are due."""
        activations, config = look.activations, self.config
        silent = {}
        for layer in net.unit_layers:
            _count(layer, activations[layer.name], state)
            over = state[f"{layer.name}.age"] >= state[f"{layer.name}.threshold"]
            if bool(over.any()):
                silent[layer.name] = over
        recycle(net, silent, look.rng, Recycling(moments=config.moments, bias_moments=config.moments))
        for name, over in silent.items():
            state[f"{name}.age"].masked_fill_(over, 0)
            state[f"{name}.gaps"][over] = 0
            state[f"{name}.recycled"] += over.sum(dim=1)
        state["updates"] += 1
        due = state["updates"] % config.recompute_updates == 0
        if bool(due.any()):
            for layer in net.unit_layers:
                _recompute(layer.name, state, due, config.eta)


def _count(layer: LayerState, passed_on: Tensor, state: State) -> None:
    """Who fired on any row of this update, and after how many silent ones."""
    from plasticbench.learning.activations import by_unit

    fired = passed_on.amax(dim=(1, *range(3, passed_on.ndim))) > 0
    if fired.shape != state[f"{layer.name}.age"].shape:  # a unit that is passed on more than once
        fired = by_unit(fired.unsqueeze(1), layer.activation).any(dim=3).squeeze(1)
    age, gaps = state[f"{layer.name}.age"], state[f"{layer.name}.gaps"]
    spoke_again = (fired & (age > 0)).to(gaps.dtype)
    gaps.scatter_add_(2, age.clamp(max=gaps.shape[2] - 1).unsqueeze(2), spoke_again.unsqueeze(2))
    age.add_(1).masked_fill_(fired, 0)


def _recompute(name: str, state: State, due: Tensor, eta: Any) -> None:
    """The quantile if it is below the threshold, else twice the threshold; 1 for a unit without gaps.

    Most units fire at every update and have no gaps, so sums are made for the others alone.
    """
    from torch import Tensor

    threshold, gaps = state[f"{name}.threshold"], state[f"{name}.gaps"]
    has_gaps = gaps.any(dim=2) & due.unsqueeze(1)
    member, unit = has_gaps.nonzero(as_tuple=True)
    share = gaps[member, unit].cumsum(dim=1).double()
    wanted = share[:, -1:] * (eta.double()[member].unsqueeze(1) if isinstance(eta, Tensor) else eta)
    quantile, before = (share < wanted).sum(dim=1), threshold[member, unit]
    threshold.masked_fill_(due.unsqueeze(1), 1)
    threshold[member, unit] = quantile.where(quantile < before, 2 * before).clamp_(1, gaps.shape[2] - 1)
    gaps[member, unit] = 0
