"""Gradients of single members held to a largest norm.

Source: Pascanu et al. 2013, arXiv 1211.5063, as ``torch.nn.utils.clip_grad_norm_`` does it: all gradients of a network
are multiplied by ``max_norm / (norm + 1e-6)`` where that is below 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from plasticbench.learning.network import ParameterSlot

_EPSILON = 1e-6


class MemberClipping:
    """Clips flat gradients of M members in place, each by the norm of its own, never over the population."""

    def __init__(self, slots: Sequence[ParameterSlot], max_norm: float, *others: Sequence[ParameterSlot]) -> None:
        """``others``: parameters of further networks of the same members, whose gradients count in the same norm."""
        self._stretches = [[(slot.start, slot.stop, slot.shape[0]) for slot in own] for own in (slots, *others)]
        self._max_norm = max_norm

    def __call__(self, *gradients: Tensor) -> None:
        """``gradients`` are in the layout of the parameters, one buffer for each network."""
        rows = [
            flat[start:stop].view(members, -1)
            for flat, stretches in zip(gradients, self._stretches, strict=True)
            for start, stop, members in stretches
        ]
        norm = torch.stack([torch.linalg.vector_norm(row, dim=1) for row in rows]).norm(dim=0)
        factor = (self._max_norm / (norm + _EPSILON)).clamp(max=1.0).unsqueeze(1)
        for row in rows:
            row.mul_(factor)
