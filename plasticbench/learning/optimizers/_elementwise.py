"""Optimizers that treat every number by itself, so that one call on the whole buffer serves all members."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection

import torch
from torch import Tensor

from plasticbench.learning.optimizer import FlatParameters


class Elementwise(ABC):
    """Moments of zeros under these ``names``; step counts play no part."""

    second_moments: frozenset[str] = frozenset()
    is_capturable = True
    layout = 0

    def __init__(self, network: FlatParameters, names: Collection[str]) -> None:
        self.network = network
        self.moments = {name: torch.zeros_like(network.flat) for name in names}
        self.steps = torch.zeros(len(network.slots), network.num_members, dtype=torch.int64)
        self._counted = self.steps.numpy()  # the same memory, counted in a quarter of the time

    def rebuild(self) -> None:  # noqa: B027 (most need nothing)
        """Nothing depends on the steps."""

    def step(self) -> None:
        """One update from the gradients in ``network.flat_grad``."""
        self.count()
        self._update(self.network.flat, self.network.flat_grad, self.moments)

    def count(self) -> None:
        """One more update of every parameter, on the host."""
        self._counted += 1

    def preview(self, gradients: Tensor) -> Tensor:
        """The change (flat) that a step with these flat gradients would make; nothing is modified."""
        weights = self.network.flat.clone()
        self._update(weights, gradients, {name: moment.clone() for name, moment in self.moments.items()})
        return weights - self.network.flat

    @abstractmethod
    def _update(self, weights: Tensor, gradients: Tensor, moments: dict[str, Tensor]) -> None:
        """Writes the step into ``weights`` and ``moments``."""
