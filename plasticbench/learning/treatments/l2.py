"""L2 penalty: every parameter is pulled towards zero through the loss, as far as the optimizer lets the pull count.

Source: the loss plus strength ||theta||^2 over all parameters, biases and normalisations too; the baseline of Lyle et
al. 2024 (arXiv 2402.18762), who pair it with LayerNorm, and of most papers on plasticity. What PyTorch calls
``weight_decay`` of Adam is a gradient of weight_decay theta, so twice this strength. Decay that does not pass through
the optimizer is ``adamw``: under Adam the two differ. ``juliani_ash`` is a baseline of Juliani & Ash 2024 (arXiv
2405.19153), ``loss_of_plasticity_rl`` the decay beside continual backprop in its authors' reinforcement learning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, State
from plasticbench.settings import Ge, PerMember, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``strength`` of the penalty."""

    strength: Annotated[float, Ge(0), PerMember] = 1e-4

    def build(self) -> L2:
        """The treatment."""
        return L2(self)


PRESETS = {
    "clean": Config(),
    "juliani_ash": Config(strength=1e-3),
    "loss_of_plasticity_rl": Config(strength=5e-5),
}


class L2:
    """Adds the penalty's gradient to that of the loss."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_gradient(self, net: NetworkState, state: State, look: Look) -> None:
        """``gradient += 2 strength value`` of every parameter ``[m, ...]``."""
        from plasticbench.learning.members import column

        factor = 2 * self.config.strength
        for parameter in net.parameters.values():
            assert parameter.gradient is not None
            parameter.gradient.add_(parameter.value * column(factor, parameter.value))
