"""A population of modules as treatments and probes see it: views of its buffers, part by part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import vmap

from plasticbench.contracts.network import LayerState, LayerView, NetworkState, NetworkView, ParameterState, Reader
from plasticbench.learning.module_layers import Share, pieces
from plasticbench.learning.module_network import ModuleNetwork
from plasticbench.learning.module_parts import Part
from plasticbench.learning.network import PopulationNetwork
from plasticbench.learning.views import activations_of, network_view

Draw = Callable[[str], Tensor]
"""A new initial value ``[m, ...]`` of a parameter or buffer by name."""


def module_state(
    network: ModuleNetwork,
    members: slice,
    *,
    fresh: Draw,
    renew: Callable[[], None],
    buffers: Mapping[str, Tensor],
    original_buffers: Mapping[str, Tensor],
    moments: Mapping[str, Tensor],
    second_moments: frozenset[str],
    with_statistics: bool,
) -> NetworkState:
    """Views ``[m, ...]`` of the members; running statistics, which have no gradients, are there at events alone."""
    named = {what: network.views(flat) for what, flat in (*buffers.items(), *moments.items())}

    def parameter(share: Share) -> ParameterState:
        name, view = share.tensor, partial(batched, share)
        if name in network.buffers:
            return ParameterState(
                value=view(network.buffers[name][members]),
                draw=lambda: view(fresh(name)),
                original=view(original_buffers[name][members]),
            )
        return ParameterState(
            value=view(network.parameters[name][members]),
            draw=lambda: view(fresh(name)),
            original=view(named["original"][name][members]) if "original" in named else None,
            gradient=view(named["gradient"][name][members]) if "gradient" in named else None,
            moments={moment: view(named[moment][name][members]) for moment in moments},
        )

    blueprint = network.blueprint
    shown = [part for part in blueprint.parts if with_statistics or part.weight.tensor not in network.buffers]
    states = {
        part.name: LayerState(
            name=part.name,
            role=blueprint.roles[part.name],
            is_output=part.name in blueprint.outputs,
            weight=parameter(part.weight),
            bias=None if part.bias is None else parameter(part.bias),
            is_table=part.kind == "table",
            also=part.also,
            is_statistic=part.weight.tensor in network.buffers,
            redraw=partial(_redraw, part, network.flat.device) if _is_plain(part) else None,
            initial_bound=_bound(part) if _is_plain(part) else None,
        )
        for part in shown
    }
    for name, wire in network.wires.items():
        states[name].activation = wire.activation
        states[name].readers = tuple(Reader(states[r.name], 1, r.positions) for r in wire.readers)
        states[name].norms = tuple(states[norm] for norm in wire.norms if norm in states)
    vectors = {part.name for part in shown if part.kind == "vector"}
    return NetworkState(
        layers=[state for name, state in states.items() if name not in vectors],
        norms=[state for name, state in states.items() if name in vectors],
        second_moments=second_moments,
        renew=renew,
    )


def batched(share: Share, stacked: Tensor) -> Tensor:
    """The part of a tensor ``[m, ...]`` that is treated by itself, as a view."""
    view: Tensor = vmap(share.view)(stacked)
    return view


def _is_plain(part: Part) -> bool:
    return isinstance(part.layer, nn.Linear | nn.Conv2d) and len(pieces(part.layer)) == 1


def _bound(part: Part) -> float:
    """Torch draws weights of linear layers and convolutions uniformly within 1 / sqrt(fan_in)."""
    assert isinstance(part.layer, nn.Linear | nn.Conv2d)
    return float(part.layer.weight[0].numel() ** -0.5)


def _redraw(part: Part, device: torch.device, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
    """New weight and bias of one member, within 1 / sqrt(fan_in), as torch draws them."""
    assert isinstance(part.layer, nn.Linear | nn.Conv2d)
    bound, weight = _bound(part), part.layer.weight
    shapes = [tuple(weight.shape), *([tuple(weight.shape[:1])] if part.bias is not None else [])]
    drawn = [torch.from_numpy(rng.uniform(-bound, bound, shape).astype(np.float32)).to(device) for shape in shapes]
    return drawn[0], drawn[1] if len(drawn) > 1 else None


def shown_activations(network: PopulationNetwork | ModuleNetwork, passed_on: list[Tensor]) -> dict[str, Tensor]:
    """What the units of each layer pass on, from what ``forward`` appended; by layer."""
    if isinstance(network, PopulationNetwork):
        return activations_of(network, passed_on)
    return dict(zip(network.tapped, passed_on, strict=False))


def shown_view(
    name: str, network: PopulationNetwork | ModuleNetwork, obs: Tensor, captured: Mapping[str, Mapping[str, Tensor]]
) -> NetworkView:
    """What probes see of either kind of network."""
    if isinstance(network, PopulationNetwork):
        return network_view(name, network, obs, captured)
    return module_view(name, network, obs, captured)


def module_view(
    name: str, network: ModuleNetwork, obs: Tensor, captured: Mapping[str, Mapping[str, Tensor]]
) -> NetworkView:
    """What probes see, of all members; ``captured``: initial, gradient, update, previous values by parameter."""
    received: list[Tensor] = []
    with torch.no_grad():
        network.forward(obs, received)
    activations = shown_activations(network, received)
    layers: list[LayerView] = []
    for part in network.blueprint.parts:
        if part.kind != "matrix":
            continue
        extra: dict[str, Tensor] = {}
        for what, named in captured.items():
            for kind, share in (("weight", part.weight), ("bias", part.bias)):
                if share is not None and (what, kind) != ("previous", "bias"):
                    key = f"{what}_{kind}" if what in ("initial", "previous") else f"{kind}_{what}"
                    extra[key] = batched(share, named[share.tensor])
        layers.append(
            LayerView(
                name=part.name,
                weight=batched(part.weight, network.parameters[part.weight.tensor]),
                bias=None if part.bias is None else batched(part.bias, network.parameters[part.bias.tensor]),
                activation=activations.get(part.name),
                nonlinearity=network.wires[part.name].activation,
                **extra,
            )
        )
    return NetworkView(name=name, layers=tuple(layers), features=received[-1] if received else None)
