"""A loss passes back in one piece or in several, with penalties beside it, clipped or not."""

import pytest
import torch
from treated import batch, part, specs

from plasticbench.learning.optimizers import adam
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.seeding import Streams

BASE = adam.Config(learning_rate=1e-2, eps=1e-8, weight_decay=0.0)
PENALISED = part("infer", strength=0.5)


def built(kind=PENALISED, limit=None):
    streams, device = [Streams(0), Streams(1)], torch.device("cpu")
    return TrainedNetwork.build("q", specs(), BASE, streams, device, "none", [[kind]] * 2, limit)


def losses(network, step, pieces):
    inputs, targets = batch([0, 1], step)
    for x, y in zip(inputs.chunk(pieces, 1), targets.chunk(pieces, 1), strict=True):
        yield (network.forward(x) - y).square().mean(dim=(1, 2)) / pieces


def after(descent, **settings):
    network = built(**settings)
    for step in range(1, 6):
        network.begin(step)
        descent(network, step)
    return network.online.flat


@pytest.mark.parametrize("limit", [None, 0.05])
def test_a_loss_in_one_piece_passes_back_as_a_loss_does_with_penalties_that_are_not_clipped(limit):
    whole = after(lambda network, step: network.descend(next(losses(network, step, 1)), step), limit=limit)
    through = after(lambda network, step: network.descend_through(losses(network, step, 1), step), limit=limit)
    torch.testing.assert_close(through, whole, rtol=1e-5, atol=1e-6)
    plain = after(lambda network, step: network.descend_through(losses(network, step, 1), step), kind=part("none"))
    assert (whole - plain).abs().max() > 1e-3


def test_pieces_of_a_loss_add_up_to_it():
    whole = after(lambda network, step: network.descend(next(losses(network, step, 1)), step), kind=part("none"))
    pieces = after(lambda network, step: network.descend_through(losses(network, step, 4), step), kind=part("none"))
    torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-6)
