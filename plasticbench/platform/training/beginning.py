"""Lets a population begin with weights that another run has stored, each member with the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import safetensors.torch
from torch import Tensor

from plasticbench import storage
from plasticbench.contracts.learner import MemberRows
from plasticbench.platform.definition.start import Start
from plasticbench.platform.rundir import RunDirectory


def stored_start(directory: RunDirectory, start: Start) -> dict[str, Tensor]:
    """What a run directory keeps for trials with this start."""
    data = storage.read(directory.starts / f"{start.content}.safetensors")
    tensors: dict[str, Tensor] = safetensors.torch.load(data)
    return tensors


def begin_from(agent: Any, stored: Mapping[str, Tensor], start: Start) -> None:
    """Every member of a new agent gets the stored networks, and for their initial values what it begins with.

    Whatever else it is made of, its streams of chance above all, stays its own. Raises ``ValueError`` where names or
    shapes do not fit.
    """
    tensors, plain = agent.state_dict()
    taken = {name for name in tensors if start.takes(name)}
    for name in sorted(taken):
        if name not in stored or stored[name].shape != tensors[name].shape[1:]:
            here, there = list(tensors[name].shape[1:]), list(stored[name].shape) if name in stored else "nothing"
            raise ValueError(
                f"agent.start: {start.trial} does not fit: {name} has the shape {here} here, and there {there}. Begin "
                f"from a run with the same network{' and optimizer' if start.optimizer == 'stored' else ''}"
            )
    for name, values in tensors.items():
        origin = name.replace("/original/", "/online/")
        if name in taken or origin != name:
            tensors[name] = stored[origin].expand_as(values).clone()
    agent.load_state_dict(tensors, plain, range(len(plain["streams"])))


def replay_from(agent: Any, directory: RunDirectory, start: Start) -> None:
    """Every member of a new agent gets the stored replay, if that is taken; its environments begin new episodes."""
    if start.replay == "empty":
        return
    note, count = json.loads(storage.read(directory.starts / f"{start.content}.json")), agent.replay.num_members

    def pieces() -> Iterator[tuple[int, MemberRows]]:
        for index, first_row in enumerate(note["first_rows"]):
            loaded = safetensors.torch.load(storage.read(directory.starts / f"{start.content}-{index}.safetensors"))
            yield first_row, {name: [values[0]] * count for name, values in loaded.items()}

    agent.replay.restore(note["meta"], pieces(), [0] * count)
