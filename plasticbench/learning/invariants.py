"""What must hold after every reset, whatever the treatment did."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def check_storage(storage_before: Mapping[str, int], parameters: Mapping[str, Tensor]) -> None:
    """Raises ``RuntimeError`` naming a parameter that has moved in memory, was added or is gone.

    Optimizers, CUDA graphs and shared views hold on to the tensors, so a policy may only write into them.

    Args:
        storage_before: ``data_ptr()`` of each parameter before the reset.
        parameters: the same parameters after it.
    """
    for name in sorted(storage_before.keys() ^ parameters.keys()):
        change = "is gone" if name in storage_before else "was added"
        raise RuntimeError(f"{name}: {change} after the reset, which may only write into existing parameters")
    for name, parameter in parameters.items():
        if parameter.data_ptr() != storage_before[name]:
            raise RuntimeError(f"{name}: the reset replaced its storage, but must write in place")


def check_finite(parameters: Mapping[str, Tensor]) -> None:
    """Raises ``RuntimeError`` naming a parameter that holds values that are not finite."""
    for name, parameter in parameters.items():
        if not torch.isfinite(parameter).all():
            raise RuntimeError(f"{name}: holds values that are not finite after the reset")
