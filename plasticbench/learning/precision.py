"""How exactly products within passes are made; weights, gradients, moments and losses are kept in float32 always."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from plasticbench.contracts.learner import Precision


def rounding(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Inside, matrix products and convolutions read and give numbers of this precision."""
    if precision == "float32":
        return nullcontext()
    # Weights change between passes, so nothing that was cast is kept.
    return torch.autocast(device.type, getattr(torch, precision), cache_enabled=False)
