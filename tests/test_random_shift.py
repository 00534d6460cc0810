"""Random shifts of pixels: against padding and cutting by hand, what is drawn, and what a probe sees."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from small_agents import AGENTS, agent_with

from plasticbench.agents._random_shift import RandomShifts, require_maps
from plasticbench.contracts.task import DiscreteActions, EnvSpec
from plasticbench.seeding import Streams

CPU = torch.device("cpu")


def test_every_image_is_padded_by_its_edge_and_cut_out_where_the_draw_says() -> None:
    shifts, again = (RandomShifts([Streams(0), Streams(1)], 2, 5) for _ in range(2))
    pair = torch.rand(2, 2, 5, 3, 7, 6, generator=torch.Generator().manual_seed(0))
    shifted = shifts.shifted((pair[0], pair[1]), shifts.draw(CPU))
    corners = (again.draws.draw() * 5).astype(int)
    assert corners.min() == 0
    assert corners.max() == 4
    for number, image, member, row in np.ndindex(2, 1, 2, 5):
        del image
        top, left = corners[member, number, row]
        padded = np.pad(pair[number][member, row].numpy(), ((0, 0), (2, 2), (2, 2)), mode="edge")
        np.testing.assert_array_equal(shifted[number][member, row], padded[:, top : top + 7, left : left + 6])


def test_a_member_draws_the_same_alone_as_in_company() -> None:
    pair = torch.rand(2, 3, 5, 1, 6, 6)
    shifts, own = RandomShifts([Streams(seed) for seed in range(3)], 1, 5), RandomShifts([Streams(1)], 1, 5)
    together = shifts.shifted((pair[0], pair[1]), shifts.draw(CPU))
    alone = own.shifted((pair[0][1:2], pair[1][1:2]), own.draw(CPU))
    for ours, theirs in zip(together, alone, strict=True):
        assert torch.equal(ours[1:2], theirs)


def shifting_agent(monkeypatch, pixels):
    config, spec = AGENTS["dqn"]
    monkeypatch.setitem(AGENTS, "dqn", (dataclasses.replace(config, random_shift_pixels=pixels), spec))
    return agent_with("dqn", [], 5)


def test_training_is_another_and_losses_for_probes_are_not_shifted(monkeypatch) -> None:
    plain = agent_with("dqn", [], 5)
    agent = shifting_agent(monkeypatch, 1)
    assert not torch.equal(agent.q.online.flat, plain.q.online.flat)
    rows = agent.probe_batch(np.full((2, 16), 0.5))
    before = copy.deepcopy(agent.streams[0].state_dict())
    assert torch.equal(agent.losses(rows)[0], agent.losses(rows)[0])
    assert agent.streams[0].state_dict() == before
    assert "random_shift" in before["generators"]


def test_a_resumed_agent_goes_on_with_the_same_shifts(monkeypatch) -> None:
    agent, resumed = shifting_agent(monkeypatch, 1), agent_with("dqn", [], 5)
    for _ in range(3):
        agent.update(1_000)
    tensors, plain = agent.state_dict()
    resumed.load_state_dict({name: value.clone() for name, value in tensors.items()}, copy.deepcopy(plain), range(2))
    assert torch.equal(agent._shifts.draw(CPU), resumed._shifts.draw(CPU))


def test_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="observations are"):
        require_maps(EnvSpec(obs_shape=(5,), obs_dtype="float32", actions=DiscreteActions(count=2)))
