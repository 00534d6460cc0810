"""Kron: what fitting leads to, against a plain loop for every member, and when factors are fitted."""

import math

import pytest
import torch
from plain_training import plain_copy
from treated import BASE, batch, conv_specs, part, train, trained

from plasticbench.learning.network import ParameterSlot
from plasticbench.learning.optimizers.kron import PRESETS, Config, _norm_bound
from plasticbench.seeding import Streams


class Matrix:
    """One parameter ``[2, rows, columns]`` whose gradients a test chooses."""

    def __init__(self, rows, columns):
        self.flat, self.flat_grad = torch.zeros(2 * rows * columns), torch.zeros(2 * rows * columns)
        self.slots, self.num_members = [ParameterSlot("a", 0, 2 * rows * columns, (2, rows, columns))], 2


@pytest.mark.parametrize("triangular_size", [8, 1])
def test_factors_come_to_whiten_what_they_are_fitted_to(triangular_size):
    numbers = Matrix(3, 4)
    config = Config(
        learning_rate=1.0,
        weight_decay=0.0,
        momentum=0.0,
        clip=1e9,
        least_fit_share=1.0,
        triangular_size=triangular_size,
    )
    optimizer = config.build(numbers, BASE)
    optimizer.draw_from([Streams(0), Streams(1)], "noise")
    generator, moves = torch.Generator().manual_seed(0), []
    scales = torch.tensor([10.0, 1.0, 0.1]).view(3, 1)
    for number in range(3000):
        gradient = scales * torch.randn(2, 3, 4, generator=generator)
        numbers.slots[0].view(numbers.flat_grad).copy_(gradient)
        before = numbers.flat.clone()
        optimizer.step()
        if number >= 2000:
            moves.append(numbers.slots[0].view(before - numbers.flat))
    by_row = torch.stack(moves).square().mean(dim=(0, 1, 3)).sqrt()
    assert by_row.tolist() == pytest.approx([1.0] * 3, rel=0.5), (
        "each row's moves have the size 1, whatever its gradient's"
    )


def test_the_bound_is_below_the_largest_eigenvalue_and_near_it():
    x = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(1))
    symmetric = x @ x.mT
    exact = torch.linalg.eigvalsh(symmetric)[:, -1]
    found = _norm_bound(symmetric)
    assert (found <= exact * (1 + 1e-5)).all()
    assert (found >= 0.5 * exact).all()


def plain_fit(left, right, g, v, rate):
    """The published update of one pair of upper triangular factors, in float64."""
    a = left @ g @ right.T
    b = torch.inverse(left).T @ v @ torch.inverse(right)
    new = []
    for factor, first, second in ((left, a @ a.T, b @ b.T), (right, a.T @ a, b.T @ b)):
        total = first + second
        column = total[:, int(torch.diag(total).argmax())]
        size = (total @ (column / column.norm())).norm()
        new.append(factor - rate / size * torch.triu(first - second) @ factor)
    balance = math.sqrt(new[1].abs().max() / new[0].abs().max())
    return new[0] * balance, new[1] / balance


def plain_diagonal_fit(q, g, v, rate):
    first, second = (q * g) ** 2, (v / q) ** 2
    return q - rate / (first + second).max() * (first - second) * q


def test_training_agrees_with_a_plain_loop_for_every_member():
    network = trained([[part("kron", momentum=0.8, clip=0.5)]] * 2)
    plain = [plain_copy(network, member).double() for member in range(2)]
    train(network, 20)
    for seed, module in enumerate(plain):
        rng, held = Streams(seed)["optimizer/q"], {}
        for step in range(1, 21):
            inputs, targets = batch([seed], step)
            module.zero_grad()
            (module(inputs[0].double()) - targets[0].double()).square().mean().backward()
            for name, p in module.named_parameters():
                m = held[name, "m"] = 0.8 * held.get((name, "m"), 0.0) + 0.2 * p.grad
                g = m / (1 - 0.8**step)
                v = torch.from_numpy(
                    rng.standard_normal((1, len(p)) if p.ndim == 1 else tuple(p.shape), dtype="float32")
                )
                if p.ndim == 1:
                    q = plain_diagonal_fit(held.get((name, "q"), torch.ones_like(p)), g, v[0].double(), 0.1)
                    held[name, "q"], direction = q, q**2 * g
                else:
                    eyes = [torch.eye(n, dtype=torch.float64) for n in p.shape]
                    left, right = plain_fit(*held.get((name, "q"), eyes), g, v.double(), 0.1)
                    held[name, "q"], direction = (left, right), left.T @ left @ g @ right.T @ right
                direction = direction * min(1.0, 0.5 / direction.square().mean().sqrt().item())
                with torch.no_grad():
                    p -= BASE.learning_rate * direction
        for name, value in module.named_parameters():
            ours = network.online.parameters[name].detach()[seed]
            torch.testing.assert_close(ours, value.detach().float(), rtol=1e-3, atol=1e-4)


def test_factors_are_fitted_at_every_update_first_and_at_a_falling_share_then():
    network = trained([[part("kron", fit_flat_updates=5, least_fit_share=0.25)]])
    network.optimizer.member_state["updates"].fill_(10_000)  # long after
    fits, factor = [], network.optimizer.member_state["fc1.weight.left"]
    for step in range(1, 13):
        before = factor.clone()
        train(network, 1, first=step)
        fits.append(not torch.equal(factor, before))
    assert fits == [number % 4 == 0 for number in range(1, 13)]


def test_what_starts_anew_gets_new_factors_and_only_a_whole_network_a_new_schedule():
    network = trained([[part("kron")]] * 2)
    train(network, 5)
    held = {name: value.clone() for name, value in network.optimizer.member_state.items()}
    network.clear_moments(slice(1, 2, 1), {"fc1.weight"})
    for name, value in network.optimizer.member_state.items():
        if name.startswith("fc1.weight."):
            assert torch.equal(value[1], torch.eye(len(value[1])))
            assert torch.equal(value[0], held[name][0])
        else:
            assert torch.equal(value, held[name])
    network.clear_moments(slice(1, 2, 1), None)
    new = trained([[part("kron")]] * 2).optimizer.member_state
    for name, value in network.optimizer.member_state.items():
        assert torch.equal(value[0], held[name][0])
        assert torch.equal(value[1], new[name][1])


def test_it_learns_the_toy_task_with_convolutions_too():
    network = trained([[part("kron", learning_rate=3e-3)]], layers=conv_specs())
    losses = []
    for step in range(1, 201):
        inputs, targets = batch([0], step, (3, 6, 6))
        loss = (network.forward(inputs) - targets).square().mean(dim=(1, 2))
        network.descend(loss, step)
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])


def test_the_codes_preset_has_its_learning_rate():
    assert PRESETS["kron_torch"].learning_rate == 3e-4
