"""Parseval regularisation: hidden layers are drawn towards isometries of one scale, so that they stay well conditioned.

Source: Chung, Cherif, Meger & Precup, NeurIPS 2024, arXiv 2412.07224: the loss plus strength ||W W^T - scale I||_F^2 of
each hidden layer, where scale is the squared gain of the orthogonal initialiser, 2 in their code. It multiplies the
strength by (64 / width)^2, since 64 is the width it was tuned for: preset ``chung``. FIRE's vision code (Han et al.,
ICLR 2026, arXiv 2602.08040) has scale 1 and all layers: preset ``fire_vision``. Kernels count as matrices
(out, in kh kw). Where a layer has more units than inputs W^T W is used, as AdamO (Rosseau et al. 2026, arXiv
2606.09762) does; the gradient is the same, but that penalty can reach 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, State
from plasticbench.learning.treatments._selection import split
from plasticbench.settings import Ge, Gt, PerMember, PositiveInt, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``strength`` of the penalty; ``scale``: what the squared singular values are drawn to.

    ``layers``: hidden (all but the output layer), all, encoder, head, or a glob pattern on layer names. With a
    ``reference_width`` the strength of a layer is multiplied by (reference_width / units)^2.
    """

    strength: Annotated[float, Ge(0), PerMember] = 1e-3
    scale: Annotated[float, Gt(0), PerMember] = 2.0
    layers: str = "hidden"
    reference_width: PositiveInt | None = None

    def build(self) -> Parseval:
        """The treatment."""
        return Parseval(self)


COSTS = "1.6 to 2.1 times as long as with none, because of the Gram matrix of every layer"
PRESETS = {
    "clean": Config(),
    "chung": Config(reference_width=64),
    "fire_vision": Config(scale=1.0, layers="all"),
    "fire_vision_cifar100": Config(strength=1e-5, scale=1.0, layers="all"),
}


class Parseval:
    """Adds the penalty's gradient to that of the loss."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_gradient(self, net: NetworkState, state: State, look: Look) -> None:
        """``gradient += 4 strength (W W^T - scale I) W`` of the selected weights ``[m, out, in, ...]``."""
        from plasticbench.learning.members import column
        from plasticbench.learning.treatments._isometry import isometry_gradient

        config = self.config
        for layer in split(net, config.layers)[0]:
            assert layer.weight.gradient is not None
            pull = isometry_gradient(layer.weight.value, config.scale)
            factor = (config.reference_width / pull.shape[1]) ** 2 if config.reference_width else 1.0
            layer.weight.gradient.add_(pull.mul_(column(config.strength * factor, pull)))
