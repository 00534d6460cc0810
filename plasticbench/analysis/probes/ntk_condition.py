"""Condition number of the empirical neural tangent kernel: how unevenly outputs can be moved.

Source: Rosseau, Müller, Nowé, "dynamical isometry" (AdamO), ICML 2026, arXiv 2606.09762, tie plasticity to it. The
smallest eigenvalue is close to noise: see ``ntk_rank`` too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._kernels import tangent_spectrum
from plasticbench.contracts.network import NetworkView, Shown
from plasticbench.settings import PositiveInt

_FLOOR = 1e-12  # of the largest eigenvalue


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``rows`` of the probe batch. Values end at 1e12; with more rows than weights, or equal rows, they are there."""

    bounds: ClassVar[tuple[float, float]] = (1.0, 1.0 / _FLOOR)
    needs: ClassVar[Shown | None] = "losses"

    rows: PositiveInt = 64

    def working_bytes(self, weight_bytes: int, pass_bytes: int) -> int:
        """Gradients of all rows, one by one and then as a matrix."""
        return 2 * self.rows * weight_bytes

    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Ratios ``[M]`` of the largest to the smallest eigenvalue, NaN where nothing moves, as total only."""
        if view.workings is None:
            return {}
        spectrum = tangent_spectrum(view, view.workings, self.rows)
        largest = spectrum[:, 0]
        return {"": largest / torch.maximum(spectrum[:, -1], _FLOOR * largest)}
