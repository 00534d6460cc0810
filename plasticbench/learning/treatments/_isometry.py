"""How far a weight is from a scaled isometry, as a gradient that needs no autograd.

Source: the penalty of AdamO (Rosseau et al., ICML 2026, arXiv 2606.09762), which for wide matrices is that of Parseval
regularisation (Chung et al., NeurIPS 2024, arXiv 2412.07224).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # treatments are listed without torch
    from torch import Tensor


def isometry_gradient(weight: Tensor, scale: float) -> Tensor:
    """Gradient of ``||G - scale I||_F^2``, G the smaller Gram matrix: ``4 (G - scale I) W`` or ``4 W (G - scale I)``.

    In the shape of ``weight``: ``[*batch, out, in]``, or a convolution's ``[m, out, in, kh, kw]``, which counts as
    matrices ``out x (in kh kw)``. The larger Gram matrix can never be a multiple of the identity.
    """
    matrix = weight.flatten(2) if weight.ndim == 5 else weight
    is_wide = matrix.shape[-2] <= matrix.shape[-1]
    gram = matrix @ matrix.mT if is_wide else matrix.mT @ matrix
    gram.diagonal(dim1=-2, dim2=-1).sub_(scale)
    gradient = gram @ matrix if is_wide else matrix @ gram
    return gradient.mul_(4.0).reshape(weight.shape)
