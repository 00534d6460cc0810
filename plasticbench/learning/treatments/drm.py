"""DrM's perturbation: shrink and perturb that goes as far as the network is dormant.

Source: Xu et al., ICLR 2024, arXiv 2310.19668: all parameters become f times the old plus (1 - f) times fresh ones,
with f = 1 - rate x (share of dormant units), held between 0.2 and 0.9; a unit is dormant at 0.025 of its layer's mean.
The paper's exploration by dormancy is a matter of its agent and not part of this. The bounds are those of the authors'
code; ``mentor`` (Huang et al. 2024, arXiv 2410.14972) perturbs by 0.05 at least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, OptimizerRule, Report, State, TargetRule, TemperatureRule
from plasticbench.learning.treatments._selection import initial_values
from plasticbench.learning.units import require_unit_layers
from plasticbench.settings import Fraction, Ge, PerMember, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``rate`` by which dormancy is weighed; ``least_kept`` and ``most_kept``: bounds of the factor of the old.

    ``tau``: up to which share of its layer's mean a unit counts as dormant. Normalisations are left alone.
    """

    exchanges_units: ClassVar[bool] = True
    looks_at: ClassVar[tuple[str, ...]] = ("activations",)

    rate: Annotated[float, Ge(0), PerMember] = 2.0
    least_kept: Annotated[Fraction, PerMember] = 0.2
    most_kept: Annotated[Fraction, PerMember] = 0.9
    tau: Annotated[float, Ge(0), PerMember] = 0.025
    optimizer: OptimizerRule = "reset_touched"
    target: TargetRule = "sync"
    temperature: TemperatureRule = "keep"

    def build(self) -> Drm:
        """The treatment."""
        return Drm(self)


PRESETS = {
    "clean": Config(),
    "paper": Config(optimizer="keep", target="same_operation"),
    "mentor": Config(most_kept=0.95),
}


class Drm:
    """Shrinks and perturbs weights and biases of all layers."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """Measures ``dormant_share`` and the factor ``kept``, ``[m]``.

        Raises ``ValueError`` for a network without units that can be judged.
        """
        import torch

        from plasticbench.learning.members import column
        from plasticbench.learning.unit_scores import dormancy_scores, is_dormant

        config = self.config
        activations = look.activations
        dormant = []
        for layer in require_unit_layers(net, "drm"):
            scores = dormancy_scores(activations[layer.name], layer.activation)
            dormant.append(is_dormant(scores, column(config.tau, scores)))
        share = torch.cat(dormant, dim=1).float().mean(dim=1)
        low, high = (torch.as_tensor(bound, device=share.device) for bound in (config.least_kept, config.most_kept))
        kept = torch.minimum(torch.maximum(1 - config.rate * share, low), high)
        fresh = initial_values(net.layers, "fresh")
        for layer in net.layers:
            for name, parameter in layer.parameters.items():
                parameter.value.lerp_(fresh[name], column(1 - kept, parameter.value))
        return Report(touched=set(fresh), measurements={"dormant_share": share, "kept": kept})
