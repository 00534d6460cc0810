"""Turns: an update that the agent makes for what a treatment keeps beside a network, in that network's place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from plasticbench.learning.applied import Application
from plasticbench.learning.members import members_of
from plasticbench.learning.trained import TrainedNetwork

_NEVER_REACHED = 1 << 40


class Double:
    """Another network of all members with target and optimizer; only members who take turns ever see theirs."""

    def __init__(self, trained: TrainedNetwork) -> None:
        self.online, self.optimizer, self.target = trained.make()
        self.original = torch.zeros_like(trained.original)
        self.descended = None if trained.descended is None else self.online.leaves

    def change_places(self, trained: TrainedNetwork) -> None:
        """No value moves in memory."""
        for name in ("online", "optimizer", "target", "original", "descended"):
            ours, theirs = getattr(trained, name), getattr(self, name)
            setattr(trained, name, theirs)
            setattr(self, name, ours)


def are_due(trained: TrainedNetwork, step: int) -> bool:
    """Whether a turn follows an update of this network at clock ``step``."""
    return bool(trained.parts.taking_turns(step))


def _count_apart(trained: TrainedNetwork, takers: Sequence[Application]) -> None:
    """Optimizers may round what shares a count of updates otherwise, so nobody shares one with members without."""
    taking = {member for taker in takers for member in members_of(taker.members)}
    others = [member for member in range(trained.online.num_members) if member not in taking]
    trained.optimizer.steps[:, others] = _NEVER_REACHED
    trained.optimizer.rebuild()


@contextmanager
def turn(trained: TrainedNetwork, step: int) -> Iterator[None]:
    """What is done within is done to what treatments keep; members without such a treatment stay as they are."""
    takers = trained.parts.taking_turns(step)
    if trained.double is None:
        trained.double = Double(trained)
    double = trained.double
    for taker in takers:
        taker.on_turn(step)
    double.change_places(trained)
    trained.parts.is_turn = True
    try:
        if any([taker.keep_in(trained) for taker in takers]):
            _count_apart(trained, takers)
        yield
    finally:
        trained.parts.is_turn = False
        double.change_places(trained)
