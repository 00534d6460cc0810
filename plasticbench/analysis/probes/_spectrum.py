"""Singular values of the feature matrix, shared by the rank probes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from plasticbench.contracts.network import NetworkView


def singular_values(features: Tensor) -> Tensor:
    """Singular values ``[M, d]`` of ``[M, N, d]`` in float64, descending; NaN for a member with non-finite features.

    They are roots of the eigenvalues of ``F^T F``: several times faster than an SVD for N > d. Values below 1e-8 of the
    largest are noise, less than what float32 features carry themselves.
    """
    wide = features.double()
    gram = wide.mT @ wide
    # LAPACK rejects the whole batch for one diverged member.
    finite = gram.isfinite().flatten(1).all(1)[:, None]
    eigenvalues = torch.linalg.eigvalsh(torch.where(finite[..., None], gram, 0.0)).flip(-1)
    return torch.where(finite, eigenvalues.clamp(min=0.0).sqrt(), torch.nan)


def feature_rank(view: NetworkView, rank: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Applies ``rank``, from singular values ``[M, d]`` to ``[M]``, to the features that enter the output layer.

    All-zero features have rank 0. NaN where there are fewer rows than features, because the rank would then measure the
    batch, and for members with non-finite features. Features are not centred. Only a total; empty without features.
    """
    if view.features is None:
        return {}
    members, rows, width = view.features.shape
    if rows < width:
        return {"": view.features.new_full((members,), torch.nan)}
    if "singular_values" not in view.shared:
        view.shared["singular_values"] = singular_values(view.features)
    sigma = view.shared["singular_values"]
    total = sigma.sum(-1)
    return {"": torch.where(total > 0.0, rank(sigma), total)}
