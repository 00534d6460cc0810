"""How far weights are from an isometry, as a penalty that can be followed downhill."""

from __future__ import annotations

from torch import Tensor


def isometry_gradient(weight: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    """Gradient, in the shape of ``weight``, of ||W W^T - scale I||_F^2 (Parseval), summed over the batch.

    ``weight``: ``[*batch, out, in]``, or with five dimensions kernels ``[m, out, in, kh, kw]``, which are taken as
    matrices ``(out, in kh kw)``. ``scale``: a number, or one for each matrix ``[*batch]``. Only the smaller Gram matrix
    is formed: 4 (W W^T - scale I) W equals 4 W (W^T W - scale I), since the two penalties differ by a constant.
    """
    matrix = weight.flatten(2) if weight.ndim == 5 else weight
    is_tall = matrix.shape[-2] > matrix.shape[-1]
    gram = matrix.mT @ matrix if is_tall else matrix @ matrix.mT
    gram.diagonal(dim1=-2, dim2=-1).sub_(scale.unsqueeze(-1) if isinstance(scale, Tensor) else scale)
    gradient = matrix @ gram if is_tall else gram @ matrix
    return gradient.mul_(4).view(weight.shape)
