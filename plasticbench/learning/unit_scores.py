"""How much each unit of a layer does, on a batch: what probes report and treatments act on."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.linalg import vector_norm

from plasticbench.learning.activations import ACTIVATIONS, by_unit

# Scores are never negative: at tau 0 a score counts that rounding alone keeps above it.
TOLERANCE = 1e-8
# A layer of silent units has mean 0: all its scores must be 0, not 0/0.
_EPSILON = 1e-9


def mean_magnitude(activation: Tensor, nonlinearity: str = "relu") -> Tensor:
    """Mean magnitude of each unit, ``[M, units]`` in double precision, of ``[M, N, units]`` or ``[M, N, units, h, w]``.

    A convolution's unit is a channel, whose mean runs over rows and positions; a unit that the nonlinearity passes on
    twice is one unit.
    """
    if nonlinearity in ACTIVATIONS and ACTIVATIONS[nonlinearity].width_factor > 1:
        activation = by_unit(activation, nonlinearity)
    dims = [dim for dim in range(activation.ndim) if dim not in (0, 2)]
    # The 1-norm is the sum of magnitudes, without a copy of all of them.
    sums: Tensor = vector_norm(activation, ord=1, dim=dims)
    return sums.double() / math.prod(activation.shape[dim] for dim in dims)


def dormancy_scores(activation: Tensor, nonlinearity: str = "relu") -> Tensor:
    """Mean magnitude of each unit over its layer's mean, ``[M, units]`` >= 0 (Sokar et al. 2023, arXiv 2302.12902)."""
    magnitude = mean_magnitude(activation, nonlinearity)
    return magnitude / (magnitude.mean(-1, keepdim=True) + _EPSILON)


def is_dormant(score: Tensor, tau: float | Tensor) -> Tensor:
    """Whether scores ``[M, units]`` are at most ``tau``, a number or ``[M, 1]``."""
    return torch.le(score, tau + TOLERANCE)


def gradient_scores(gradient: Tensor) -> Tensor:
    """Mean magnitude of the gradient of each unit's incoming weights over its layer's mean, ``[M, units]`` >= 0.

    Of gradients ``[M, units, in, ...]``; after Liu et al. 2025 (arXiv 2505.24061).
    """
    magnitude = gradient.abs().double().mean(dim=tuple(range(2, gradient.ndim)))
    return magnitude / (magnitude.mean(-1, keepdim=True) + _EPSILON)
