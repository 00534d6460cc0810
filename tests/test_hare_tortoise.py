"""Hare and tortoise: a slow copy of the network, and going back to it."""

import copy
from types import SimpleNamespace

import pytest
import torch
from plain_training import assert_agrees, plain_copy
from treated import BASE, batch, event, part, train, trained, update, weights

from plasticbench.learning.members import stacked
from plasticbench.learning.networks import simba
from plasticbench.learning.treatments import hare_tortoise


def test_the_tortoise_goes_its_share_of_the_way_and_the_hare_returns_to_it() -> None:
    """From 0 towards a hare at 8: with mu 0.75 to 2, then 3.5; with mu 0.5 to 4, then 6."""
    treatment = stacked([hare_tortoise.Config(mu=mu) for mu in (0.75, 0.5)], torch.device("cpu")).build()
    network = trained([[], []])
    net, look = network.state_of(slice(0, 2, 1)), SimpleNamespace()
    network.online.flat.zero_()
    state = treatment.init(net)
    network.online.flat.fill_(8.0)
    for expected in ([2.0, 4.0], [3.5, 6.0]):
        treatment.on_update(net, state, look)
        for tortoise in state.values():
            assert torch.equal(tortoise.flatten(1), torch.tensor(expected)[:, None].expand(2, tortoise[0].numel()))
    assert treatment.on_event(net, state, look).touched == set(network.online.parameters)
    for name, hare in network.online.parameters.items():
        assert torch.equal(hare, state[name])


def test_members_of_two_paces_agree_with_a_plain_loop_that_goes_back_after_ten_updates() -> None:
    paces = (0.9, 0.5)
    network = trained([[part("hare_tortoise", mu=mu)] for mu in paces])
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 10)
    event(network, [0, 1], step=10)
    train(network, 10, first=11)
    for member, (hare, mu) in enumerate(zip(modules, paces, strict=True)):
        tortoise = copy.deepcopy(hare)
        optimizer = torch.optim.Adam(hare.parameters(), lr=BASE.learning_rate, eps=BASE.eps)
        for step in range(1, 21):
            inputs, targets = batch([member], step)
            optimizer.zero_grad()
            (hare(inputs[0]) - targets[0]).square().mean().backward()
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(tortoise.parameters(), hare.parameters(), strict=True):
                    slow.copy_(mu * slow + (1 - mu) * fast)
            if step == 10:
                hare.load_state_dict(tortoise.state_dict())
        assert_agrees(network, member, hare)


def test_a_tortoise_that_keeps_nothing_is_the_hare_and_its_event_changes_no_bit() -> None:
    network = trained([[part("hare_tortoise", mu=0.0)]])
    train(network, 5)
    before = weights(network, 0)
    event(network, [0], step=5)
    assert all(torch.equal(value, before[name]) for name, value in weights(network, 0).items())


def test_a_tortoise_that_keeps_everything_brings_back_the_first_weights_normalisations_included() -> None:
    layers = simba.Config(num_blocks=1, width=6).layers((4,), 3)
    network = trained([[part("hare_tortoise", mu=1.0)]], layers=layers)
    first = weights(network, 0)
    train(network, 5)
    assert not torch.equal(weights(network, 0)["block1_norm.weight"], first["block1_norm.weight"])
    event(network, [0], step=5)
    assert all(torch.equal(value, first[name]) for name, value in weights(network, 0).items())


def test_an_event_before_any_update_changes_no_bit() -> None:
    network = trained([[part("hare_tortoise")]])
    before = weights(network, 0)
    event(network, [0], step=0)
    assert all(torch.equal(value, before[name]) for name, value in weights(network, 0).items())


@pytest.mark.parametrize(("target", "is_equal"), [("sync", True), ("same_operation", True), ("keep", False)])
def test_hare_and_target_are_equal_after_an_event_unless_the_target_is_kept(target: str, is_equal: bool) -> None:
    network = trained([[part("hare_tortoise", target=target)]])
    train(network, 5)
    event(network, [0], step=5)
    assert network.target is not None
    assert torch.equal(network.target.flat, network.online.flat) is is_equal


@pytest.mark.parametrize(("preset", "is_kept"), [("clean", True), ("forager_dqn", False)])
def test_the_optimizer_is_kept_but_for_foragers_preset(preset: str, is_kept: bool) -> None:
    network = trained([[part("hare_tortoise", preset=preset)]])
    update(network, 1)
    event(network, [0], step=1)
    assert bool(network.optimizer.moments["exp_avg"].any()) is is_kept
    assert bool(network.optimizer.steps.any()) is is_kept
