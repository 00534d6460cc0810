"""How much one update changes the policy: the share of rows whose greedy choice changes, or how far means move.

Source: Schaul, Barreto, Quan, Ostrovski, "The phenomenon of policy churn", NeurIPS 2022, arXiv 2206.00730. The update
is the one that the optimizer would make for the probe batch, and its rows are those that are looked at.
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
    """No settings. Of continuous actions the mean Euclidean distance of the means, before any squashing."""

    needs: ClassVar[Shown | None] = "policy"

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Shares, or distances, ``[M]``, as total only; empty for networks that choose nothing."""
        found = before_and_after(view, ("action_values", "logits", "means"))
        if found is None:
            return {}
        meaning, before, after = found
        if meaning == "means":
            return {"": (after - before).norm(dim=-1).flatten(1).mean(1)}
        return {"": (before.argmax(-1) != after.argmax(-1)).flatten(1).double().mean(1)}
