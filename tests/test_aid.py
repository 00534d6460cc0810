"""AID: chance decides whether a unit passes on what is positive or what is negative."""

import numpy as np
import pytest
import torch
from small_agents import agent_with
from treated import BASE, batch, part, specs, trained, update

from plasticbench.learning.network import population_aid
from plasticbench.learning.structures import aid, crelu
from plasticbench.seeding import Streams


def test_masks_choose_between_both_parts_and_slopes_are_their_mean() -> None:
    """For p = 3/4: 2 is passed on or not, -4 the other way round; on average 1.5 and -1."""
    x = torch.tensor([[[2.0, 2.0, -4.0, -4.0]]])
    masks = torch.tensor([[[True, False, True, False]]])
    assert population_aid(x, 0.75, masks).tolist() == [[[2.0, 0.0, 0.0, -4.0]]]
    assert population_aid(x, 0.75, None).tolist() == [[[1.5, 1.5, -1.0, -1.0]]]


def test_every_hidden_relu_is_replaced_and_where_there_is_none_it_is_refused() -> None:
    assert [spec.activation for spec in aid.Config(keep=0.9).layers(specs())[:-1]] == ["aid", "aid"]
    with pytest.raises(ValueError, match="aid needs a hidden ReLU to replace"):
        aid.Config().layers(crelu.Config().layers(specs()))


def test_twenty_updates_agree_with_a_plain_loop_on_the_same_masks() -> None:
    keep = 0.8
    network = trained([[part("aid", keep=keep)]], seeds=[3])
    streams = Streams(3)
    values = {name: value.detach()[0].clone().requires_grad_() for name, value in network.online.parameters.items()}
    optimizer = torch.optim.Adam(values.values(), lr=BASE.learning_rate, eps=BASE.eps)
    for step in range(1, 21):
        update(network, step)
        inputs, targets = batch([3], step)
        x = inputs[0]
        for name in ("fc1", "fc2"):
            x = x @ values[f"{name}.weight"].T + values[f"{name}.bias"]
            seed = int(streams["forward/q"].integers(2**63))
            mask = (torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < keep).float()
            x = mask * x.clamp(min=0) - (1 - mask) * (-x).clamp(min=0)
        loss = (x @ values["fc3.weight"].T + values["fc3.bias"] - targets[0]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, value in values.items():
        torch.testing.assert_close(network.online.parameters[name].detach()[0], value.detach(), rtol=1e-4, atol=1e-5)


def test_chance_is_in_the_rows_that_are_trained_on_alone() -> None:
    network = trained([[part("aid", keep=0.5)]])
    inputs, _ = batch([0], 1)
    assert not torch.equal(network.forward(inputs), network.forward(inputs))
    with network.online.undisturbed():
        assert torch.equal(network.forward(inputs), network.online.forward(inputs))
    assert torch.equal(network.online.forward(inputs), network.forward_target(inputs))
    many = torch.stack([network.forward(inputs).detach() for _ in range(4)])
    assert (many.std(dim=0) > 0).all()


@pytest.mark.parametrize("kind", ["dqn", "ppo", "sac"])
def test_agents_act_and_are_measured_without_chance(kind: str) -> None:
    agent = agent_with(kind, [part("aid", keep=0.6)], 2)
    batch_of_agent = agent.probe_batch(np.full((2, 8), 0.5))
    ours, again = (agent._gradients(batch_of_agent) for _ in range(2))
    assert all(torch.equal(ours[name], again[name]) for name in ours)
