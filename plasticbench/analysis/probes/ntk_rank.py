"""Effective rank of the empirical neural tangent kernel: in how many directions outputs can still be moved apart.

Source: Jacot, Gabriel, Hongler, NeurIPS 2018, arXiv 1806.07572 (the kernel); Lyle et al., "Disentangling the causes of
plasticity loss in neural networks", 2024, arXiv 2402.18762 (its rank). K_ij is the product of the gradients of the sum
of all outputs at rows i and j; the rank is exp of the entropy of its eigenvalues (Roy & Vetterli 2007).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._kernels import effective_number, tangent_spectrum
from plasticbench.contracts.network import NetworkView, Shown
from plasticbench.settings import PositiveInt


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``rows`` of the probe batch; their gradients take ``rows`` times the memory of the weights."""

    needs: ClassVar[Shown | None] = "losses"

    rows: PositiveInt = 64

    def working_bytes(self, weight_bytes: int, pass_bytes: int) -> int:
        """Gradients of all rows, one by one and then as a matrix."""
        return 2 * self.rows * weight_bytes

    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """A number in [1, rows] per member, 0 for outputs that nothing moves, as total only."""
        if view.workings is None:
            return {}
        return {"": effective_number(tangent_spectrum(view, view.workings, self.rows))}
