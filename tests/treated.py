"""Small trained networks with treatments, and a toy task that every member trains on by itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plasticbench import plugins
from plasticbench.contracts.treatment import FAMILIES, Part
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.look import Sample
from plasticbench.learning.networks import mlp
from plasticbench.learning.optimizers import adam
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.learning.turns import are_due, turn
from plasticbench.learning.views import activations_of
from plasticbench.seeding import Streams, derive_generator

BASE = adam.Config(learning_rate=1e-2, eps=1e-8, weight_decay=0.0)
ROWS, INPUTS, OUTPUTS = 16, 4, 3


def part(
    kind: str, *, networks: str = "all", begin_step: int = 0, every_steps: int | None = None, **settings: Any
) -> Part:
    """A part of a method as an agent is given it; ``preset`` may be among the settings."""
    family = next(family for family in FAMILIES if kind in plugins.names(family))
    preset = settings.pop("preset", None)
    config = plugins.config_from(family, kind, settings, preset)
    return Part(
        family=family,
        kind=kind,
        config=config,
        id=f"{kind} {config}",
        networks=networks,
        begin_step=begin_step,
        every_steps=every_steps,
    )


def specs(hidden: tuple[int, ...] = (8, 6), inputs: int = INPUTS, outputs: int = OUTPUTS) -> Sequence[LayerSpec]:
    """An MLP."""
    return mlp.Config(hidden=hidden, initializer="torch_default").layers((inputs,), outputs)


def conv_specs() -> Sequence[LayerSpec]:
    """Two convolutions and two linear layers for observations ``(3, 6, 6)``."""
    return [
        LayerSpec("conv1", "encoder", (4, 3, 3, 3), 1, "torch_default"),
        LayerSpec("conv2", "encoder", (5, 4, 3, 3), 1, "torch_default"),
        LayerSpec("fc1", "head", (7, 5 * 4), 1, "torch_default"),
        LayerSpec("fc2", "head", (OUTPUTS, 7), 1, "torch_default"),
    ]


def trained(
    parts: Sequence[Sequence[Part]],
    *,
    seeds: Sequence[int] | None = None,
    layers: Sequence[LayerSpec] | None = None,
    base: adam.Config = BASE,
    target: Any = "copy",
) -> TrainedNetwork:
    """One network with a member for each entry of ``parts``; member i has seed i unless ``seeds`` says otherwise."""
    streams = [Streams(seed) for seed in (seeds if seeds is not None else range(len(parts)))]
    return TrainedNetwork.build(
        "q", layers if layers is not None else specs(), base, streams, torch.device("cpu"), target, parts
    )


def batch(seeds: Sequence[int], step: int, shape: tuple[int, ...] = (INPUTS,)) -> tuple[Tensor, Tensor]:
    """Inputs ``[M, ROWS, *shape]`` and targets ``[M, ROWS, OUTPUTS]`` of each member's own task at a step."""
    rngs = [derive_generator(seed, "toy", step) for seed in seeds]
    inputs = np.stack([rng.standard_normal((ROWS, *shape), dtype=np.float32) for rng in rngs])
    flat = inputs.reshape(len(rngs), ROWS, -1)
    targets = np.stack([np.sin(3 * flat[..., :1]), flat[..., 1:2] * flat[..., 2:3], flat[..., 3:4]], axis=-1)
    return torch.from_numpy(inputs), torch.from_numpy(targets.reshape(len(rngs), ROWS, OUTPUTS).astype(np.float32))


def next_inputs(seeds: Sequence[int], step: int, shape: tuple[int, ...] = (INPUTS,)) -> Tensor:
    """What follows the inputs of a step."""
    return batch(seeds, step + 10_000, shape)[0]


def update(network: TrainedNetwork, step: int, shape: tuple[int, ...] = (INPUTS,)) -> Tensor:
    """One update of every member at clock ``step``; returns the losses ``[M]``."""
    seeds = [streams.seed for streams in network.streams]
    (inputs, targets), following = batch(seeds, step, shape), next_inputs(seeds, step, shape)

    def descend() -> Tensor:
        network.begin(step)
        loss = (network.forward(inputs, following) - targets).square().mean(dim=(1, 2))
        network.descend(loss, step)
        return loss.detach()

    losses = descend()
    if are_due(network, step):
        with turn(network, step):
            descend()
    return losses


def train(network: TrainedNetwork, updates: int, first: int = 1, shape: tuple[int, ...] = (INPUTS,)) -> None:
    """Updates at the clocks ``first``, ``first + 1``, ..."""
    for step in range(first, first + updates):
        update(network, step, shape)


def sample(network: TrainedNetwork, step: int, shape: tuple[int, ...] = (INPUTS,)) -> Sample:
    """A sample as an event sees it, with the gradients of the toy loss."""
    inputs, targets = batch([streams.seed for streams in network.streams], step, shape)

    def activations() -> dict[str, Tensor]:
        hidden: list[Tensor] = []
        with torch.no_grad():
            network.online.forward(inputs, hidden)
        return activations_of(network.online, hidden)

    def gradients() -> dict[str, Tensor]:
        with torch.enable_grad():
            loss = (network.online.forward(inputs) - targets).square().mean(dim=(1, 2))
            return network.online.views(network.online.gradient(loss))

    return Sample(inputs, activations, gradients)


def event(
    network: TrainedNetwork, members: Sequence[int], step: int, index: int = 0, shape: tuple[int, ...] = (INPUTS,)
) -> Any:
    """The event of part ``index`` of some members."""
    return network.parts.event(index, members, step, sample(network, step, shape))


def weights(network: TrainedNetwork, member: int) -> dict[str, Tensor]:
    """Copies of one member's parameters."""
    return {name: value.detach()[member].clone() for name, value in network.online.parameters.items()}
