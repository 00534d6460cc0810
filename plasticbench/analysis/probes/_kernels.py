"""Kernels of single rows' gradients, and what their spectra say."""

from __future__ import annotations

import torch
from torch import Tensor

from plasticbench.contracts.network import NetworkView, Workings


def eigenvalues(kernel: Tensor) -> Tensor:
    """Eigenvalues ``[M, K]`` of ``[M, K, K]``, descending, none below 0; NaN for a member with others than numbers."""
    # LAPACK rejects the whole batch for one diverged member.
    finite = kernel.isfinite().flatten(1).all(1)[:, None]
    found = torch.linalg.eigvalsh(torch.where(finite[..., None], kernel.double(), 0.0)).flip(-1).clamp(min=0.0)
    return torch.where(finite, found, torch.nan)


def kernel_of(gradients: Tensor) -> Tensor:
    """Products ``[M, K, K]`` of rows ``[M, K, P]``."""
    return (gradients @ gradients.mT).double()


def tangent_spectrum(view: NetworkView, workings: Workings, rows: int) -> Tensor:
    """Eigenvalues ``[M, K]`` of the tangent kernel of the sum of all outputs on the first ``rows`` of the batch."""
    name = f"tangent_spectrum_{rows}"
    if name not in view.shared:
        with torch.no_grad():
            outputs, _ = workings.forward(workings.parameters, workings.inputs[:, :rows])
        view.shared[name] = eigenvalues(kernel_of(workings.row_gradients(torch.ones_like(outputs))))
    return view.shared[name]


def effective_number(values: Tensor) -> Tensor:
    """exp(entropy) of shares of values ``[M, K]`` >= 0 in their sum: how many of them count; 0 where all are 0."""
    total = values.sum(-1)
    entropy: Tensor = torch.special.entr(values / total[:, None]).sum(-1)
    return torch.where(total > 0.0, entropy.exp(), total)
