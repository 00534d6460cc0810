"""Shares of single activations, for probes that count entries rather than units."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from plasticbench.analysis.probes._totals import pooled
from plasticbench.contracts.network import NetworkView


def share_of_entries(view: NetworkView, holds: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Share ``[M]`` of the hidden layers' activations for which ``holds``, an elementwise test, is true.

    Every row, unit and position is one entry. The total pools entries, so a convolution weighs as much as it has
    positions. The output layer is left out. A NaN activation passes no test.
    """
    hidden = {layer.name: layer.activation for layer in view.layers if layer.activation is not None}
    # Summing into float32 is several times faster than into int64, and exact up to 2^24 entries.
    counts = {name: holds(act).flatten(1).sum(1, dtype=torch.float32).double() for name, act in hidden.items()}
    return pooled(counts, {name: math.prod(activation.shape[1:]) for name, activation in hidden.items()})
