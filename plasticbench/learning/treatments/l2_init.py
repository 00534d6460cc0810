"""L2 towards the initialisation (regenerative regularisation): every parameter is pulled back to where it began.

Source: Kumar, Marklund & Van Roy 2023, arXiv 2308.11958: the loss plus strength ||theta - theta_0||^2 over all
parameters, biases and normalisations too; their single best strength was 0.01 (appendix A.2.5). Other codes mean other
strengths by the same word: ``parseval_reg`` (Chung et al. 2024, arXiv 2412.07224) divides each parameter's square by
its size; FIRE's vision code (Han et al., ICLR 2026, arXiv 2602.08040) halves it, which its preset has in the strength;
``adamo_rl`` is the baseline in the reinforcement learning code of AdamO (Rosseau et al. 2026, arXiv 2606.09762).
Theta_0 is the first initialisation, whatever is reset later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, State
from plasticbench.settings import Ge, PerMember, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``strength`` of the penalty; ``reduction``: of all squares the sum, or of each parameter's squares the mean."""

    strength: Annotated[float, Ge(0), PerMember] = 1e-2
    reduction: Literal["sum", "mean"] = "sum"

    def build(self) -> L2Init:
        """The treatment."""
        return L2Init(self)


PRESETS = {
    "clean": Config(),
    "parseval_reg": Config(strength=1e-3, reduction="mean"),
    "fire_vision": Config(strength=5e-4),
    "adamo_rl": Config(strength=1e-3),
}


class L2Init:
    """Adds the penalty's gradient to that of the loss."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_gradient(self, net: NetworkState, state: State, look: Look) -> None:
        """``gradient += 2 strength (value - original)`` of every parameter ``[m, ...]``."""
        from plasticbench.learning.members import column

        factor = 2 * self.config.strength
        for parameter in net.parameters.values():
            assert parameter.gradient is not None
            assert parameter.original is not None
            pull = parameter.value - parameter.original
            if self.config.reduction == "mean":
                pull.div_(pull[0].numel())
            parameter.gradient.add_(pull.mul_(column(factor, pull)))
