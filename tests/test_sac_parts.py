"""The parts of SAC: squashed normal, temperature, running statistics, normal numbers."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from plasticbench.agents._running_norm import RunningNorm
from plasticbench.agents._tanh_gaussian import bounded_log_std, sample
from plasticbench.agents._temperature import Temperature
from plasticbench.agents._uniforms import MemberNormals
from plasticbench.seeding import Streams

CPU = torch.device("cpu")


def test_the_log_density_at_the_mean_of_a_unit_normal_is_worked_out_by_hand():
    action, log_prob = sample(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2))
    assert action.tolist() == [[0.0, 0.0]]
    assert log_prob.item() == pytest.approx(-math.log(2 * math.pi))  # two dimensions, slope of tanh 1


def test_actions_and_log_densities_agree_with_torchs_squashed_normal():
    generator = torch.Generator().manual_seed(0)
    mean, log_std, noise = (0.5 * torch.randn(3, 5, 2, generator=generator, dtype=torch.float64) for _ in range(3))
    action, log_prob = sample(mean, log_std, noise)
    reference = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform())
    torch.testing.assert_close(action, torch.tanh(mean + log_std.exp() * noise))
    torch.testing.assert_close(log_prob, reference.log_prob(action).sum(-1), rtol=1e-6, atol=1e-6)


def test_log_densities_and_gradients_stay_finite_far_outside():
    mean = torch.tensor([[200.0], [-200.0]], requires_grad=True)
    action, log_prob = sample(mean, torch.zeros(2, 1), torch.zeros(2, 1))
    log_prob.sum().backward()
    assert action.flatten().tolist() == [1.0, -1.0]
    assert log_prob.tolist() == pytest.approx([400 - 2 * math.log(2) - 0.5 * math.log(2 * math.pi)] * 2)
    assert mean.grad.flatten().tolist() == pytest.approx([2.0, -2.0])


def test_log_std_lies_between_its_bounds_and_starts_in_their_middle():
    bounded = bounded_log_std(torch.tensor([-50.0, 0.0, 50.0]), -10.0, 2.0)
    assert bounded.tolist() == [-10.0, -4.0, 2.0]


def test_temperature_agrees_with_torchs_adam_on_the_loss_of_each_member():
    temperature = Temperature(0.3, 0.01, 2, CPU)
    plain = [torch.tensor(math.log(0.3), requires_grad=True) for _ in range(2)]
    optimizers = [torch.optim.Adam([log_alpha], lr=0.01) for log_alpha in plain]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        log_prob = torch.randn(2, 9, generator=generator)
        loss = temperature.update(log_prob, -1.5)
        for member, (log_alpha, optimizer) in enumerate(zip(plain, optimizers, strict=True)):
            expected = (-log_alpha.exp() * (log_prob[member] - 1.5)).mean()
            optimizer.zero_grad()
            expected.backward()
            optimizer.step()
            assert loss[member].item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)
    assert temperature.value.tolist() == pytest.approx([log_alpha.exp().item() for log_alpha in plain], rel=1e-5)


def test_a_reset_temperature_starts_anew_and_the_others_go_on():
    used, fresh = Temperature(0.5, 0.1, 2, CPU), Temperature(0.5, 0.1, 1, CPU)
    log_prob = torch.tensor([[3.0], [1.0]])
    for _ in range(5):
        used.update(log_prob, -1.0)
    kept = used.value[0].item()
    used.reset([1])
    assert used.value.tolist() == pytest.approx([kept, 0.5])
    for _ in range(3):
        used.update(log_prob, -1.0)
        fresh.update(log_prob[1:], -1.0)
    assert used.value[1].item() == pytest.approx(fresh.value.item(), rel=1e-6)
    assert used.value[0].item() > kept


def test_running_statistics_are_those_of_all_observations_of_the_own_member():
    seen = np.random.default_rng(0).normal(loc=[[[5.0, -3.0]], [[0.0, 100.0]]], scale=2.0, size=(40, 2, 3, 2))
    norm = RunningNorm(2, (2,), CPU)
    for obs in seen:
        norm.update(obs.astype(np.float32))
    probe = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    own = seen.transpose(1, 0, 2, 3).reshape(2, 120, 2)
    expected = (probe.numpy() - own.mean(axis=1, keepdims=True)) / own.std(axis=1, keepdims=True)
    np.testing.assert_allclose(
        norm.apply(probe).numpy(), expected, rtol=2e-3
    )  # the prior weighs 1e-4 of one observation


def test_running_statistics_begin_as_the_identity():
    obs = torch.tensor([[[1.0, -2.0]]])
    torch.testing.assert_close(RunningNorm(1, (2,), CPU).apply(obs), obs)


def test_restored_statistics_go_on_as_the_chosen_parents():
    rng = np.random.default_rng(0)
    norm, twin = RunningNorm(2, (3,), CPU), RunningNorm(3, (3,), CPU)
    norm.update(rng.standard_normal((2, 4, 3)))
    twin.load_state_dict(norm.state_dict(), [1, 0, 1])
    obs = rng.standard_normal((2, 4, 3)).astype(np.float32)
    norm.update(obs)
    twin.update(obs[[1, 0, 1]])
    batch = torch.rand(2, 5, 3)
    assert torch.equal(twin.apply(batch[[1, 0, 1]]), norm.apply(batch)[[1, 0, 1]])


def test_normal_numbers_are_each_members_own_and_go_on_after_a_restore():
    together = MemberNormals([Streams(1), Streams(2)], "noise", (4, 3))
    alone = MemberNormals([Streams(2)], "noise", (4, 3))
    drawn = np.stack([together.draw() for _ in range(100)])
    np.testing.assert_array_equal(drawn[:, 1], np.stack([alone.draw() for _ in range(100)])[:, 0])
    assert drawn.dtype == np.float32
    assert abs(drawn.mean()) < 0.1
    assert drawn.std() == pytest.approx(1, abs=0.05)
    twin = MemberNormals([Streams(0)], "noise", (4, 3))
    twin.load_state_dict(together.state_dict(), [1])
    for _ in range(100):
        np.testing.assert_array_equal(twin.draw()[0], together.draw()[1])
