"""A population network as treatments and probes see it: views of its buffers, and who reads whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from plasticbench.contracts.network import LayerState, LayerView, NetworkState, NetworkView, ParameterState, Reader
from plasticbench.learning.layers import LayerSpec, draw_bias, draw_weight, weight_bound
from plasticbench.learning.network import PopulationNetwork


class LazyDraw:
    """New initial values of a whole network, drawn when the first of them is read, and kept until ``renew``."""

    def __init__(self, draw: Callable[[], Mapping[str, Tensor]]) -> None:
        self._draw = draw
        self._drawn: Mapping[str, Tensor] | None = None

    def __getitem__(self, name: str) -> Tensor:
        if self._drawn is None:
            self._drawn = self._draw()
        return self._drawn[name]

    def renew(self) -> None:
        """The next reader gets another draw."""
        self._drawn = None


def network_state(
    network: PopulationNetwork,
    members: slice,
    *,
    fresh: LazyDraw,
    buffers: Mapping[str, Tensor],
    moments: Mapping[str, Tensor],
    second_moments: frozenset[str] = frozenset(),
) -> NetworkState:
    """Views ``[m, ...]`` of the members; ``buffers`` hold flat ``original`` and ``gradient``, where there are any."""
    values = {name: parameter.detach()[members] for name, parameter in network.parameters.items()}
    named = {what: network.views(flat) for what, flat in (*buffers.items(), *moments.items())}

    def parameter(name: str) -> ParameterState:
        return ParameterState(
            value=values[name],
            draw=partial(fresh.__getitem__, name),
            original=named["original"][name][members] if "original" in named else None,
            gradient=named["gradient"][name][members] if "gradient" in named else None,
            moments={moment: named[moment][name][members] for moment in moments},
        )

    layers = {
        spec.name: LayerState(
            name=spec.name,
            role=spec.role,
            is_output=spec in network.outputs,
            weight=parameter(f"{spec.name}.weight"),
            bias=parameter(f"{spec.name}.bias"),
            redraw=partial(_redraw, spec, network.flat.device),
            initial_bound=None if spec.is_norm else weight_bound(spec),
            initial_gain=spec.gain if spec.is_norm else 1.0,
        )
        for spec in network.specs
    }
    for name, wire in network.wires.items():
        layers[name].activation = wire.activation
        layers[name].readers = tuple(Reader(layers[r.layer], r.blocks, r.positions) for r in wire.readings)
        layers[name].norms = tuple(layers[norm] for norm in wire.norms)
    return NetworkState(
        layers=[layers[spec.name] for spec in network.specs if not spec.is_norm],
        norms=[layers[spec.name] for spec in network.specs if spec.is_norm],
        second_moments=second_moments,
        renew=fresh.renew,
    )


def _redraw(spec: LayerSpec, device: torch.device, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
    weight, bias = draw_weight(spec, rng), draw_bias(spec, rng)
    return torch.from_numpy(weight).to(device), torch.from_numpy(bias).to(device)


def activations_of(network: PopulationNetwork, passed_on: Sequence[Tensor]) -> dict[str, Tensor]:
    """What the units of each layer pass on through their nonlinearity, from what ``forward`` appended; by layer."""
    after = dict(zip((spec.name for spec in network.hidden), passed_on, strict=True))
    return {name: after[wire.active_at] for name, wire in network.wires.items() if wire.active_at is not None}


def network_view(
    name: str, network: PopulationNetwork, obs: Tensor, captured: Mapping[str, Mapping[str, Tensor]]
) -> NetworkView:
    """What probes see, of all members; ``captured``: initial, gradient, update, previous values by parameter."""
    hidden: list[Tensor] = []
    with torch.no_grad():
        network.forward(obs, hidden)
    activations = activations_of(network, hidden)
    layers: list[LayerView] = []
    for spec in network.specs:
        if spec.is_norm:
            continue
        weight, bias = f"{spec.name}.weight", f"{spec.name}.bias"
        extra = {
            f"{what}_{kind}" if what in ("initial", "previous") else f"{kind}_{what}": named[full_name]
            for what, named in captured.items()
            for kind, full_name in (("weight", weight), ("bias", bias))
            if (what, kind) != ("previous", "bias")
        }
        layers.append(
            LayerView(
                name=spec.name,
                weight=network.parameters[weight].detach(),
                bias=network.parameters[bias].detach(),
                activation=activations.get(spec.name),
                nonlinearity=network.wires[spec.name].activation,
                **extra,
            )
        )
    return NetworkView(name=name, layers=tuple(layers), features=hidden[-1].flatten(2) if hidden else None)
