"""Small networks for reset policies to rewrite."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from plasticbench import plugins
from plasticbench.contracts.network import LayerState, NetworkState, ParameterState
from plasticbench.contracts.treatment import Report
from plasticbench.seeding import Streams

POLICIES = plugins.names("treatments")
REWRITING = [kind for kind in POLICIES if kind != "none"]
SHAPES = {"conv1": (6, 3, 2, 2), "conv2": (6, 6, 2, 2), "fc1": (8, 24), "fc2": (3, 8)}


def network(streams: Sequence[Streams], with_originals: bool = True) -> NetworkState:
    """Two convolutions, two linear layers, a normalisation; current, original and fresh values all differ."""

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        drawn = [torch.from_numpy(stream[name].standard_normal(shape, dtype="float32")) for stream in streams]
        return 0.3 * torch.stack(drawn)

    def parameter(shape: tuple[int, ...]) -> ParameterState:
        original = draw("original", shape) if with_originals else None
        return ParameterState(value=draw("value", shape), fresh=draw("fresh", shape), original=original)

    return NetworkState(
        layers=[
            LayerState(
                name=name,
                role="encoder" if len(shape) == 4 else "head",
                is_output=name == "fc2",
                weight=parameter(shape),
                bias=parameter(shape[:1]),
            )
            for name, shape in SHAPES.items()
        ],
        norms=[LayerState(name="norm", role="encoder", is_output=False, weight=parameter((8,)), bias=parameter((8,)))],
    )


def streams_of(count: int) -> list[Streams]:
    return [Streams(seed) for seed in range(count)]


def parameters(net: NetworkState) -> dict[str, ParameterState]:
    layers = (*net.layers, *net.norms)
    return {name: parameter for layer in layers for name, parameter in layer.parameters.items()}


def values(net: NetworkState) -> dict[str, Tensor]:
    return {name: parameter.value.clone() for name, parameter in parameters(net).items()}


def apply(net: NetworkState, kind: str, preset: str | None = None, members: int = 2, **settings: Any) -> Report:
    config = plugins.config_from("treatments", kind, settings, preset)
    return config.build().apply(net, streams_of(members), None)


def layer_of(weight: list[list[float]], name: str = "fc", is_output: bool = False) -> LayerState:
    value = torch.tensor([weight])
    state = ParameterState(value=value, fresh=torch.full_like(value, 10.0), original=torch.full_like(value, 20.0))
    bias = ParameterState(value=torch.ones(1, 2), fresh=torch.full((1, 2), 10.0), original=torch.full((1, 2), 20.0))
    return LayerState(name=name, role="head" if is_output else "encoder", is_output=is_output, weight=state, bias=bias)
