"""Who reads whom in a network: through which nonlinearity the units of a layer are read, and in which columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from plasticbench.learning.activations import ACTIVATIONS
from plasticbench.learning.layers import LayerSpec


class Reading(NamedTuple):
    """A layer that reads units; see ``contracts.network.Reader``."""

    layer: str
    blocks: int
    positions: int


class Wire(NamedTuple):
    """How the units of one layer are read.

    ``activation`` names the nonlinearity in between, and ``active_at`` the layer (perhaps a normalisation) after which
    it stands: identity and ``None`` for outputs and for units that enter a residual stream, which several layers write.
    ``norms`` are the normalisations on the way, each with a scale and a shift for every unit of this layer alone.
    Behind a nonlinearity that mixes units nobody reads any single one of them.
    """

    activation: str = "identity"
    active_at: str | None = None
    readings: tuple[Reading, ...] = ()
    norms: tuple[str, ...] = ()


class _Flow(NamedTuple):
    """Units on their way: of which layer, and what has happened to them."""

    layer: str
    units: int
    blocks: int = 1
    activation: str = "identity"
    active_at: str | None = None
    in_stream: bool = False
    norms: tuple[str, ...] = ()
    is_mixed: bool = False


def wiring(specs: Sequence[LayerSpec]) -> dict[str, Wire]:
    """The wires of all layers that are no normalisations, by name."""
    wires = {spec.name: Wire() for spec in specs if not spec.is_norm}
    flows: list[_Flow] = []
    kept: list[_Flow] = []
    source: list[_Flow] = []
    for spec in specs:
        if spec.wiring == "opens_residual":
            kept = flows = _streamed(flows)
        if spec.wiring != "sibling":
            source = flows
        if not spec.is_norm:
            for flow in source:
                wires[flow.layer] = _read(wires[flow.layer], flow, spec)
            flows = [_Flow(spec.name, spec.weight_shape[0])]
        else:
            flows = [_normalised(flow, spec) for flow in flows]
        if spec.wiring == "closes_residual":
            flows = [*_streamed(flows), *kept]
        if spec.activation != "identity":
            flows = [_activated(flow, spec) for flow in flows]
    return wires


def _streamed(flows: list[_Flow]) -> list[_Flow]:
    return [flow._replace(activation="identity", active_at=None, in_stream=True) for flow in flows]


def _normalised(flow: _Flow, norm: LayerSpec) -> _Flow:
    is_own = not flow.in_stream and norm.weight_shape[0] == flow.units
    return flow._replace(norms=(*flow.norms, norm.name)) if is_own else flow


def _activated(flow: _Flow, spec: LayerSpec) -> _Flow:
    function = ACTIVATIONS[spec.activation]
    flow = flow._replace(blocks=flow.blocks * function.width_factor, is_mixed=flow.is_mixed or function.mixes_units)
    return flow if flow.in_stream else flow._replace(activation=spec.activation, active_at=spec.name)


def _read(wire: Wire, flow: _Flow, reader: LayerSpec) -> Wire:
    is_flattened = len(reader.weight_shape) == 2
    positions = reader.weight_shape[1] // (flow.blocks * flow.units) if is_flattened else 1
    reading = () if flow.is_mixed else (Reading(reader.name, flow.blocks, positions),)
    return Wire(flow.activation, flow.active_at, (*wire.readings, *reading), flow.norms)
