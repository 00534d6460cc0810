"""Continual backprop: at every update the least useful of the grown hidden units make room for new ones.

Source: Dohare et al., Nature 632 (2024), arXiv 2306.13812, equation 1: a unit's utility is a running mean of what it
contributes to its readers. Units younger than ``maturity_updates`` are safe; of the others a share ``replacement_rate``
is replaced per update and layer. Rate and age are those of the paper's reinforcement learning. What a unit contributed
in the mean goes to its readers' biases, as in Dohare et al. 2021, arXiv 2108.06325.

The public code (shibhansh/loss-of-plasticity) differs. ``loss_of_plasticity`` is what runs in its reinforcement
learning: a share below one unit is a matter of chance, mean activations are set to zero just before the biases could
take them over, and Adam remembers the old unit. ``loss_of_plasticity_cifar`` are its layers for incremental CIFAR,
which judge by the latest batch alone. Both draw new weights by rules of their own, where we ask the layer's
initialiser, and take the mean over outgoing weights, where the paper and we take the sum; for units with the same
readers these rank alike. ``fire_vision`` are the constants of FIRE's code for images (isaac7778/FIRE, vision) for a
warm start, ``..._cifar100`` those of its ViT, ``..._growing`` those where data grow, and CIFAR-100's classes; there
magnitudes are added up, where we take the running mean. Behind a convolution we multiply means over positions, its
layers average products.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from plasticbench.contracts.network import LayerState, NetworkState
from plasticbench.contracts.treatment import Look, State
from plasticbench.learning.units import Recycling, UnitMoments, recycle, require_unit_layers
from plasticbench.settings import Ge, HalfOpenFraction, Le, PerMember, Settings

if TYPE_CHECKING:
    from torch import Tensor

Utility = Literal[
    "contribution", "zero_contribution", "adaptable_contribution", "weight", "adaptation", "feature_by_input"
]
"""What counts as useful, by the names of the authors' code: see ``_FACTORS``."""


class _Factors(NamedTuple):
    """What a utility multiplies.

    The sum of magnitudes of outgoing weights; the mean magnitude of what the unit passes on, or of its deviation from
    the running mean; and one over the sum of magnitudes of incoming weights.
    """

    outgoing: bool
    activity: Literal["magnitude", "deviation", "none"]
    per_incoming: bool


_FACTORS: dict[Utility, _Factors] = {
    "contribution": _Factors(True, "magnitude", False),
    "zero_contribution": _Factors(True, "deviation", False),
    "adaptable_contribution": _Factors(True, "deviation", True),
    "weight": _Factors(True, "none", False),
    "adaptation": _Factors(False, "none", True),
    "feature_by_input": _Factors(False, "deviation", True),
}

_NO_WEIGHT = 1e-8  # keeps the utility of a unit without incoming weights finite
_NEVER_NEGATIVE = ("relu", "crelu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``decay`` of the running means of utility and activation per update; 0 looks at the latest batch alone.

    ``accumulate``: fractions of units add up from update to update; otherwise a share below one unit is a probability,
    and a larger one is rounded down. ``compensation``: mean adds what a unit passed on in the mean to its readers'
    biases when it is replaced. ``moments``: what the optimizer remembers of a new unit, see ``learning.units``.
    """

    exchanges_units: ClassVar[bool] = True

    replacement_rate: Annotated[float, Ge(0), Le(1), PerMember] = 1e-4
    maturity_updates: Annotated[int, Ge(0)] = 10_000
    utility: Utility = "contribution"
    decay: HalfOpenFraction = 0.99
    accumulate: bool = True
    compensation: Literal["mean", "none"] = "mean"
    moments: UnitMoments = "layer_mean"

    def inert_within(self, updates: int) -> dict[str, str]:
        """Settings without effect if it acts at no more updates than these, and why."""
        if self.maturity_updates < updates:
            return {}
        return {"maturity_updates": f"no unit is ever replaced, because it acts at no more than {updates} updates"}

    def build(self) -> ContinualBackprop:
        """The treatment."""
        return ContinualBackprop(self)


COSTS = "1.2 to 1.7 times as long as with none, because the use of every unit is followed"
PRESETS = {
    "clean": Config(),
    "loss_of_plasticity": Config(accumulate=False, compensation="none", moments="keep"),
    "loss_of_plasticity_cifar": Config(
        replacement_rate=1e-5, maturity_updates=1000, decay=0.0, compensation="none", moments="keep"
    ),
    "fire_vision": Config(maturity_updates=1000, compensation="none", moments="keep"),
    "fire_vision_cifar100": Config(maturity_updates=100, compensation="none", moments="keep"),
    "fire_vision_growing": Config(replacement_rate=1e-5, maturity_updates=1000, compensation="none", moments="keep"),
}


class ContinualBackprop:
    """Tests every unit of every hidden layer at each update.

    The state, by layer: of every unit ``age`` in updates, ``utility`` and ``mean`` (activation), which run from 0 and
    are not corrected for that; ``owed``, the fraction of a unit still to be replaced; ``replaced``, units so far.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def init(self, net: NetworkState) -> State:
        """All units are new. Raises ``ValueError`` for a network without units that can be judged."""
        import torch

        state: State = {}
        for layer in require_unit_layers(net, "continual_backprop"):
            members, units = layer.weight.value.shape[:2]
            zeros = layer.weight.value.new_zeros
            own = {
                "age": zeros(members, units, dtype=torch.int64),
                "utility": zeros(members, units),
                "mean": zeros(members, layer.readers[0].blocks, units),
                "owed": zeros(members, dtype=torch.float64),
                "replaced": zeros(members, dtype=torch.int64),
            }
            state |= {f"{layer.name}.{name}": tensor for name, tensor in own.items()}
        return state

    def on_update(self, net: NetworkState, state: State, look: Look) -> None:
        """Judges all layers, then replaces what is due in all of them at once."""
        activations = look.activations
        layers = [_Units(self.config, layer, state) for layer in net.unit_layers]
        for units in layers:
            units.observe(activations[units.layer.name])
        counts = [units.whole_units() for units in layers] if self.config.accumulate else _by_chance(layers, look)
        chosen = {
            units.layer.name: (units, units.least_useful(count))
            for units, count in zip(layers, counts, strict=True)
            if bool(count.any())
        }
        if not chosen:
            return
        if self.config.compensation == "mean":
            for units, mask in chosen.values():
                units.leave_mean_to_readers(mask)
        rules = Recycling(between="fresh", moments=self.config.moments, bias_moments=self.config.moments)
        recycle(net, {name: mask for name, (_, mask) in chosen.items()}, look.rng, rules)
        for units, mask in chosen.values():
            units.start_anew(mask)


class _Units:
    """Those of one layer, with their state."""

    def __init__(self, config: Config, layer: LayerState, state: State) -> None:
        self._config, self.layer = config, layer
        names = ("age", "utility", "mean", "owed", "replaced")
        self._age, self._utility, self._mean, self._owed, self._replaced = (state[f"{layer.name}.{n}"] for n in names)

    def observe(self, passed_on: Tensor) -> None:
        """Another batch ``[m, N, units]`` or ``[m, N, units, h, w]``."""
        self._age += 1
        mean = self._batch_mean(passed_on)
        self._mean.lerp_(mean, 1 - self._config.decay)
        self._utility.lerp_(self._usefulness(passed_on, mean), 1 - self._config.decay)

    def _batch_mean(self, passed_on: Tensor) -> Tensor:
        """Over rows and positions, ``[m, blocks, units]``."""
        return passed_on.mean(dim=(1, *range(3, passed_on.ndim))).view(self._mean.shape)

    def _corrected(self, running: Tensor) -> Tensor:
        """A running mean ``[m, ..., units]`` without its start at 0."""
        weight = 1 - self._config.decay**self._age
        return running / weight.view(len(weight), *(1,) * (running.ndim - weight.ndim), -1)

    def _usefulness(self, passed_on: Tensor, mean: Tensor) -> Tensor:
        """On this batch with this mean, ``[m, units]``."""
        factors, parts = _FACTORS[self._config.utility], []
        if factors.outgoing:
            parts.append(_outgoing(self.layer))
        if factors.activity == "magnitude":
            is_magnitude = self.layer.activation in _NEVER_NEGATIVE
            parts.append(mean if is_magnitude else self._batch_mean(passed_on.abs()))
        if factors.activity == "deviation":
            expected = self._corrected(self._mean).flatten(1)
            deviation = passed_on - expected.view(len(expected), 1, -1, *(1,) * (passed_on.ndim - 3))
            parts.append(self._batch_mean(deviation.abs_()))
        if factors.per_incoming:
            weight = self.layer.weight.value.abs()
            parts.append(weight.sum(dim=tuple(range(2, weight.ndim))).clamp_min(_NO_WEIGHT).reciprocal().unsqueeze(1))
        return reduce(operator.mul, parts).sum(dim=1)

    def _mature(self) -> Tensor:
        return self._age > self._config.maturity_updates

    def _share(self) -> Tensor:
        return self._mature().sum(dim=1).double() * self._config.replacement_rate

    def whole_units(self) -> Tensor:
        """How many to replace now, ``[m]``: what has added up, of which the fraction is left for later."""
        self._owed += self._share()
        count = self._owed.floor()
        self._owed -= count
        return count

    def units_by_chance(self, chance: Tensor) -> Tensor:
        """How many to replace now, ``[m]``, of which a fraction of one unit is a probability; ``chance``: ``[m]``."""
        share = self._share()
        return share.floor().where(share >= 1, (chance < share).double())

    def least_useful(self, count: Tensor) -> Tensor:
        """The mature ones with the lowest utility, as many as each member has to replace: ``[m, units]``."""
        mature = self._mature()
        utility = self._corrected(self._utility).masked_fill(~mature, float("inf"))
        concerned = count.nonzero().flatten()
        rank = utility[concerned].argsort(dim=1, stable=True).argsort(dim=1)
        chosen = mature.new_zeros(mature.shape)
        chosen[concerned] = (rank < count[concerned].unsqueeze(1)) & mature[concerned]
        return chosen

    def leave_mean_to_readers(self, chosen: Tensor) -> None:
        """Adds to the readers' biases what the chosen units passed on in the mean, before they fall silent."""
        import torch

        members = chosen.any(dim=1)
        mean = self._corrected(self._mean).masked_fill(~chosen.unsqueeze(1), 0.0)[members]
        for reader in self.layer.readers:
            if reader.layer.bias is not None:
                weight = reader.columns(reader.layer.weight.value)[members].flatten(4).sum(dim=4)
                reader.layer.bias.value[members] += torch.einsum("muob,mbu->mo", weight, mean)

    def start_anew(self, chosen: Tensor) -> None:
        """The chosen ones are new."""
        self._age.masked_fill_(chosen, 0)
        self._utility.masked_fill_(chosen, 0.0)
        self._mean.masked_fill_(chosen.unsqueeze(1), 0.0)
        self._replaced += chosen.sum(dim=1)


def _outgoing(layer: LayerState) -> Tensor:
    """Sum of the magnitudes of all weights that read a unit, ``[m, blocks, units]``."""
    from torch.linalg import vector_norm

    columns = [reader.columns(reader.layer.weight.value) for reader in layer.readers]
    sums: list[Tensor] = [vector_norm(weight, 1, dim=(2, *range(4, weight.ndim))) for weight in columns]
    return reduce(operator.add, sums).transpose(1, 2)


def _by_chance(layers: Sequence[_Units], look: Look) -> list[Tensor]:
    """Units to replace now ``[m]``, layer by layer."""
    import numpy as np
    import torch

    weight = layers[0].layer.weight.value
    drawn = np.stack([look.rng(member).random(len(layers)) for member in range(len(weight))])
    chances = torch.from_numpy(drawn).to(weight.device)
    return [units.units_by_chance(chances[:, number]) for number, units in enumerate(layers)]
