"""Penalties on what a network does, whose gradient automatic differentiation finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look

if TYPE_CHECKING:
    from torch import Tensor

Outcome = tuple["Tensor", Mapping[str, "Tensor"]]
"""Outputs, and activations by layer."""


def add_penalty(
    net: NetworkState, look: Look, inputs: Tensor, strength: Any, penalty: Callable[[Outcome], Tensor]
) -> None:
    """``gradient += strength d(penalty)/d(value)``; ``penalty`` ``[m]`` is of what the network does on ``inputs``."""
    import torch

    from plasticbench.learning.members import column

    parameters = net.parameters
    with torch.enable_grad():
        values = {name: parameter.value.detach().requires_grad_() for name, parameter in parameters.items()}
        found = penalty(look.evaluate(values, inputs))
        gradients = torch.autograd.grad(found.sum(), list(values.values()), allow_unused=True)
    for parameter, gradient in zip(parameters.values(), gradients, strict=True):
        if gradient is not None:
            assert parameter.gradient is not None
            parameter.gradient.add_(gradient * column(strength, gradient))


def last_features(look: Look) -> tuple[str, Tensor]:
    """The last hidden layer with a nonlinearity, and what it passes on ``[m, N, ...]``."""
    return list(look.activations.items())[-1]
