"""DASH: weights that point where the loss no longer falls are shrunk, those along the descent are kept.

Source: Shin et al., NeurIPS 2024, arXiv 2410.23495: a running mean of negative gradients, and at the event each
direction of the weights is multiplied by its cosine with it, held between ``least_kept`` and 1. A direction is the
incoming weights of a unit, the kernel between two channels, or a layer's biases. The authors take the mean over a pass
through the old and the new data; here it follows the gradients of the updates themselves, since replay has no passes:
no reference for reinforcement learning is known. Nothing is perturbed. Constants are those of FIRE's vision code (Han
et al., ICLR 2026, arXiv 2602.08040).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, OptimizerRule, Report, State, TargetRule
from plasticbench.learning.treatments._selection import split
from plasticbench.settings import Fraction, Gt, Le, PerMember, Settings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``alpha``: weight of an update's gradient in the running mean; ``least_kept``: what is left at least.

    ``layers``: all, hidden, encoder, head, or a glob pattern on layer names.
    """

    alpha: Annotated[float, Gt(0), Le(1)] = 0.1
    least_kept: Annotated[Fraction, PerMember] = 0.3
    layers: str = "all"
    optimizer: OptimizerRule = "reset_touched"
    target: TargetRule = "sync"

    def build(self) -> Dash:
        """The treatment."""
        return Dash(self)


PRESETS = {
    "clean": Config(),
    "long_memory": Config(alpha=0.01),
    "strong": Config(alpha=0.3, least_kept=0.05),
    # FIRE's vision code, warm start; there the mean is taken over a pass through the new data, from one event on.
    "fire_vision_cifar10": Config(alpha=0.3, least_kept=0.05, optimizer="reset"),
    "fire_vision_cifar100": Config(alpha=0.1, least_kept=0.05, optimizer="reset"),
    "fire_vision_tiny_imagenet": Config(alpha=0.3, least_kept=0.1, optimizer="reset"),
}


class Dash:
    """The state: the running mean of negative gradients ``[m, ...]`` by parameter."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def init(self, net: NetworkState) -> State:
        """No gradient was seen yet."""
        selected = split(net, self.config.layers)[0]
        return {name: p.value.new_zeros(p.value.shape) for layer in selected for name, p in layer.parameters.items()}

    def on_gradient(self, net: NetworkState, state: State, look: Look) -> None:
        """``mean = (1 - alpha) mean - alpha gradient``."""
        parameters = net.parameters
        for name, mean in state.items():
            gradient = parameters[name].gradient
            assert gradient is not None
            mean.mul_(1 - self.config.alpha).sub_(gradient, alpha=self.config.alpha)

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """``value *= clip(cosine, least_kept, 1)`` for each direction."""
        import torch

        from plasticbench.learning.members import column

        parameters = net.parameters
        for name, mean in state.items():
            value = parameters[name].value
            cosine = _cosine(value, mean)
            least = column(self.config.least_kept, cosine)
            value.mul_(torch.maximum(cosine, torch.as_tensor(least, dtype=value.dtype, device=value.device)))
        return Report(touched=set(state))


def _cosine(value: Tensor, mean: Tensor) -> Tensor:
    """Of each direction of ``[m, out, in]``, ``[m, out, in, kh, kw]`` or ``[m, out]``, with dimensions of 1 for it."""
    dims = {2: (1,), 3: (2,), 5: (3, 4)}[value.ndim]
    product = (value * mean).sum(dim=dims, keepdim=True)
    lengths = value.norm(dim=dims, keepdim=True) * mean.norm(dim=dims, keepdim=True)
    cosine: Tensor = product / lengths.clamp_min(1e-12)
    return cosine
