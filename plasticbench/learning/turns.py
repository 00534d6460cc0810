"""Turns: an update that the agent makes for what a treatment keeps beside a network, in that network's place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from plasticbench.learning.members import members_of
from plasticbench.learning.trained import TrainedNetwork


def are_due(trained: TrainedNetwork, step: int) -> bool:
    """Whether a turn follows an update of this network at clock ``step``."""
    return bool(trained.parts.taking_turns(step))


@contextmanager
def turn(trained: TrainedNetwork, step: int) -> Iterator[None]:
    """What is done within is done to what treatments keep; members without such a treatment stay as they are."""
    takers = trained.parts.taking_turns(step)
    taking = {member for taker in takers for member in members_of(taker.members)}
    others = [member for member in range(trained.online.num_members) if member not in taking]
    named = [tensor for own in trained.saved_parts().values() for tensor in own.values()] if others else []
    named += [trained.optimizer.steps.T] if others else []
    kept = [tensor[others].clone() for tensor in named]
    for taker in takers:
        taker.on_turn(step)
    trained.parts.is_turn = True
    try:
        yield
    finally:
        trained.parts.is_turn = False
        with torch.no_grad():
            for tensor, own in zip(named, kept, strict=True):
                tensor[others] = own
        for taker in takers:
            taker.on_turn(step)
