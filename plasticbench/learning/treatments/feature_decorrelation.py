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
from plasticbench.learning.treatments._penalty import last_features
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


COSTS = "0.9 to 1.9 times as long as with none, because the products of all pairs of features are formed"
PRESETS = {"clean": Config(), "correlations": Config(of="correlations")}


class FeatureDecorrelation:
    """Its gradient goes back to the weights with that of the loss."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_backward(self, net: NetworkState, state: State, look: Look) -> Mapping[str, Tensor]:
        """Of the update's rows."""
        from plasticbench.learning.members import column

        name, passed_on = last_features(look)
        features = passed_on.flatten(2)
        pull = covariance_pull(features, is_scaled=self.config.of == "correlations")
        return {name: pull.mul_(column(self.config.strength, pull)).view_as(passed_on)}


def mean_squared_covariance(features: Tensor, *, is_scaled: bool) -> Tensor:
    """Of ``[m, N, units]``, over all pairs of two different units: ``[m]``."""
    others = _between(_centred(features, is_scaled=is_scaled)[0])
    return others.square().sum(dim=(1, 2)) / _pairs(features)


def covariance_pull(features: Tensor, *, is_scaled: bool) -> Tensor:
    """The gradient ``[m, N, units]`` of ``mean_squared_covariance``.

    With z the centred (and scaled) features and C their covariances without the diagonal it is 4 z C / (N pairs), for
    each member. A scale of one over the deviation takes the part along z out, and divides by the deviation.
    """
    z, deviation = _centred(features, is_scaled=is_scaled)
    pull = (z @ _between(z)).mul_(4 / (features.shape[1] * _pairs(features)))
    if deviation is not None:
        pull = pull.sub_(z * (pull * z).mean(dim=1, keepdim=True)).div_(deviation)
    return pull


def _centred(features: Tensor, *, is_scaled: bool) -> tuple[Tensor, Tensor | None]:
    """Features without their means over the rows; with ``is_scaled`` divided by their deviations, the second result."""
    centred = features - features.mean(dim=1, keepdim=True)
    if not is_scaled:
        return centred, None
    deviation = (centred.square().mean(dim=1, keepdim=True) + _SILENT).sqrt_()
    return centred.div_(deviation), deviation


def _between(z: Tensor) -> Tensor:
    """Mean products over the rows ``[m, units, units]``, with zeros on the diagonal."""
    covariance = (z.transpose(1, 2) @ z).div_(z.shape[1])
    covariance.diagonal(dim1=1, dim2=2).zero_()
    return covariance


def _pairs(features: Tensor) -> int:
    return max(features.shape[2] * (features.shape[2] - 1), 1)
