"""Weights scaled back to a size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from plasticbench.contracts.network import LayerState

if TYPE_CHECKING:
    from torch import Tensor

Sizes = Literal["initial", "unit_rows"]
"""The Frobenius norm of a whole matrix at initialisation, or length 1 for the weights of each unit."""


def norms(weight: Tensor, size: Sizes) -> Tensor:
    """Of ``[m, out, in, ...]``, with dimensions of 1 where a norm is over them."""
    import torch

    dims = tuple(range(1 if size == "initial" else 2, weight.ndim))
    found: Tensor = torch.linalg.vector_norm(weight, dim=dims, keepdim=True)
    return found


def initial_sizes(layers: Iterable[LayerState], size: Sizes) -> dict[str, Tensor]:
    """What the weights of these layers are brought back to, by layer."""
    sizes: dict[str, Tensor] = {}
    for layer in layers:
        assert layer.weight.original is not None
        first = norms(layer.weight.original, size)
        sizes[layer.name] = first if size == "initial" else first.new_ones(first.shape)
    return sizes


def project(weight: Tensor, sizes: Tensor, size: Sizes, rate: Any = 1.0) -> None:
    """``weight *= (size / norm)^rate``, a factor of one where the norm is 0."""
    from plasticbench.learning.members import column

    found = norms(weight, size)
    factor = (sizes / found).masked_fill_(found == 0, 1.0)
    weight.mul_(factor.pow_(column(rate, factor)))
