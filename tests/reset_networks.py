"""Small networks for reset policies to rewrite."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plasticbench import plugins
from plasticbench.contracts.network import LayerState, NetworkState, ParameterState, Reader
from plasticbench.contracts.treatment import Report, hooks_of
from plasticbench.seeding import Streams

SHAPES = {"conv1": (6, 3, 2, 2), "conv2": (6, 6, 2, 2), "fc1": (8, 24), "fc2": (3, 8)}


def network(streams: Sequence[Streams], with_originals: bool = True) -> NetworkState:
    """Two convolutions, two linear layers, a normalisation; current, original and fresh values all differ."""

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        drawn = [torch.from_numpy(stream[name].standard_normal(shape, dtype="float32")) for stream in streams]
        return 0.3 * torch.stack(drawn)

    def parameter(shape: tuple[int, ...]) -> ParameterState:
        original, fresh = draw("original", shape) if with_originals else None, draw("fresh", shape)
        return ParameterState(value=draw("value", shape), draw=lambda: fresh, original=original)

    layers = {
        name: LayerState(
            name=name,
            role="encoder" if len(shape) == 4 else "head",
            is_output=name == "fc2",
            weight=parameter(shape),
            bias=parameter(shape[:1]),
        )
        for name, shape in SHAPES.items()
    }
    for read, reader, positions in (("conv1", "conv2", 1), ("conv2", "fc1", 4), ("fc1", "fc2", 1)):
        layers[read].activation, layers[read].readers = "relu", (Reader(layers[reader], positions=positions),)
    norm = LayerState(name="norm", role="encoder", is_output=False, weight=parameter((8,)), bias=parameter((8,)))
    return NetworkState(layers=list(layers.values()), norms=[norm])


class LooksAtData(Exception):
    """A treatment wants to know more than the weights."""


class OwnChance:
    """A look that offers members' streams and nothing else."""

    step = 0

    def __init__(self, streams: Sequence[Streams]) -> None:
        self._streams = streams

    def rng(self, member: int) -> np.random.Generator:
        return self._streams[member]["treatment"]

    def __getattr__(self, name: str) -> Any:
        raise LooksAtData(name)


def streams_of(count: int) -> list[Streams]:
    return [Streams(seed) for seed in range(count)]


def values(net: NetworkState) -> dict[str, Tensor]:
    return {name: parameter.value.clone() for name, parameter in net.parameters.items()}


def act(net: NetworkState, config: Any, streams: Sequence[Streams]) -> Report:
    """The first event of a treatment."""
    treatment = config.build()
    state = treatment.init(net) if hasattr(treatment, "init") else {}
    return treatment.on_event(net, state, OwnChance(streams))


def apply(net: NetworkState, kind: str, preset: str | None = None, members: int = 2, **settings: Any) -> Report:
    return act(net, plugins.config_from("treatments", kind, settings, preset), streams_of(members))


def layer_of(weight: list[list[float]], name: str = "fc", is_output: bool = False) -> LayerState:
    def parameter(value: Tensor) -> ParameterState:
        return ParameterState(
            value=value, draw=lambda: torch.full_like(value, 10.0), original=torch.full_like(value, 20.0)
        )

    return LayerState(
        name=name,
        role="head" if is_output else "encoder",
        is_output=is_output,
        weight=parameter(torch.tensor([weight])),
        bias=parameter(torch.ones(1, 2)),
    )


def _rewrites_whole_layers(kind: str) -> bool:
    """Whether it acts at events alone, and on whole layers alone."""
    config = plugins.config_from("treatments", kind, {})
    if hooks_of(config.build()) != ("event",):
        return False
    net = network(streams_of(1))
    before = values(net)
    try:
        act(net, config, streams_of(1))
    except (LooksAtData, ValueError, AssertionError):  # or it asks for units, which these layers do not know or redraw
        return False
    return any(not torch.equal(value, before[name]) for name, value in values(net).items())


REWRITING = [kind for kind in plugins.names("treatments") if _rewrites_whole_layers(kind)]
POLICIES = ["none", *REWRITING]
