"""How much one update changes values: mean magnitude of the change, over all rows and actions.

Source: Tang & Berseth, "Improving deep RL by reducing the chain effect of value and policy churn", NeurIPS 2024, arXiv
2409.04792. The update is the one that the optimizer would make for the probe batch, whose rows are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._one_update import before_and_after
from plasticbench.contracts.network import NetworkView, Shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """No settings. In the units of values."""

    needs: ClassVar[Shown | None] = "values"

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Changes ``[M]`` >= 0, as total only; empty for networks without values."""
        found = before_and_after(view, ("action_values", "values"))
        return {} if found is None else {"": (found[2] - found[1]).abs().flatten(1).mean(1)}
