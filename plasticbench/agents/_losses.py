"""Losses as pure functions of tensors with a leading member dimension; each returns one value per member."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Loss = Literal["huber", "squared"]


def max_target(reward: Tensor, terminated: Tensor, next_target_q: Tensor, discount: float | Tensor) -> Tensor:
    """Q-learning target ``r + discount (1 - terminated) max_a Q'(s', a)`` (Mnih et al. 2015, eq. 2).

    ``reward``, ``terminated``, and ``discount`` where it is no number: ``[M, B]``; ``next_target_q``:
    ``[M, B, actions]``. Truncation still bootstraps. Over several steps ``r`` is their discounted sum.
    """
    return _bootstrapped(reward, terminated, next_target_q.amax(dim=-1), discount)


def double_target(
    reward: Tensor, terminated: Tensor, next_online_q: Tensor, next_target_q: Tensor, discount: float | Tensor
) -> Tensor:
    """Double Q-learning target: the online network chooses, the target network values (van Hasselt et al. 2016)."""
    choice = next_online_q.argmax(dim=-1, keepdim=True)
    return _bootstrapped(reward, terminated, next_target_q.gather(-1, choice).squeeze(-1), discount)


def _bootstrapped(reward: Tensor, terminated: Tensor, value: Tensor, discount: float | Tensor) -> Tensor:
    if isinstance(discount, Tensor):
        return torch.addcmul(reward, discount * (1 - terminated), value)
    return torch.addcmul(reward, 1 - terminated, value, value=discount)


def q_learning_loss(q: Tensor, action: Tensor, target: Tensor, loss: Loss, huber_threshold: float) -> Tensor:
    """Loss of the chosen actions' values, mean over the batch: ``[M]``.

    ``huber`` is half the squared error up to the threshold and linear beyond (Huber 1964; Mnih et al. 2015 clip the
    error to 1, which has the same gradient); ``squared`` is the whole squared error, as PyTorch's ``mse_loss``.

    ``q``: ``[M, B, actions]``; ``action``: ``[M, B]`` int64; ``target``: ``[M, B]``, taken as constant.
    """
    chosen = q.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    if loss == "squared":
        return (chosen - target).square().mean(dim=1)
    return torch.nn.functional.huber_loss(chosen, target, reduction="none", delta=huber_threshold).mean(dim=1)


def q_learning_pull(q: Tensor, action: Tensor, target: Tensor, loss: Loss, huber_threshold: float) -> Tensor:
    """Gradient of the sum of ``q_learning_loss`` over members in the values ``q`` ``[M, B, actions]``.

    Bit for bit what autograd finds.
    """
    index = action.unsqueeze(-1)
    error = q.gather(-1, index).squeeze(-1) - target
    slope = 2 * error if loss == "squared" else error.clamp(-huber_threshold, huber_threshold)
    return torch.zeros_like(q).scatter_add_(-1, index, (slope * (1.0 / error.shape[1])).unsqueeze(-1))


def entropy_target(
    reward: Tensor,
    terminated: Tensor,
    next_q: Tensor,
    next_log_prob: Tensor,
    temperature: Tensor,
    discount: float | Tensor,
) -> Tensor:
    """Target of SAC: ``r + discount (1 - terminated) (Q'(s', a') - alpha log pi(a'|s'))``.

    Haarnoja et al. 2018 (arXiv 1812.05905), eq. 2 and 3. All ``[M, B]`` but ``temperature`` ``[M]``. Over several steps
    the entropies between them are left out, as in stable-baselines3.
    """
    soft_value = next_q - temperature.unsqueeze(1) * next_log_prob
    return reward + discount * (1 - terminated) * soft_value


def squared_loss(q: Tensor, target: Tensor) -> Tensor:
    """Half the squared error of ``[M, B]``, mean over the batch: ``[M]`` (Haarnoja et al. 2018, eq. 5)."""
    return 0.5 * (q - target).square().mean(dim=1)


def policy_loss(q: Tensor, log_prob: Tensor, temperature: Tensor) -> Tensor:
    """``alpha log pi(a|s) - Q(s, a)`` of the policy's own actions, mean over the batch: ``[M]`` (ibid., eq. 7).

    ``q``, ``log_prob``: ``[M, B]``; ``temperature``: ``[M]``.
    """
    return (temperature.unsqueeze(1) * log_prob - q).mean(dim=1)


def temperature_loss(weight: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """``-weight (log pi + target entropy)``, mean over the batch: ``[M]`` (ibid., eq. 18), from ``[M]`` and ``[M, B]``.

    ``weight`` is alpha, or its logarithm. Falls with alpha where the policy is more random than the target.
    """
    return -weight * (log_prob.mean(dim=1) + target_entropy)


def smallest(values: Sequence[Tensor]) -> Tensor:
    """The smallest of one or two critics' values ``[M, B, 1]``, as ``[M, B]``."""
    return (values[0] if len(values) == 1 else torch.minimum(*values)).squeeze(-1)


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean ``[M]`` of the rows of ``[M, B]`` that weigh something, 0 where none does."""
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1.0)


def normalised(advantage: Tensor, weight: Tensor) -> Tensor:
    """Advantages ``[M, B]`` with mean 0 and deviation 1 over the rows of each member that weigh something."""
    centred = advantage - weighted_mean(advantage, weight).unsqueeze(1)
    variance = (centred.square() * weight).sum(dim=1) / (weight.sum(dim=1) - 1).clamp_min(1.0)
    return centred / (variance.sqrt().unsqueeze(1) + 1e-8)


def clipped_policy_loss(log_ratio: Tensor, advantage: Tensor, clip: float, weight: Tensor) -> Tensor:
    """PPO's objective, negative: ``max(-A r, -A clip(r, 1 - clip, 1 + clip))`` with ``r = exp(log_ratio)``: ``[M]``.

    Schulman et al. 2017 (arXiv 1707.06347), eq. 7. All ``[M, B]``; the mean is over rows that weigh something.
    """
    ratio = log_ratio.exp()
    loss = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))
    return weighted_mean(loss, weight)


def value_loss(value: Tensor, before: Tensor, target: Tensor, clip: float | None, weight: Tensor) -> Tensor:
    """Half the squared error of values ``[M, B]``: ``[M]``.

    With ``clip`` the larger of two errors counts, that of the value and that of the value held within ``clip`` of what
    it was ``before`` (OpenAI baselines' ppo2).
    """
    error = (value - target).square()
    if clip is not None:
        held = before + (value - before).clamp(-clip, clip)
        error = torch.maximum(error, (held - target).square())
    return 0.5 * weighted_mean(error, weight)
