"""Nearest isometries: the polar factor U V^T of W = U S V^T for many matrices at once.

Source: Newton-Schulz iteration as in Higham, Functions of Matrices (2008), section 8.3, with the coefficients, the
Frobenius start and the iteration count of FIRE (Han et al., ICLR 2026, arXiv 2602.08040).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from plasticbench.learning.treatments._settings import Scale, Solver


def slices(weight: Tensor) -> Tensor:
    """The matrices ``[m, positions, out, in]`` of a linear weight, which has one, or of a convolution's kernel."""
    return weight.reshape(*weight.shape[:3], -1).permute(0, 3, 1, 2)


def project(weights: Sequence[Tensor], *, solver: Solver, iterations: int = 10) -> list[Tensor]:
    """Polar factors of weights ``[*batch, out, in]``, in their shapes and at least single precision.

    Matrices of equal shape, transposed or not, are solved in one batch across all weights. ``svd`` is exact, works in
    double precision, and completes the missing directions of a rank-deficient matrix by orthonormal ones.
    ``newton_schulz`` takes ``iterations`` steps, in which missing directions stay missing.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    wide = [weight.mT if weight.shape[-2] > weight.shape[-1] else weight for weight in weights]
    for position, matrix in enumerate(wide):
        groups.setdefault((matrix.shape[-2:], matrix.device, matrix.dtype), []).append(position)
    factors = list(wide)
    for group in groups.values():
        stack = torch.cat([wide[position].reshape(-1, *wide[position].shape[-2:]) for position in group])
        sizes = [wide[position].shape[:-2].numel() for position in group]
        solved = torch.split(_solve(stack, solver, iterations), sizes)
        for position, factor in zip(group, solved, strict=True):
            factors[position] = factor.view(wide[position].shape)
    transposed = [weight.shape[-2] > weight.shape[-1] for weight in weights]
    return [factor.mT if flip else factor for factor, flip in zip(factors, transposed, strict=True)]


def _solve(stack: Tensor, solver: Solver, iterations: int) -> Tensor:
    precise = stack.to(torch.promote_types(stack.dtype, torch.float32))
    if solver == "newton_schulz":
        return newton_schulz(precise, iterations)
    # LAPACK rejects the whole batch for one matrix that is not finite.
    finite = precise.isfinite().flatten(1).all(1)[:, None, None]
    u, _, vh = torch.linalg.svd(torch.where(finite, precise, 0.0).double(), full_matrices=False)
    return torch.where(finite, torch.matmul(u, vh).to(precise.dtype), torch.nan)


def newton_schulz(x: Tensor, iterations: int) -> Tensor:
    """``X <- 1.5 X - 0.5 X X^T X`` from ``X / ||X||_F``, for ``[B, small, large]``; a zero matrix stays zero.

    A singular value s becomes 1.5 s - 0.5 s^3 at each step, so small ones grow by half per step: 10 steps bring 0.03
    to 0.97 but 0.003 only to 0.17. Square Gaussian matrices of width 512 need 30 steps.
    """
    norm = torch.linalg.matrix_norm(x, keepdim=True)
    x = x / norm.where(norm > 0, 1.0)
    spare, gram = torch.empty_like(x), x.new_empty(x.shape[0], x.shape[1], x.shape[1])
    for _ in range(iterations):
        torch.bmm(x, x.mT, out=gram)
        torch.baddbmm(x, gram, x, beta=1.5, alpha=-0.5, out=spare)
        x, spare = spare, x
    return x


def deviation(weight: Tensor, scale: Tensor) -> Tensor:
    """Deviation from isometry of ``weight / scale``: sum over singular values of (sigma^2 - 1)^2, ``[m]``.

    Of ``[m, out, in]`` or ``[m, out, in, kh, kw]``, averaged over kernel positions; ``scale``: ``[m]``, where 0 counts
    as 1. Uses the smaller Gram matrix, since the larger one can never be the identity.
    """
    matrices = slices(weight).to(torch.promote_types(weight.dtype, torch.float32))
    matrices = matrices / scale.where(scale > 0, 1.0)[:, None, None, None]
    gram = matrices @ matrices.mT if matrices.shape[-2] <= matrices.shape[-1] else matrices.mT @ matrices
    gram.diagonal(dim1=-2, dim2=-1).sub_(1.0)
    return gram.square().sum(dim=(-2, -1)).mean(dim=1)


def project_(weights: Sequence[Tensor], *, solver: Solver, iterations: int, scale: Scale) -> list[Tensor]:
    """Overwrites weights ``[m, out, in]`` or ``[m, out, in, kh, kw]`` by scaled isometries; returns scales ``[m]``."""
    factors = project([slices(weight) for weight in weights], solver=solver, iterations=iterations)
    scales = [_scale(weight, factor, scale) for weight, factor in zip(weights, factors, strict=True)]
    for weight, factor, factor_scale in zip(weights, factors, scales, strict=True):
        factor.mul_(factor_scale[:, None, None, None])
        weight.copy_(factor.permute(0, 2, 3, 1).reshape(weight.shape))
    return scales


def _scale(weight: Tensor, factor: Tensor, scale: Scale) -> Tensor:
    members, positions, out_width, in_width = factor.shape
    match scale:
        case "muon":
            return factor.new_full((members,), math.sqrt(out_width / in_width) / positions)
        case "norm_preserving":
            energy = factor.flatten(1).square().sum(dim=1)
            return (weight.to(factor.dtype).flatten(1).square().sum(dim=1) / energy.where(energy > 0, 1.0)).sqrt()
        case "none":
            return factor.new_ones(members)
