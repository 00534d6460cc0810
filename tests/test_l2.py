"""The L2 penalty."""

import pytest
import torch
from plain_training import assert_agrees, plain_copy, plain_training
from treated import batch, part, train, trained, weights

from plasticbench.learning.members import stacked
from plasticbench.learning.treatments import l2


def test_the_gradient_grows_by_twice_the_strength_times_the_value() -> None:
    network = trained([[], []])
    network.online.flat.fill_(3.0)
    network.online.flat_grad.fill_(1.0)
    treatment = stacked([l2.Config(strength=0.5), l2.Config(strength=0.25)], torch.device("cpu")).build()
    treatment.on_gradient(network.state_of(slice(0, 2, 1)), {}, None)  # type: ignore[arg-type]
    for gradient in network.online.views(network.online.flat_grad).values():
        assert gradient[0].unique().tolist() == [4.0]
        assert gradient[1].unique().tolist() == [2.5]


def test_members_of_two_strengths_agree_with_plain_training_under_the_penalty() -> None:
    strengths = (1e-2, 3e-1)
    network = trained([[part("l2", strength=strength)] for strength in strengths])
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for member, (module, strength) in enumerate(zip(modules, strengths, strict=True)):

        def penalty(module=module, strength=strength):
            return strength * sum(parameter.square().sum() for parameter in module.parameters())

        plain_training(module, member, penalty=penalty)
        assert_agrees(network, member, module)


def test_a_strong_pull_leaves_little_of_the_weights() -> None:
    network = trained([[part("l2", strength=10.0)], [part("none")]])
    train(network, 200)
    pulled, free = (sum(float(v.square().sum()) for v in weights(network, member).values()) for member in range(2))
    assert pulled < 0.02 * free


def test_pytorchs_weight_decay_is_twice_the_strength() -> None:
    network = trained([[part("l2", strength=5e-3)]])
    module = plain_copy(network, 0)
    train(network, 10)
    decayed = torch.optim.Adam(module.parameters(), lr=1e-2, eps=1e-8, weight_decay=1e-2)
    for step in range(1, 11):
        inputs, targets = batch([0], step)
        decayed.zero_grad()
        (module(inputs[0]) - targets[0]).square().mean().backward()
        decayed.step()
    assert_agrees(network, 0, module)


def test_a_negative_strength_is_refused() -> None:
    with pytest.raises(ValueError, match="strength: must be at least 0"):
        l2.Config(strength=-1.0)
