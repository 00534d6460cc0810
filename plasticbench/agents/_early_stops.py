"""Members of a population that have learnt enough from a rollout, while others go on.

They take part in every operation until the others are done, as members in lockstep must, and then are again what they
were when they stopped: weights, moments, treatments' states, and the streams of chance that all these drew from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from plasticbench.learning.trained import TrainedNetwork
from plasticbench.seeding import Streams


class EarlyStops:
    """Of one rollout; ``stopped`` ``[M]`` tells who has."""

    def __init__(self, networks: Sequence[TrainedNetwork], streams: Sequence[Streams]) -> None:
        self._networks, self._streams = networks, streams
        self._members: dict[int, tuple[Any, ...]] = {}
        self._metrics: dict[str, Tensor] = {}

    def stop(self, members: Sequence[int], metrics: dict[str, Tensor]) -> None:
        """From here on nothing that is done to these members lasts."""
        if not (new := [member for member in members if member not in self._members]):
            return
        saved = [network.state_dict() for network in self._networks]
        tensors = [{name: tensor.clone() for name, tensor in one.items()} for one in saved]
        plain = [network.parts.plain_state() for network in self._networks]
        for member in new:
            self._members[member] = (tensors, plain, self._streams[member].state_dict())
        for name, values in metrics.items():
            kept = self._metrics.setdefault(name, values.clone())
            kept[new] = values[new]

    @property
    def are_all(self) -> bool:
        """Whether there is nothing left to do."""
        return len(self._members) == len(self._streams)

    def reported(self, metrics: dict[str, Tensor]) -> dict[str, Tensor]:
        """Metrics ``[M]`` of an update, for members that have stopped those of their last."""
        if not self._members:
            return metrics
        members = list(self._members)
        shown = {name: values.clone() for name, values in metrics.items()}
        for name in shown.keys() & self._metrics.keys():
            shown[name][members] = self._metrics[name][members]
        return shown

    def restore(self) -> None:
        """Brings back all who have stopped; everybody has learnt from the rollout now."""
        if not self._members:
            return
        everyone = range(len(self._streams))
        now = [network.state_dict() for network in self._networks]
        for place, network in enumerate(self._networks):
            merged = {name: tensor.clone() for name, tensor in now[place].items()}
            for member, (tensors, plain, _) in self._members.items():
                _put(merged, tensors[place], network.name, plain[place], member)
            network.load_state_dict(merged, everyone, network.parts.plain_state())
        for member, (_, _, streams) in self._members.items():
            self._streams[member].load_state_dict(streams)


def _put(
    merged: dict[str, Tensor], saved: dict[str, Tensor], network: str, plain: Sequence[dict[str, Any]], member: int
) -> None:
    """Writes one member's rows of what was saved: ``[M, ...]``, or of a treatment's state that of its own members."""
    for name, tensor in saved.items():
        prefix, _, rest = name.partition(f"{network}/treatment/")
        if prefix or not rest:
            merged[name][member] = tensor[member]
        elif member in (members := plain[int(rest.split("/")[0])]["members"]):
            row = members.index(member)
            merged[name][row] = tensor[row]


def exceeding(values: Tensor, limit: float) -> list[int]:
    """Members whose value ``[M]`` lies above a limit; waits for the device."""
    found: list[int] = torch.nonzero(values > limit).flatten().tolist()
    return found
