"""What the contract of all parts is tested on: five members, two of whom have the part in question."""

import copy
import dataclasses
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor
from treated import event, part, specs, trained, update

from plasticbench import plugins
from plasticbench.contracts.treatment import FAMILIES, Part, hooks_of
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.members import members_of, per_member_names
from plasticbench.learning.networks import impala_cnn, simba
from plasticbench.learning.trained import TrainedNetwork

TREATMENTS = plugins.names("treatments")
KINDS = [kind for family in FAMILIES for kind in plugins.names(family)]
PRESETS = [(kind, preset) for kind in KINDS for preset in plugins.load(plugins.find(kind, FAMILIES), kind).PRESETS]
NEEDS = {"nap": ("layer_norm",), "plasticity_injection": ("injection_heads",)}
"""Structures without which a treatment is refused."""
UNFIT = {("injection_heads", "residual"), ("plasticity_injection", "residual")}
"""Kinds, and networks that they refuse."""
EXAMINED = (1, 3)
"""The members with the part in question: a slice with a step of 2."""

Methods = Sequence[Sequence[Part]]


class Task(NamedTuple):
    """A network, and the shape of what it reads."""

    layers: Sequence[LayerSpec]
    shape: tuple[int, ...]


def _even_conv_specs() -> Sequence[LayerSpec]:
    """Two convolutions and two linear layers whose units come in pairs."""
    return [
        LayerSpec("conv1", "encoder", (4, 3, 3, 3), 1, "torch_default"),
        LayerSpec("conv2", "encoder", (6, 4, 3, 3), 1, "torch_default"),
        LayerSpec("fc1", "head", (8, 6 * 4), 1, "torch_default"),
        LayerSpec("fc2", "head", (3, 8), 1, "torch_default"),
    ]


TASKS = {
    "mlp": Task(specs(), (4,)),
    "convolutional": Task(_even_conv_specs(), (3, 6, 6)),
    "residual maps": Task(impala_cnn.Config(channels=(4,), hidden_units=8).layers((3, 6, 6), 3), (3, 6, 6)),
    "residual": Task(simba.Config(num_blocks=1, width=6).layers((4,), 3), (4,)),
}


def acts(kind: str, *hooks: str) -> bool:
    """Whether it is a treatment with one of these hooks."""
    return kind in TREATMENTS and not set(hooks).isdisjoint(hooks_of(part(kind).config.build()))


def altered(original: Part, **settings: Any) -> Part:
    """The part with other settings."""
    config = dataclasses.replace(original.config, **settings)
    return dataclasses.replace(original, config=config, id=f"{original.kind} {config}")


def halved(original: Part) -> Part:
    """The part with half of every number in which members may differ."""
    numbers = {name: getattr(original.config, name) for name in per_member_names(original.config)}
    return altered(original, **{name: number / 2 for name, number in numbers.items() if type(number) is float})


def examined(kind: str, preset: str, **when: Any) -> list[list[Part]]:
    """The methods of the two members; a structure or an optimizer has a reset beside it."""
    before = [part(structure) for structure in NEEDS.get(kind, ())]
    beside = [] if kind in TREATMENTS else [part("shrink_perturb")]
    first = part(kind, preset=preset, **when)
    return [[*before, first, *beside], [*before, halved(first), *beside]]


def company(methods: Methods) -> list[list[Part]]:
    """Those two members between others; all five have the same structure and kind of optimizer."""
    shared = [own for own in methods[0] if own.family != "treatments"]
    first, second = (list(own) for own in methods)
    return [[*shared, part("none")], first, [*shared, part("shrink_perturb")], second, shared]


def events(network: TrainedNetwork, step: int, shape: tuple[int, ...] = (4,)) -> None:
    """The events of all members that have one."""
    concerned: dict[int, list[int]] = {}
    for application in network.parts.applications:
        if acts(application.parts[0].kind, "event"):
            concerned.setdefault(application.index, []).extend(members_of(application.members))
    for index, members in concerned.items():
        event(network, sorted(members), step, index, shape)


def train(
    network: TrainedNetwork, first: int, last: int, *, events_at: Sequence[int] = (), shape: tuple[int, ...] = (4,)
) -> None:
    """Updates at the clocks ``first`` to ``last``, and events after those at ``events_at``."""
    for step in range(first, last + 1):
        update(network, step, shape)
        if step in events_at:
            events(network, step, shape)


def tensors_of(network: TrainedNetwork, member: int) -> dict[str, Tensor]:
    """Copies of all that a member is: parameters, first values, moments, counts, target, states of its treatments."""
    own = {name: value[member].clone() for name, value in network.state_dict().items() if "/treatment/" not in name}
    for application in network.parts.applications:
        members = list(members_of(application.members))
        if member in members:
            state = application.state or {}
            row = members.index(member)
            own |= {f"state of part {application.index}: {name}": value[row].clone() for name, value in state.items()}
    return own


class Saved(NamedTuple):
    """What a checkpoint holds of a network and its members' chance."""

    tensors: dict[str, Tensor]
    plain: str
    streams: list[dict[str, Any]]


def save(network: TrainedNetwork) -> Saved:
    """A copy of everything."""
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    streams = [copy.deepcopy(streams.state_dict()) for streams in network.streams]
    return Saved(tensors, json.dumps(network.parts.plain_state()), streams)


def restore(methods: Methods, saved: Saved, parents: Sequence[int], layers: Sequence[LayerSpec]) -> TrainedNetwork:
    """A new network whose member i goes on as the saved member ``parents[i]``."""
    network = trained(methods, layers=layers)
    for streams, parent in zip(network.streams, parents, strict=True):
        streams.load_state_dict(saved.streams[parent])
    network.load_state_dict(saved.tensors, parents, json.loads(saved.plain))
    return network
