"""Policies that are learnt from their own actions: a choice among a few, or normal in each number of a vector.

Shapes: ``outputs`` ``[M, B, outputs]`` of the actor, actions ``[M, B]`` or ``[M, B, A]``, everything else ``[M, B]``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from plasticbench.contracts.task import BoxActions, DiscreteActions


class Choice:
    """A categorical distribution over ``count`` actions, whose logits the actor gives."""

    num_uniforms = 1

    def __init__(self, actions: DiscreteActions) -> None:
        self._count = actions.count

    def sample(self, outputs: Tensor, uniforms: np.ndarray) -> tuple[Tensor, Tensor]:
        """Actions at the places of uniforms ``[M, B, 1]`` in the summed probabilities, and their log probabilities."""
        log_probs = outputs.log_softmax(-1)
        passed = torch.from_numpy(uniforms).to(outputs.device) >= log_probs.exp().cumsum(-1)
        action = passed.sum(-1).clamp_max_(self._count - 1)  # rounding may leave their sum below 1
        return action, log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def mode(self, outputs: Tensor) -> Tensor:
        """The likeliest actions."""
        return outputs.argmax(-1)

    def judge(self, outputs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Log probabilities of actions, and the policy's entropy in nats."""
        log_probs = outputs.log_softmax(-1)
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        return log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1), entropy

    def to_environment(self, action: Tensor) -> np.ndarray:
        """As the environment takes them."""
        return action.cpu().numpy()


class DiagonalNormal:
    """Normal and independent in each of A numbers: the actor gives means, then logarithms of deviations.

    Actions are clipped to what the environment allows, densities are those before (as in CleanRL and SB3's PPO).
    """

    def __init__(self, actions: BoxActions) -> None:
        self._low, self._high = (np.array(bound, dtype=np.float32) for bound in (actions.low, actions.high))
        self.num_uniforms = len(self._low)

    def sample(self, outputs: Tensor, noise: np.ndarray) -> tuple[Tensor, Tensor]:
        """Actions ``mean + deviation noise`` from standard normal noise ``[M, B, A]``, and their log densities."""
        mean, log_std = outputs.chunk(2, dim=-1)
        drawn = torch.from_numpy(noise).to(outputs.device)
        action = torch.addcmul(mean, log_std.exp(), drawn)
        return action, _log_density(drawn, log_std)

    def mode(self, outputs: Tensor) -> Tensor:
        """The means."""
        return outputs.chunk(2, dim=-1)[0]

    def judge(self, outputs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Log densities of actions, and the policy's entropy in nats."""
        mean, log_std = outputs.chunk(2, dim=-1)
        log_density = _log_density((action - mean) * (-log_std).exp(), log_std)
        return log_density, (log_std + 0.5 * (1 + math.log(2 * math.pi))).sum(-1)

    def to_environment(self, action: Tensor) -> np.ndarray:
        """As the environment takes them."""
        clipped: np.ndarray = np.clip(action.cpu().numpy(), self._low, self._high)
        return clipped


Policy = Choice | DiagonalNormal


def _log_density(standardised: Tensor, log_std: Tensor) -> Tensor:
    return (-0.5 * standardised.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def policy_for(actions: DiscreteActions | BoxActions) -> Policy:
    """The policy over such actions."""
    return DiagonalNormal(actions) if isinstance(actions, BoxActions) else Choice(actions)
