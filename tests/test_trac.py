"""TRAC: its error function, against a plain loop in float64, and what becomes of its reference."""

import math

import pytest
import torch
from plain_training import plain_copy
from treated import BASE, batch, part, train, trained

from plasticbench.learning.optimizers.trac import erfi

BETAS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


def integral(x):
    """erfi by the midpoint rule: 2 / sqrt(pi) times the integral of exp(t^2) up to x."""
    n = 200_000
    return 2 / math.sqrt(math.pi) * sum(math.exp(((i + 0.5) * x / n) ** 2) for i in range(n)) * x / n


@pytest.mark.parametrize("x", [0.5, 1 / math.sqrt(2), -1.0, 3.0, 6.0])
def test_the_imaginary_error_function_is_its_integral(x):
    assert erfi(torch.tensor([x], dtype=torch.float64)).item() == pytest.approx(integral(x), rel=1e-7)


def test_the_imaginary_error_function_is_zero_at_zero():
    assert erfi(torch.zeros(2, dtype=torch.float64)).tolist() == [0.0, 0.0]


def test_the_first_step_is_adams_times_the_scale_of_an_argument_of_one():
    # Nothing has been worth anything yet: sigma = eps (0.9, 0.99, ...), so the arguments are the betas themselves.
    network = trained([[part("trac", initial_scale=0.1)]])
    plain = trained([[part("adam")]])
    before = network.online.flat.clone()
    for one in (network, plain):
        train(one, 1)
    scale = 0.1 * sum(integral(beta) for beta in BETAS) / integral(1 / math.sqrt(2))
    assert network.optimizer.member_state["scale"].item() == pytest.approx(scale, rel=1e-6)
    torch.testing.assert_close(network.online.flat - before, scale * (plain.online.flat - before), rtol=1e-4, atol=1e-7)


class Plain:
    """The published rule around ``torch.optim.Adam`` on one module in float64."""

    def __init__(self, module, initial_scale):
        self.parameters, self.initial_scale = list(module.parameters()), initial_scale
        self.adam = torch.optim.Adam(self.parameters, lr=BASE.learning_rate, eps=BASE.eps)
        self.reference = [p.detach().clone() for p in self.parameters]
        self.variance, self.sigma, self.scale = [0.0] * 6, [1e-8] * 6, initial_scale

    def step(self):
        before = [p.detach().clone() for p in self.parameters]
        self.adam.step()
        directions = [(b - r) / (self.scale + 1e-8) for b, r in zip(before, self.reference, strict=True)]
        h = sum((d * p.grad).sum().item() for d, p in zip(directions, self.parameters, strict=True))
        self.variance = [beta**2 * v + h * h for beta, v in zip(BETAS, self.variance, strict=True)]
        self.sigma = [beta * s - h for beta, s in zip(BETAS, self.sigma, strict=True)]
        arguments = [s / (math.sqrt(2 * v) + 1e-8) for s, v in zip(self.sigma, self.variance, strict=True)]
        values = erfi(torch.tensor(arguments, dtype=torch.float64)).sum() / erfi(torch.tensor(0.5).double().sqrt())
        self.scale = max(self.initial_scale * values.item(), 0.0)
        with torch.no_grad():
            for p, b, r, d in zip(self.parameters, before, self.reference, directions, strict=True):
                p.copy_(r + self.scale * (d + p - b))


@pytest.mark.parametrize("initial_scale", [0.1, 1e-3])
def test_training_agrees_with_the_published_rule_for_every_member(initial_scale):
    network = trained([[part("trac", initial_scale=initial_scale)]] * 3)
    plain = [plain_copy(network, member).double() for member in range(3)]
    train(network, 20)
    for seed, module in enumerate(plain):
        rule = Plain(module, initial_scale)
        for step in range(1, 21):
            inputs, targets = batch([seed], step)
            module.zero_grad()
            (module(inputs[0].double()) - targets[0].double()).square().mean().backward()
            rule.step()
        assert network.optimizer.member_state["scale"][seed].item() == pytest.approx(rule.scale, rel=1e-3)
        for name, value in module.named_parameters():
            ours = network.online.parameters[name].detach()[seed]
            torch.testing.assert_close(ours, value.detach().float(), rtol=1e-5, atol=1e-5)


def test_from_the_published_start_it_gets_under_way():
    network = trained([[part("trac")]])
    train(network, 400)
    assert network.optimizer.member_state["scale"].item() > 1e-3
    assert not torch.allclose(network.online.flat, network.original, atol=1e-2)


def test_the_weights_are_the_reference_and_the_way():
    network = trained([[part("trac", initial_scale=0.1)]])
    train(network, 20)
    way = network.optimizer.moments["way"]
    torch.testing.assert_close(network.online.flat, network.original + way, rtol=1e-5, atol=1e-6)


def test_only_a_network_that_starts_anew_gets_a_new_scale():
    network = trained([[part("trac", initial_scale=0.1)]] * 2)
    train(network, 10)
    held = {name: value.clone() for name, value in network.optimizer.member_state.items()}
    network.clear_moments(slice(1, 2, 1), {"fc1.weight"})
    assert all(torch.equal(value, held[name]) for name, value in network.optimizer.member_state.items())
    network.clear_moments(slice(1, 2, 1), None)
    new = trained([[part("trac", initial_scale=0.1)]] * 2).optimizer.member_state
    for name, value in network.optimizer.member_state.items():
        assert torch.equal(value[0], held[name][0])
        assert torch.equal(value[1], new[name][1])


def test_what_is_kept_of_a_silent_member_is_zeros():
    network = trained([[part("trac", initial_scale=0.1)]] * 2)
    train(network, 3)
    network.silence([1])
    train(network, 3, first=4)
    network.hold()
    state = network.optimizer.member_state
    assert not any(value[1].any() for value in state.values())
    assert all(value[0].any() for value in state.values())
    assert network.online.flat.isfinite().all()


def test_without_any_worth_the_weights_return_to_the_reference_and_no_further():
    network = trained([[part("trac", initial_scale=0.1)]])
    train(network, 5)
    network.online.flat_grad.copy_(network.optimizer.moments["way"] * 1e6)  # every step so far was wrong
    network.optimizer.step()
    assert network.optimizer.member_state["scale"].item() == 0.0
    torch.testing.assert_close(network.online.flat, network.original, rtol=1e-5, atol=1e-6)
