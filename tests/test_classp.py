"""CLASSP: by hand, against ``torch.optim.Adagrad`` and a plain loop, and what its threshold holds back."""

import pytest
import torch
from plain_training import plain_copy
from treated import BASE, batch, part, train, trained

from plasticbench.learning.network import ParameterSlot
from plasticbench.learning.optimizers.classp import Config


class Numbers:
    """One parameter of two members with one number each."""

    def __init__(self, values, gradients):
        self.flat, self.flat_grad = torch.tensor(values), torch.tensor(gradients)
        self.slots, self.num_members = [ParameterSlot("a", 0, 2, (2, 1))], 2


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, (2 / (2 + 0.5), 2 / (4 + 0.5))),
        ({"power": 2.0}, (2 / (4 + 0.5) ** 0.5, 2 / (8 + 0.5) ** 0.5)),
        ({"weight_decay": 2.0}, (0.8 + 2 * 3.0, 2 / 4.5 + 2 * (3.0 - 0.1 * 6.8))),
        ({"threshold": 4.0}, (0.0, 0.0)),  # the square must be above it
    ],
)
def test_two_steps_worked_out_by_hand(settings, steps):
    numbers = Numbers([3.0, 0.0], [2.0, 0.0])
    optimizer = Config(learning_rate=0.1, eps=0.5, **{"weight_decay": 0.0} | settings).build(numbers, BASE)
    expected = 3.0
    for step in steps:
        optimizer.step()
        expected -= 0.1 * step
        assert numbers.flat.tolist() == pytest.approx([expected, 0.0])
    assert optimizer.steps.tolist() == [[2, 2]]


def test_gradients_that_are_not_followed_make_later_steps_no_smaller():
    numbers = Numbers([0.0, 0.0], [0.1, 2.0])
    optimizer = Config(learning_rate=1.0, eps=0.5, threshold=1.0).build(numbers, BASE)
    optimizer.step()
    assert numbers.flat.tolist() == pytest.approx([0.0, -0.8])
    numbers.flat_grad.copy_(torch.tensor([2.0, 2.0]))
    optimizer.step()
    assert numbers.flat.tolist() == pytest.approx([-0.8, -0.8 - 2 / 4.5])


@pytest.mark.parametrize("settings", [{"preset": "adagrad"}, {"power": 1.0, "threshold": 1e-4}], ids=str)
def test_training_agrees_with_a_plain_loop_for_every_member(settings):
    network = trained([[part("classp", **settings)]] * 3)
    plain = [plain_copy(network, member) for member in range(3)]
    train(network, 20)
    for seed, module in enumerate(plain):
        adagrad = torch.optim.Adagrad(module.parameters(), lr=BASE.learning_rate, eps=1e-10)
        sums = [torch.zeros_like(p) for p in module.parameters()]
        for step in range(1, 21):
            inputs, targets = batch([seed], step)
            module.zero_grad()
            (module(inputs[0]) - targets[0]).square().mean().backward()
            if "preset" in settings:
                adagrad.step()
                continue
            for p, total in zip(module.parameters(), sums, strict=True):
                chosen = p.grad.abs() > 1e-2
                total[chosen] += p.grad[chosen].abs()
                with torch.no_grad():
                    p[chosen] -= BASE.learning_rate * p.grad[chosen] / (1e-5 + total[chosen])
        for name, value in module.named_parameters():
            ours = network.online.parameters[name].detach()[seed]
            torch.testing.assert_close(ours, value.detach(), rtol=1e-4, atol=1e-5)


def test_the_higher_the_threshold_the_fewer_weights_have_moved():
    moved = []
    for threshold in (0.0, 1e-3, 1e-1):
        network = trained([[part("classp", threshold=threshold)]])
        train(network, 3)
        moved.append((network.online.flat != network.original).sum().item())
    assert moved[0] > moved[1] > moved[2]


def test_what_is_left_out_is_the_agents_own_setting_but_for_eps():
    network = trained([[part("classp")]])
    config = network.optimizer.config
    assert (config.learning_rate, config.weight_decay, config.eps) == (BASE.learning_rate, 0.0, 1e-5)


def test_a_gradient_that_is_not_a_number_is_not_hidden():
    numbers = Numbers([0.0, 0.0], [float("nan"), 2.0])
    Config(learning_rate=1.0, weight_decay=0.0).build(numbers, BASE).step()
    assert numbers.flat.isnan().tolist() == [True, False]
