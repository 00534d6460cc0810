"""Losses against numbers worked out by hand."""

import pytest
import torch

from plasticbench.agents._losses import (
    double_target,
    entropy_target,
    max_target,
    policy_loss,
    q_learning_loss,
    q_learning_pull,
    squared_loss,
    temperature_loss,
)


def test_max_target_bootstraps_from_the_largest_next_value_unless_terminated():
    reward = torch.tensor([[1.0, 1.0]])
    terminated = torch.tensor([[0.0, 1.0]])
    next_q = torch.tensor([[[2.0, 3.0], [5.0, 7.0]]])
    target = max_target(reward, terminated, next_q, discount=0.5)
    assert target.tolist() == [[2.5, 1.0]]


def test_double_target_values_the_online_choice_with_the_target_network():
    online = torch.tensor([[[0.0, 1.0]]])
    target_q = torch.tensor([[[10.0, 4.0]]])
    target = double_target(torch.zeros(1, 1), torch.zeros(1, 1), online, target_q, discount=1.0)
    assert target.tolist() == [[4.0]]


ERRORS = torch.tensor([[[1.0, 9.0], [0.0, 3.0]]]), torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.0]])  # 0.5 and 3


@pytest.mark.parametrize(
    ("loss", "threshold", "expected"),
    [
        ("huber", 1.0, (0.5 * 0.25 + 2.5) / 2),
        ("huber", 2.0, (0.5 * 0.25 + 2.0 * (3.0 - 1.0)) / 2),
        ("huber", 10.0, (0.5 * 0.25 + 0.5 * 9.0) / 2),
        ("squared", 1.0, (0.25 + 9.0) / 2),
    ],
)
def test_q_learning_loss_is_quadratic_up_to_the_threshold_and_linear_beyond_or_the_whole_square(
    loss, threshold, expected
):
    assert q_learning_loss(*ERRORS, loss, threshold).item() == pytest.approx(expected)


def test_the_default_loss_is_bit_equal_to_the_smooth_l1_loss_of_version_0_1():
    generator = torch.Generator().manual_seed(0)
    q, target = (3 * torch.randn(2, 500, generator=generator) for _ in range(2))
    twins = [q.clone().requires_grad_() for _ in range(2)]
    ours = q_learning_loss(twins[0].unsqueeze(-1), torch.zeros(2, 500, dtype=torch.int64), target, "huber", 1.0)
    theirs = torch.nn.functional.smooth_l1_loss(twins[1], target, reduction="none").mean(dim=1)
    ours.sum().backward()
    theirs.sum().backward()
    assert torch.equal(ours, theirs)
    assert torch.equal(twins[0].grad, twins[1].grad)


@pytest.mark.parametrize(("loss", "threshold"), [("huber", 1.0), ("huber", 0.3), ("squared", 1.0)])
@pytest.mark.parametrize("rows", [1, 20, 32, 49, 256])
def test_the_pull_of_the_loss_is_what_autograd_finds_bit_for_bit(loss, threshold, rows):
    rng = torch.Generator().manual_seed(rows)
    q = torch.randn(3, rows, 4, generator=rng).requires_grad_()
    action, target = torch.randint(0, 4, (3, rows), generator=rng), 2 * torch.randn(3, rows, generator=rng)
    wanted = (action, target, loss, threshold)
    (expected,) = torch.autograd.grad(q_learning_loss(q, *wanted).sum(), q)
    found = q_learning_pull(q.detach(), *wanted)
    assert torch.equal(found, expected)
    assert torch.equal(found.signbit(), expected.signbit())


def test_q_learning_loss_keeps_members_apart():
    q = torch.zeros(2, 3, 2, requires_grad=True)
    targets = torch.stack((torch.ones(3), torch.zeros(3)))
    q_learning_loss(q, torch.zeros(2, 3, dtype=torch.int64), targets, "huber", 1.0).sum().backward()
    assert q.grad is not None
    assert q.grad[0].abs().sum() > 0
    assert q.grad[1].abs().sum() == 0


def test_entropy_target_adds_the_weighted_surprise_of_the_next_action_unless_terminated():
    reward, terminated = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 1.0]])
    next_q, log_prob = torch.tensor([[4.0, 9.0]]), torch.tensor([[-2.0, -2.0]])
    target = entropy_target(reward, terminated, next_q, log_prob, torch.tensor([0.5]), discount=0.5)
    assert target.tolist() == [[1 + 0.5 * (4 + 0.5 * 2), 1.0]]


def test_squared_loss_is_half_the_mean_squared_error_of_each_member():
    q, target = torch.tensor([[1.0, 5.0], [0.0, 0.0]]), torch.tensor([[2.0, 2.0], [0.0, 4.0]])
    assert squared_loss(q, target).tolist() == [0.5 * (1 + 9) / 2, 0.5 * 16 / 2]


def test_policy_loss_weighs_log_density_by_each_members_temperature():
    q, log_prob = torch.tensor([[1.0, 3.0], [1.0, 3.0]]), torch.tensor([[2.0, 4.0], [2.0, 4.0]])
    assert policy_loss(q, log_prob, torch.tensor([0.5, 2.0])).tolist() == [1.5 - 2, 6.0 - 2]


def test_temperature_loss_vanishes_at_the_target_entropy_and_rises_above_it():
    log_prob = torch.tensor([[1.0, 3.0], [-4.0, -2.0]])  # entropies of -2 and 3 nats
    assert temperature_loss(torch.tensor([0.5, 0.5]), log_prob, -2.0).tolist() == [0.0, 2.5]
