"""How exactly products within passes are made; weights, gradients, moments and losses are float32 always."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from plasticbench.contracts.learner import Precision


def rounded(
    precision: Precision,
    forward: Callable[[Tensor, list[Tensor] | None, Any], Tensor],
    x: Tensor,
    activations: list[Tensor] | None,
    parameters: Any,
) -> Tensor:
    """A pass whose matrix products and convolutions read numbers of this precision; what it shows is float32 again."""
    shown: list[Tensor] | None = None if activations is None else []
    # Weights change between passes, so nothing that was cast is kept.
    with torch.autocast(x.device.type, getattr(torch, precision), cache_enabled=False):
        outputs = forward(x, shown, parameters)
    if activations is not None:
        activations += [passed_on.float() for passed_on in shown or ()]
    return outputs.float()
