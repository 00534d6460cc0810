"""From values of layers to the mapping that a probe returns, in which key ``""`` is the network's total."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.linalg import vector_norm


def summed(by_layer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adds the total, a sum over layers; empty if there are no layers."""
    return {"": torch.stack(tuple(by_layer.values())).sum(0), **by_layer} if by_layer else {}


def pooled(parts: Mapping[str, Tensor], sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Parts ``[M]`` over sizes; the total is all parts over all sizes, so that large layers weigh more."""
    return {key: part / sizes.get(key, sum(sizes.values())) for key, part in summed(parts).items()}


def squared_norm(*tensors: Tensor | None) -> Tensor:
    """Sum of squares ``[M]`` over all entries of ``[M, ...]`` tensors; those that are ``None`` count nothing."""
    # vector_norm reads its input once; squaring first would write a copy of every weight.
    squares = [vector_norm(tensor.flatten(1), dim=1).square() for tensor in tensors if tensor is not None]
    return torch.stack(squares).sum(0)
