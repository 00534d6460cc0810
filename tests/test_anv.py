"""Artificial neural variability: what gradients are taken at, and that nobody else sees the noise."""

import numpy as np
import pytest
import torch
from plain_training import assert_agrees, plain_copy
from small_agents import agent_with
from treated import BASE, batch, part, train, trained

from plasticbench.seeding import Streams


def noise_of(rng, shapes):
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    lie = [shape[::-1] if len(shape) == 2 else shape for shape in shapes]  # weights lie in memory as [in, out]
    drawn = [torch.empty(shape).normal_(generator=generator) for shape in lie]
    return [noise.T if len(shape) == 2 else noise for noise, shape in zip(drawn, shapes, strict=True)]


def test_members_of_two_deviations_agree_with_plain_training_at_noisy_weights():
    deviations = (0.01, 0.2)
    network = trained([[part("anv", deviation=d)] for d in deviations])
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for member, (module, deviation) in enumerate(zip(modules, deviations, strict=True)):
        rng, parameters = Streams(member)["treatment/q/anv"], list(module.parameters())
        optimizer = torch.optim.Adam(parameters, lr=BASE.learning_rate, eps=BASE.eps)
        for step in range(1, 21):
            clean = [p.detach().clone() for p in parameters]
            noise = noise_of(rng, [tuple(p.shape) for p in parameters])
            with torch.no_grad():
                for p, n in zip(parameters, noise, strict=True):
                    p += deviation * n
            inputs, targets = batch([member], step)
            optimizer.zero_grad()
            (module(inputs[0]) - targets[0]).square().mean().backward()
            with torch.no_grad():
                for p, c in zip(parameters, clean, strict=True):
                    p.copy_(c)
            optimizer.step()
        assert_agrees(network, member, module)


def test_without_gradients_weights_are_where_they_were_before():
    network = trained([[part("anv", deviation=0.5)]])
    before = network.online.flat.clone()
    network.begin(1)
    assert (network.online.flat - before).std().item() == pytest.approx(0.5, rel=0.15)
    loss = (network.forward(batch([0], 1)[0]) * 0.0).sum(dim=(1, 2))
    network.descend(loss, 1)
    torch.testing.assert_close(network.online.flat, before, rtol=1e-6, atol=1e-6)


def test_a_pass_that_did_not_begin_is_noticed():
    network = trained([[part("anv")]])
    loss = network.forward(batch([0], 1)[0]).square().mean(dim=(1, 2))
    with pytest.raises(AssertionError, match="begin comes before forward"):
        network.descend(loss, 1)


@pytest.mark.parametrize("kind", ["dqn", "sac"])
def test_looks_at_an_agents_losses_add_no_noise_and_draw_none(kind):
    agent = agent_with(kind, [part("anv", deviation=0.1)], 5)
    rows = agent.probe_batch(np.full((2, 16), 0.5))
    before = {trained.name: trained.online.flat.clone() for trained in agent.trained}
    streams = [own.state_dict() for own in agent.streams]
    assert any("anv" in name for name in streams[0]["generators"])
    agent.losses(rows)
    assert all(torch.equal(trained.online.flat, before[trained.name]) for trained in agent.trained)
    assert [own.state_dict() for own in agent.streams] == streams
