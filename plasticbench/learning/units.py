"""Single units exchanged for new ones, in the middle of training.

A new unit reads with new initial weights, and by default nobody listens to it yet: its outgoing weights are zero, so
that what the network has learned stays. Treatments decide which units; this is what recycling one means, so that all of
them mean the same. (Torch is not imported here, because treatments are listed without it.)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from plasticbench.contracts.network import LayerState, NetworkState, ParameterState
from plasticbench.contracts.treatment import Report

if TYPE_CHECKING:
    from torch import Tensor

Start = Literal["zero", "fresh"]
"""What a value of a new unit starts from: zero, or a new draw of the layer's initialiser."""

UnitMoments = Literal["zero", "layer_mean", "keep"]
"""What becomes of the optimizer's moments of a new unit's values: see ``Recycling``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recycling:
    """What a new unit starts from; incoming weights are always a new draw.

    ``between``: weights from one new unit to another, which are outgoing and incoming at once. ``bias_moments`` is the
    rule for biases and shifts, ``moments`` for everything else:

    ``zero`` all moments 0; ``keep`` those of the old unit; ``layer_mean`` first moments 0, means of squares equal to
    their mean over the same member's other elements of that parameter. An optimizer counts updates per parameter, not
    per element, so Adam does not correct the bias of moments that begin at zero in the middle of training: of a
    constant gradient its first update then is (1 - 0.9) / sqrt(1 - 0.999) = 3.2 times the usual one, its tenth 6.5
    times, and its two hundredth still 2.3 times, which drives new units back into silence. From a mean of squares of
    the usual size, updates grow to the usual one and not beyond.
    """

    bias: Start = "zero"
    outgoing: Start = "zero"
    between: Start = "zero"
    moments: UnitMoments = "layer_mean"
    bias_moments: UnitMoments = "layer_mean"


def require_unit_layers(net: NetworkState, kind: str) -> list[LayerState]:
    """The layers whose units can be exchanged; raises ``ValueError`` naming the treatment if there are none."""
    if layers := net.unit_layers:
        return layers
    known = ", ".join(layer.name for layer in net.layers)
    raise ValueError(
        f"kind: {kind!r} exchanges hidden units one by one, so it needs a layer that is followed by a nonlinearity and "
        f"whose readers are known, but none of {known} is such a layer. Leave {kind!r} out for this network"
    )


def written_by_recycling(layers: Collection[LayerState]) -> set[str]:
    """Full names of the parameters that recycling units of these layers may write into."""
    own = {name for layer in layers for part in (layer, *layer.norms) for name in part.parameters}
    return own | {f"{reader.layer.name}.weight" for layer in layers for reader in layer.readers}


def recycle(
    net: NetworkState, units: Mapping[str, Tensor], rng: Callable[[int], np.random.Generator], rules: Recycling
) -> None:
    """Exchanges chosen units, ``[m, units]`` bool by layer of ``net.unit_layers``, in place; nothing else changes.

    Layer normalisations on the way to the readers give a new unit its first scale and the shift 0. Each member that has
    any draws from its own ``rng(member)``, whole layers in the network's order.
    """
    for member, own in _by_member(units):
        _Exchange(net, member, own, rules).carry_out(rng(member))


def recycled_units(
    net: NetworkState,
    layers: Collection[LayerState],
    units: Mapping[str, Tensor],
    rng: Callable[[int], np.random.Generator],
    rules: Recycling,
) -> Report:
    """Recycles and reports: what may have been written, and how many units of each member, ``recycled`` ``[m]``."""
    import torch

    recycle(net, units, rng, rules)
    counts = torch.stack([mask.sum(dim=1) for mask in units.values()]).sum(dim=0)
    return Report(touched=written_by_recycling(layers), measurements={"recycled": counts.float()})


def _by_member(units: Mapping[str, Tensor]) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Members that have chosen units, and these by layer, ``[1, units]``."""
    concerned = {name: mask.any(dim=1).tolist() for name, mask in units.items()}
    for member in range(max(map(len, concerned.values()), default=0)):
        own = {name: units[name][member : member + 1] for name in units if concerned[name][member]}
        if own:
            yield member, own


class _Exchange:
    """Of the units of one member, as a population of one."""

    def __init__(self, net: NetworkState, member: int, units: Mapping[str, Tensor], rules: Recycling) -> None:
        self._net, self._units, self._rules = net, units, rules
        self._layers = [layer for layer in net.layers if layer.name in units]
        self._row = slice(member, member + 1)
        self._drawn: dict[str, tuple[Tensor, Tensor | None]] = {}

    def carry_out(self, rng: np.random.Generator) -> None:
        self._draw(rng)
        writes = (self._silence, self._renew)
        for write in writes if self._rules.between == "fresh" else reversed(writes):
            write()
        self._forget()

    def _value(self, parameter: ParameterState) -> Tensor:
        return parameter.value[self._row]

    def _draw(self, rng: np.random.Generator) -> None:
        wanted = set(self._units)
        if self._rules.outgoing == "fresh":
            wanted |= {reader.layer.name for layer in self._layers for reader in layer.readers}
        for layer in self._net.layers:
            if layer.name in wanted:
                assert layer.redraw is not None, "unit layers and their readers can be drawn"
                weight, bias = layer.redraw(rng)
                self._drawn[layer.name] = weight[None], bias[None] if bias is not None else None

    def _silence(self) -> None:
        """Outgoing weights."""
        for layer in self._layers:
            chosen = self._units[layer.name]
            for reader in layer.readers:
                columns = reader.columns(self._value(reader.layer.weight))
                if self._rules.outgoing == "zero":
                    columns[chosen] = 0.0
                else:
                    columns[chosen] = reader.columns(self._drawn[reader.layer.name][0])[chosen]

    def _renew(self) -> None:
        """Incoming weights and biases, and the scales and shifts of normalisations."""
        for layer in self._layers:
            chosen = self._units[layer.name]
            weight, bias = self._drawn[layer.name]
            self._value(layer.weight)[chosen] = weight[chosen]
            if layer.bias is not None:
                fresh = bias if self._rules.bias == "fresh" else None
                self._value(layer.bias)[chosen] = fresh[chosen] if fresh is not None else 0.0
            for norm in layer.norms:
                self._value(norm.weight)[chosen] = norm.initial_gain
                if norm.bias is not None:
                    self._value(norm.bias)[chosen] = 0.0

    def _forget(self) -> None:
        """The optimizer's moments of all that was written."""
        parameters = self._net.parameters
        for name, written in self._written(parameters).items():
            rule = self._rules.bias_moments if name.endswith(".bias") else self._rules.moments
            for moment, values in parameters[name].moments.items():
                held = values[self._row]
                if rule == "layer_mean" and moment in self._net.second_moments:
                    held.masked_fill_(written, _mean_of_others(held, written))
                elif rule != "keep":
                    held.masked_fill_(written, 0.0)

    def _written(self, parameters: Mapping[str, ParameterState]) -> dict[str, Tensor]:
        """Where something was written, ``[1, ...]`` bool by parameter: a weight's rows and columns at once."""
        written: dict[str, Tensor] = {}

        def of(name: str) -> Tensor:
            if name not in written:
                written[name] = self._value(parameters[name]).bool().zero_()  # lies in memory as the value does
            return written[name]

        for layer in self._layers:
            chosen = self._units[layer.name]
            for part in (layer, *layer.norms):
                for name in part.parameters:
                    of(name)[chosen] = True
            for reader in layer.readers:
                reader.columns(of(f"{reader.layer.name}.weight"))[chosen] = True
        return written


def _mean_of_others(held: Tensor, written: Tensor) -> Tensor:
    """Over all but the written elements, or over all where these are all."""
    others = (~written).sum()
    return held.masked_fill(written, 0.0).sum() / others if others else held.mean()
