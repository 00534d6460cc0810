"""Effective rank of the matrix of cosines between the gradients of single rows' losses.

Source: Lyle, Zheng, Nikishin, Avila Pires, Pascanu, Dabney, "Understanding plasticity in neural networks", ICML 2023,
arXiv 2303.01486, who plot the matrix; collinear gradients are a symptom. Here exp of the entropy of its eigenvalues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import normalize

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._kernels import effective_number, eigenvalues, kernel_of
from plasticbench.contracts.network import NetworkView, Shown
from plasticbench.settings import PositiveInt


def cosines(gradients: Tensor) -> Tensor:
    """Cosines ``[M, K, K]`` of rows ``[M, K, P]``; a row of zeros has none, and counts for nothing."""
    return kernel_of(normalize(gradients, dim=-1, eps=1e-30))


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``rows`` of the probe batch."""

    needs: ClassVar[Shown | None] = "losses"

    rows: PositiveInt = 64

    def working_bytes(self, weight_bytes: int, pass_bytes: int) -> int:
        """Gradients of all rows, one by one and then as a matrix."""
        return 2 * self.rows * weight_bytes

    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """A number in [1, rows] per member, 0 where no row has a gradient, as total only."""
        if view.workings is None:
            return {}
        directions = view.workings.output_gradient()[:, : self.rows]
        return {"": effective_number(eigenvalues(cosines(view.workings.row_gradients(directions))))}
