"""UPGD: by hand, against a plain loop with the same noise, and what its gates do."""

import math

import pytest
import torch
from plain_training import plain_copy
from treated import BASE, batch, part, train, trained

from plasticbench.learning.network import ParameterSlot
from plasticbench.learning.optimizers.upgd import PRESETS, Config
from plasticbench.seeding import Streams


class Numbers:
    """One parameter of two members with two numbers each."""

    def __init__(self, values, gradients):
        self.flat, self.flat_grad = torch.tensor(values), torch.tensor(gradients)
        self.slots, self.num_members = [ParameterSlot("a", 0, 4, (2, 2))], 2


def stepped(values, gradients, steps=1, **settings):
    numbers = Numbers(values, gradients)
    quiet = {"noise": 0.0, "learning_rate": 0.1, "weight_decay": 0.0}
    optimizer = Config(**quiet | settings).build(numbers, BASE)
    for _ in range(steps):
        optimizer.step()
    return numbers.flat.tolist()


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_a_step_worked_out_by_hand():
    # Utilities -g w: 2 and -1 of the first member, 6 and 3 of the second; largest 2 and 6.
    flat = stepped([1.0, 1.0, -3.0, 1.0], [-2.0, 1.0, 2.0, -3.0], utility_decay=0.5)
    expected = [1 + 0.2 * sigmoid(-1), 1 - 0.1 * sigmoid(0.5), -3 - 0.2 * sigmoid(-1), 1 + 0.3 * sigmoid(-0.5)]
    assert flat == pytest.approx(expected)


def test_the_uncorrected_maximum_makes_quotients_of_the_start_larger():
    flat = stepped([1.0, 1.0, -3.0, 1.0], [-2.0, 1.0, 2.0, -3.0], utility_decay=0.75, maximum="uncorrected")
    assert flat[0] == pytest.approx(1 + 0.2 * sigmoid(-4))


def test_local_utilities_are_divided_by_the_norm_of_their_row():
    flat = stepped([1.0, 1.0, -3.0, 1.0], [-3.0, 4.0, 0.0, 0.0], scope="local")
    assert flat == pytest.approx([1 + 0.3 * sigmoid(-0.6), 1 - 0.4 * sigmoid(0.8), -3, 1])


def test_the_decay_is_of_the_learning_rate_and_the_step_of_its_multiple():
    flat = stepped([1.0, 1.0, 0.0, 0.0], [-1.0, -1.0, 0.0, 0.0], step_factor=2.0, weight_decay=0.5)
    assert flat[0] == pytest.approx(0.95 + 0.2 * sigmoid(-1))


def test_without_any_useful_weight_all_take_the_whole_step():
    flat = stepped([1.0, 2.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0])
    assert flat == pytest.approx([0.9, 1.9, -0.05, -0.05])


def test_with_gates_for_noise_alone_the_gradient_passes_whole():
    assert stepped([1.0, 1.0, 1.0, 1.0], [-2.0, 1.0, 2.0, 3.0], gates="noise") == pytest.approx([1.2, 0.9, 0.8, 0.7])


def noise_of(generator, shape):
    if len(shape) == 2:  # weights lie in memory as [in, out]
        return torch.empty(shape[::-1]).normal_(generator=generator).T
    return torch.empty(shape).normal_(generator=generator)


def plain_step(parameters, held, step, rng, lr, settings):
    """One step of the published rule on one network; ``held`` are its running means."""
    decay, sigma, factor = settings["utility_decay"], settings["noise"], settings.get("step_factor", 1.0)
    adam = settings.get("form") == "adam"
    for name, p in parameters.items():
        held[name, "u"] = decay * held.get((name, "u"), 0.0) + (1 - decay) * (-p.grad * p.detach())
        if adam:
            held[name, "m"] = 0.9 * held.get((name, "m"), 0.0) + 0.1 * p.grad
            held[name, "v"] = 0.999 * held.get((name, "v"), 0.0) + 0.001 * p.grad**2
    largest = max(held[name, "u"].max().item() for name in parameters)
    if settings.get("maximum") != "uncorrected":
        largest /= 1 - decay**step
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    for name, p in parameters.items():
        s = torch.sigmoid(held[name, "u"] / (1 - decay**step) / largest)
        direction = p.grad
        if adam:
            direction = held[name, "m"] / (1 - 0.9**step) / ((held[name, "v"] / (1 - 0.999**step)).sqrt() + BASE.eps)
        with torch.no_grad():
            p -= factor * lr * (direction + sigma * noise_of(generator, p.shape)) * (1 - s)


@pytest.mark.parametrize(
    "settings",
    [
        {"utility_decay": 0.9, "noise": 0.05},
        {"utility_decay": 0.99, "noise": 0.05, "maximum": "uncorrected", "step_factor": 2.0},
        {"utility_decay": 0.9, "noise": 0.05, "form": "adam"},
    ],
    ids=str,
)
def test_training_agrees_with_a_plain_loop_for_every_member(settings):
    network = trained([[part("upgd", **settings)]] * 3)
    plain = [plain_copy(network, member) for member in range(3)]
    train(network, 20)
    for seed, module in enumerate(plain):
        held, rng = {}, Streams(seed)["optimizer/q"]
        for step in range(1, 21):
            inputs, targets = batch([seed], step)
            module.zero_grad()
            (module(inputs[0]) - targets[0]).square().mean().backward()
            plain_step(dict(module.named_parameters()), held, step, rng, BASE.learning_rate, settings)
        for name, value in module.named_parameters():
            ours = network.online.parameters[name].detach()[seed]
            torch.testing.assert_close(ours, value.detach(), rtol=1e-4, atol=1e-5)


def test_members_may_differ_in_their_noise():
    both = trained([[part("upgd", noise=0.0)], [part("upgd", noise=0.2)]])
    own = trained([[part("upgd", noise=0.2)]], seeds=[1])
    for network in (both, own):
        train(network, 5)
    for name, value in own.online.parameters.items():
        torch.testing.assert_close(value[0], both.online.parameters[name][1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gates", ["step", "noise"])
def test_noise_has_the_deviation_that_was_asked_for(gates):
    network = trained([[part("upgd", noise=3.0, gates=gates)]], target="none")
    moves = []
    for _ in range(200):
        before = network.online.flat.clone()
        network.optimizer.step()  # without gradients all utilities are 0, and half of the noise passes
        moves.append((network.online.flat - before) / (0.5 * BASE.learning_rate))
    assert torch.stack(moves).std().item() == pytest.approx(3.0, rel=0.03)


def test_another_stream_than_any_that_draws_weights_gives_the_noise():
    network = trained([[part("upgd")]])
    before = network.streams[0]["init/q"].bit_generator.state
    train(network, 3)
    assert network.streams[0]["init/q"].bit_generator.state == before
    assert "optimizer/q" in network.streams[0].state_dict()["generators"]


def test_the_codes_presets_are_those_of_the_published_scripts():
    code, rl = PRESETS["elsayed_code"], PRESETS["elsayed_rl_code"]
    assert (code.learning_rate, code.weight_decay, code.utility_decay, code.noise) == (1e-5, 1e-3, 0.999, 1e-3)
    assert (rl.form, rl.learning_rate, rl.eps, rl.step_factor) == ("adam", 3e-4, 1e-5, 2.0)
