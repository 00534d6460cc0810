"""The policy of SAC: a normal distribution with diagonal covariance, squashed into (-1, 1) by tanh.

Source: Haarnoja et al. 2018, arXiv 1812.05905, appendix C.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

LogStdBound = Literal["squashed", "clipped"]


def bounded_log_std(raw: Tensor, low: float, high: float, how: LogStdBound = "squashed") -> Tensor:
    """``raw`` within [low, high]: squashed smoothly, as in SimBa (Lee et al. 2025) and CleanRL, or clipped.

    A clip, as in Haarnoja et al.'s own code and stable-baselines3, has no gradient outside.
    """
    if how == "clipped":
        return raw.clamp(low, high)
    return low + 0.5 * (high - low) * (1 + torch.tanh(raw))


def sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Actions ``tanh(mean + std noise)`` in (-1, 1), ``[..., A]``, and their log densities ``[...]``.

    ``noise`` is standard normal. The derivative of tanh, ``log(1 - tanh(u)^2)``, is taken as
    ``2 (log 2 - u - softplus(-2u))``, which stays finite for large ``u``.
    """
    before = mean + log_std.exp() * noise
    log_slope = 2 * (math.log(2) - before - torch.nn.functional.softplus(-2 * before))
    log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    return torch.tanh(before), (log_normal - log_slope).sum(dim=-1)
