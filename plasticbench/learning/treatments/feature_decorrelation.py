"""Feature decorrelation: the features before the output layer are kept from saying the same thing twice.

Source: Mavrin, Yao & Kong 2019, arXiv 1903.07765: the loss plus strength times the squares of the features' covariances
over the batch, each feature with each other one. Ours is the mean over pairs, so that a strength means the same at
every width; ``correlations`` divides by the features' deviations, so that small features are decorrelated as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, State
from plasticbench.learning.treatments._penalty import add_penalty
from plasticbench.settings import Ge, PerMember, Settings

if TYPE_CHECKING:
    from torch import Tensor

_SILENT = 1e-6  # added to variances, so that a unit that never changes has no correlation


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``strength`` of the penalty; ``of``: covariances, as published, or correlations."""

    strength: Annotated[float, Ge(0), PerMember] = 1e-2
    of: Literal["covariances", "correlations"] = "covariances"

    def build(self) -> FeatureDecorrelation:
        """The treatment."""
        return FeatureDecorrelation(self)


PRESETS = {"clean": Config(), "correlations": Config(of="correlations")}


class FeatureDecorrelation:
    """Adds the penalty's gradient to that of the loss; it needs a pass of its own through the network."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_gradient(self, net: NetworkState, state: State, look: Look) -> None:
        """Of the update's rows."""

        def penalty(outcome: tuple[Tensor, Mapping[str, Tensor]]) -> Tensor:
            features = list(outcome[1].values())[-1].flatten(2)
            return mean_squared_covariance(features, is_scaled=self.config.of == "correlations")

        add_penalty(net, look, look.inputs, self.config.strength, penalty)


def mean_squared_covariance(features: Tensor, *, is_scaled: bool) -> Tensor:
    """Of ``[m, N, units]``, over all pairs of two different units: ``[m]``."""
    import torch

    units = features.shape[2]
    centred = features - features.mean(dim=1, keepdim=True)
    if is_scaled:
        centred = centred / (centred.square().mean(dim=1, keepdim=True) + _SILENT).sqrt()
    covariance = centred.transpose(1, 2) @ centred / features.shape[1]
    others = covariance - torch.diag_embed(covariance.diagonal(dim1=1, dim2=2))
    return others.square().sum(dim=(1, 2)) / max(units * (units - 1), 1)
