"""The population's RMSprop: by hand, and against ``torch.optim.RMSprop``, member by member."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_training import plain_copy
from treated import batch, part, train, trained

from plasticbench import plugins
from plasticbench.agents import dqn
from plasticbench.learning.network import ParameterSlot, PopulationNetwork
from plasticbench.learning.networks import mlp
from plasticbench.learning.optimizers import adam
from plasticbench.learning.optimizers.rmsprop import PRESETS, Config, PopulationRMSprop
from plasticbench.platform.definition.parsing import to_dict

CPU = torch.device("cpu")
BASE = adam.Config(learning_rate=0.01, eps=1e-6, weight_decay=0.0)
KINDS = [
    {},
    {"centered": True},
    {"momentum": 0.9},
    {"centered": True, "momentum": 0.95, "decay": 0.95, "eps": 0.01},
]


class Numbers:
    """One parameter of two members with one number each."""

    def __init__(self, values, gradients):
        self.flat, self.flat_grad = torch.tensor(values), torch.tensor(gradients)
        self.slots, self.num_members = [ParameterSlot("a", 0, 2, (2,))], 2


def _network(num_members):
    network = PopulationNetwork(mlp.Config(hidden=(5,)).layers((3,), 2), num_members, CPU)
    network.load(network.draw([np.random.default_rng(m) for m in range(num_members)]))
    return network


def _torch(parameters, settings):
    names = {"decay": "alpha", "centered": "centered", "momentum": "momentum", "eps": "eps"}
    return torch.optim.RMSprop(parameters, lr=0.01, **{"eps": 1e-6} | {names[k]: v for k, v in settings.items()})


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, (4 / (2 + 0.5), 4 / (np.sqrt(0.75 * 4 + 4) + 0.5))),  # mean of squares 4, then 7
        ({"eps_place": "inside_root"}, (4 / np.sqrt(4 + 0.5), 4 / np.sqrt(7 + 0.5))),
        ({"centered": True}, (4 / (np.sqrt(4 - 1) + 0.5), 4 / (np.sqrt(7 - 1.75**2) + 0.5))),
        ({"momentum": 0.5}, (1.6, 0.5 * 1.6 + 4 / (np.sqrt(7) + 0.5))),
        ({"weight_decay": 2.0}, (1.6 + 2 * 3.0, 4 / (np.sqrt(7) + 0.5) + 2 * (3.0 - 0.1 * (1.6 + 6.0)))),
    ],
)
def test_two_steps_worked_out_by_hand(settings, steps):
    numbers = Numbers([3.0, 0.0], [4.0, 0.0])
    optimizer = Config(learning_rate=0.1, decay=0.75, eps=0.5, **{"weight_decay": 0.0} | settings).build(numbers, BASE)
    expected = 3.0
    for step in steps:
        optimizer.step()
        expected -= 0.1 * step
        assert numbers.flat.tolist() == pytest.approx([expected, 0.0], rel=1e-5)
    assert optimizer.steps.tolist() == [[2, 2]]


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_training_agrees_with_torchs_rmsprop_for_every_member(settings):
    network = trained([[part("rmsprop", **settings)]] * 3, base=BASE)
    plain = [plain_copy(network, member) for member in range(3)]
    train(network, 20)
    for seed, module in enumerate(plain):
        optimizer = _torch(module.parameters(), settings)
        for step in range(1, 21):
            inputs, targets = batch([seed], step)
            optimizer.zero_grad()
            (module(inputs[0]) - targets[0]).square().mean().backward()
            optimizer.step()
        for name, value in module.named_parameters():
            ours = network.online.parameters[name].detach()[seed]
            torch.testing.assert_close(ours, value.detach(), rtol=1e-4, atol=1e-5)


def test_a_parameter_of_one_member_that_was_reset_goes_on_as_a_new_one():
    settings = KINDS[-1]
    network = trained([[part("rmsprop", **settings)]] * 2, base=BASE)
    train(network, 5)
    network.clear_moments(slice(1, 2, 1), {"fc1.weight"})
    module = plain_copy(network, 1)
    optimizer = _torch([module.fc1.weight], settings)
    for step in range(6, 9):
        inputs, targets = batch([1], step)
        module.load_state_dict({n: p.detach()[1] for n, p in network.online.parameters.items()})
        before = module.fc1.weight.detach().clone()
        optimizer.zero_grad()
        (module(inputs[0]) - targets[0]).square().mean().backward()
        optimizer.step()
        train(network, 1, first=step)
        moved = network.online.parameters["fc1.weight"].detach()[1] - before
        torch.testing.assert_close(moved, module.fc1.weight.detach() - before, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_preview_tells_the_next_step_and_changes_nothing(settings):
    network = _network(2)
    optimizer = Config(**settings).build(network, BASE)
    network.flat_grad.normal_(generator=torch.Generator().manual_seed(0))
    optimizer.step()
    before, moments = network.flat.clone(), {name: moment.clone() for name, moment in optimizer.moments.items()}
    predicted = optimizer.preview(network.flat_grad)
    assert torch.equal(network.flat, before)
    assert all(torch.equal(optimizer.moments[name], moment) for name, moment in moments.items())
    optimizer.step()
    torch.testing.assert_close(network.flat - before, predicted, rtol=0, atol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_constant_gradient_stays_finite(preset):
    numbers = Numbers([0.0, 0.0], [1e-3, 3.0])
    optimizer = replace(PRESETS[preset], learning_rate=1e-6).build(numbers, BASE)
    for _ in range(2_000):
        optimizer.step()
    assert numbers.flat.isfinite().all()
    assert (numbers.flat < 0).all()


def test_what_is_left_out_is_the_agents_own_setting():
    optimizer = Config(decay=0.5).build(_network(1), adam.Config(learning_rate=0.03, eps=1e-4, weight_decay=0.1))
    assert optimizer.config == Config(decay=0.5, learning_rate=0.03, eps=1e-4, weight_decay=0.1)


# -- as the optimizer of an agent --------------------------------------------------------------------------------------


def test_an_agents_optimizer_is_that_of_methods_that_name_none():
    own = PRESETS["minatar"]
    bare = trained([(), ()], base=BASE)
    assert isinstance(bare.optimizer, adam.PopulationAdam)
    layers, streams = bare.online.specs, bare.streams
    for parts, kind in (((), PopulationRMSprop), (([part("adam")],) * 2, adam.PopulationAdam)):
        built = type(bare).build("q", layers, BASE, streams, CPU, parts=parts, optimizer=own)
        assert isinstance(built.optimizer, kind)


def test_an_agents_optimizer_stands_in_its_settings_unless_it_is_adam():
    assert "optimizer" not in to_dict("dqn", dqn.Config())
    settings = to_dict("dqn", dqn.Config(optimizer=PRESETS["minatar"]))
    assert settings["optimizer"]["kind"] == "rmsprop"
    assert "adam_eps" not in settings


def test_an_agents_optimizer_takes_the_agents_rate_and_no_other():
    with pytest.raises(ValueError, match=r"optimizer.learning_rate: .* Remove it, and set learning_rate"):
        plugins.config_from("agents", "dqn", {"optimizer": Config(learning_rate=0.1)})
    with pytest.raises(ValueError, match="adam_eps: this setting has no effect"):
        plugins.config_from("agents", "dqn", {"optimizer": Config(eps=0.1), "adam_eps": 0.1})
