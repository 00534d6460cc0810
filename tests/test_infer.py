"""InFeR: against plain training with heads of plain PyTorch, and what it does to the features."""

import numpy as np
import pytest
import torch
from plain_training import assert_agrees, plain_copy
from treated import BASE, batch, conv_specs, part, train, trained, update

from plasticbench.seeding import Streams


def state_of(network):
    (application,) = [a for a in network.parts.applications if a.parts[0].kind == "infer"]
    return application.state


def drawn_heads(seed, units, heads=10):
    rng = Streams(seed)["treatment/q/infer"]
    return torch.from_numpy(rng.uniform(-(units**-0.5), units**-0.5, (heads, units)).astype(np.float32))


def test_members_of_two_strengths_agree_with_plain_training_under_the_penalty():
    strengths = (0.01, 0.1)
    network = trained([[part("infer", strength=s, heads=4, scale=3.0, head_learning_rate=0.02)] for s in strengths])
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for member, (module, strength) in enumerate(zip(modules, strengths, strict=True)):
        beginning = plain_copy(trained([[], []]), member)
        first = drawn_heads(member, 6, 4)
        heads = first.clone().requires_grad_()
        optimizer = torch.optim.Adam(module.parameters(), lr=BASE.learning_rate, eps=BASE.eps)
        beside = torch.optim.Adam([heads], lr=0.02, eps=1e-8)
        for step in range(1, 21):
            inputs, targets = batch([member], step)
            with torch.no_grad():
                asked_for = 3.0 * beginning[:-1](inputs[0]) @ first.T
            penalty = strength * (module[:-1](inputs[0]) @ heads.T - asked_for).square().mean()
            for one in (optimizer, beside):
                one.zero_grad()
            ((module(inputs[0]) - targets[0]).square().mean() + penalty).backward()
            optimizer.step()
            beside.step()
        assert_agrees(network, member, module)
        torch.testing.assert_close(state_of(network)["heads"][member], heads.detach(), rtol=1e-4, atol=1e-5)


def test_at_the_start_and_at_scale_one_there_is_nothing_to_correct():
    network, plain = trained([[part("infer", strength=10.0, scale=1.0)]]), trained([[part("none")]])
    for one in (network, plain):
        update(one, 1)
    assert not state_of(network)["mean"].any()
    torch.testing.assert_close(network.online.flat, plain.online.flat)


def test_heads_come_from_a_stream_of_their_own():
    network = trained([[part("infer")]])
    update(network, 1)
    assert torch.equal(state_of(network)["first"][0], drawn_heads(0, 6))


@pytest.mark.parametrize(("layers", "shape"), [(None, (4,)), (conv_specs(), (3, 6, 6))])
def test_features_are_drawn_to_a_larger_scale(layers, shape):
    network = trained([[part("infer", strength=1.0)], [part("none")]], layers=layers)
    train(network, 100, shape=shape)
    hidden: list[torch.Tensor] = []
    network.online.forward(batch([0, 1], 1, shape)[0], hidden)
    treated, untreated = hidden[-1].detach().flatten(1).norm(dim=1).tolist()
    assert treated > 2 * untreated
