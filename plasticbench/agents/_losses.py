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
