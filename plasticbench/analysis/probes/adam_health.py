"""What the optimizer's means of squared gradients say: how many parameters are idle, or how steady gradients are.

Source: Lyle et al., ICML 2023, arXiv 2303.01486, trace instabilities to these means; the two quantities are this
platform's. Where a reset emptied the means and the count of updates, ``signal`` is up to 3.2 at first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.analysis.probes._totals import pooled
from plasticbench.contracts.network import NetworkView, Shown
from plasticbench.settings import PositiveFloat


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``quantity: idle`` is the share of parameters whose root mean square gradient is at most ``floor``.

    At 1e-8, Adam's usual epsilon, it is epsilon that decides about the step. ``signal`` is the mean of |m| / sqrt(v)
    over all others: near 1 where gradients agree, near 0 where they are noise.
    """

    needs: ClassVar[Shown | None] = "losses"

    quantity: Literal["idle", "signal"] = "idle"
    floor: PositiveFloat = 1e-8

    @torch.no_grad()
    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Shares, or means, ``[M]`` by layer, pooled; empty for optimizers without such means."""
        moments = view.workings.second_moments if view.workings is not None else {}
        parts: dict[str, Tensor] = {}
        sizes: dict[str, int] = {}
        for name, (square, *means) in moments.items():
            layer, root = name.rpartition(".")[0], square.flatten(1).sqrt()
            if self.quantity == "signal" and not means:
                return {}
            is_idle = root <= self.floor
            counted = (
                is_idle if self.quantity == "idle" else torch.where(is_idle, 0.0, means[0].flatten(1).abs() / root)
            )
            parts[layer] = parts.get(layer, 0.0) + counted.sum(1).double()
            sizes[layer] = sizes.get(layer, 0) + root.shape[1]
        return pooled(parts, sizes)
