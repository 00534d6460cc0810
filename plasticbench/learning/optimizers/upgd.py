"""UPGD: gradient descent with noise, each weight held back by how useful it is.

Source: Elsayed & Mahmood, ICLR 2024, arXiv 2404.00781. ``U <- b U + (1 - b) (-g w)`` is what a weight is worth, and
``s = sigmoid(U / max U)``; ``w <- (1 - lr wd) w - lr (g + noise) (1 - s)``. ``form: adam`` puts Adam's direction in
the place of g. U is corrected for its start as Adam's moments are, and the maximum is over all weights of a member;
the authors' code (github.com/mohmdelsayed/upgd) takes the maximum of the uncorrected U, and twice the learning rate,
because half of a step is what a weight of no utility gets. A maximum that is not above 0 counts as hardly above 0,
where the published quotient would turn its sign.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from plasticbench.learning.optimizer import BaseSettings, FlatParameters, completed
from plasticbench.seeding import Streams
from plasticbench.settings import Ge, HalfOpenFraction, NonNegativeFloat, PerMember, PositiveFloat, Settings

_LEAST_UTILITY = 1e-30


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``noise`` is a standard deviation, of what is added to the gradient; what is left out is the agent's own setting.

    ``scope``: utilities are divided by the member's largest, or by the norm of those along the last dimension of their
    tensor. ``gates``: utility holds back the whole step, or its noise alone. ``maximum`` is of corrected or uncorrected
    utilities; ``step_factor`` multiplies the learning rate, in the step but not in the decay.
    """

    form: Literal["sgd", "adam"] = "sgd"
    noise: Annotated[float, Ge(0), PerMember] = 1e-3
    utility_decay: HalfOpenFraction = 0.999
    scope: Literal["global", "local"] = "global"
    gates: Literal["step", "noise"] = "step"
    maximum: Literal["corrected", "uncorrected"] = "corrected"
    step_factor: PositiveFloat = 1.0
    learning_rate: PositiveFloat | None = None
    beta1: HalfOpenFraction = 0.9
    beta2: HalfOpenFraction = 0.999
    eps: PositiveFloat | None = None
    weight_decay: NonNegativeFloat | None = None

    def inert(self) -> dict[str, str]:
        """Settings without effect under the current values, and why."""
        inert = dict.fromkeys(("beta1", "beta2", "eps"), "form sgd has no moments") if self.form == "sgd" else {}
        return inert if self.scope == "global" else inert | {"maximum": "scope local divides by norms"}

    def build(self, network: FlatParameters, base: BaseSettings) -> PopulationUPGD:
        """The optimizer of all parameters."""
        return PopulationUPGD(network, completed(self, base))


_CODE = Config(maximum="uncorrected", step_factor=2.0)
PRESETS = {
    "clean": Config(),
    "elsayed_code": replace(_CODE, learning_rate=1e-5, weight_decay=1e-3),
    "elsayed_rl_code": replace(_CODE, form="adam", learning_rate=3e-4, eps=1e-5),
}


class PopulationUPGD:
    """Elementwise but for one maximum per member; noise is drawn from each member's own stream."""

    def __init__(self, network: FlatParameters, config: Config) -> None:
        self.network, self.config = network, config
        names = ["utility", *(["exp_avg", "exp_avg_sq"] if config.form == "adam" else ())]
        self.moments = {name: torch.zeros_like(network.flat) for name in names}
        self.second_moments = frozenset({"exp_avg_sq"}) & frozenset(self.moments)
        self.steps = torch.zeros(len(network.slots), network.num_members, dtype=torch.int64)
        self._buffer = np.zeros(network.flat.numel(), dtype=np.float32)
        self._streams: Sequence[Streams] = ()
        self._stream = ""
        self.rebuild()

    def draw_from(self, streams: Sequence[Streams], stream: str) -> None:
        """The noise of member m comes from ``streams[m][stream]``; must be called before the first step."""
        self._streams, self._stream = streams, stream

    def rebuild(self) -> None:
        """Takes up the steps; must follow every change of them from outside."""
        sizes = torch.tensor([(slot.stop - slot.start) // self.network.num_members for slot in self.network.slots])
        row = torch.arange(self.steps.numel()).repeat_interleave(sizes.repeat_interleave(self.network.num_members))
        self._row = row.to(self.network.flat.device)  # of each weight, that of its parameter and member in the steps
        self._member = self._row % self.network.num_members
        self._counts = self.steps.flatten().to(self.network.flat.device, torch.float64)

    def step(self) -> None:
        """One update from the gradients in ``network.flat_grad``."""
        self.steps += 1
        self._counts += 1
        rngs = [streams[self._stream] for streams in self._streams]
        self._update(self.network.flat, self.network.flat_grad, self.moments, self._counts, rngs)

    def preview(self, gradients: Tensor) -> Tensor:
        """The change (flat) that a step with these flat gradients would make; nothing is modified."""
        weights = self.network.flat.clone()
        moments = {name: moment.clone() for name, moment in self.moments.items()}
        rngs = [copy.deepcopy(streams[self._stream]) for streams in self._streams]
        self._update(weights, gradients, moments, self._counts + 1, rngs)
        return weights - self.network.flat

    @torch.no_grad()
    def _update(
        self,
        weights: Tensor,
        gradients: Tensor,
        moments: Mapping[str, Tensor],
        counts: Tensor,
        rngs: Sequence[np.random.Generator],
    ) -> None:
        config: Any = self.config
        utility = moments["utility"].lerp_(-gradients * weights, 1 - config.utility_decay)
        openness = self._scaled(utility, utility * self._correction(config.utility_decay, counts)).neg_().sigmoid_()
        direction, noise = self._direction(gradients, moments, counts), self._noise(rngs)
        if config.gates == "step":
            change = direction.add(noise).mul_(openness)
        else:
            change = direction + openness * noise
        weights.mul_(1 - config.learning_rate * (config.weight_decay or 0.0))
        weights.sub_(change, alpha=config.step_factor * config.learning_rate)

    def _correction(self, decay: float, counts: Tensor) -> Tensor:
        """What makes up for a running mean's start at 0, flat."""
        return (1 / (1 - decay**counts)).float().index_select(0, self._row)

    def _direction(self, gradients: Tensor, moments: Mapping[str, Tensor], counts: Tensor) -> Tensor:
        config: Any = self.config
        if config.form == "sgd":
            return gradients
        mean = moments["exp_avg"].lerp_(gradients, 1 - config.beta1)
        squares = moments["exp_avg_sq"].mul_(config.beta2).addcmul_(gradients, gradients, value=1 - config.beta2)
        root = (squares * self._correction(config.beta2, counts)).sqrt_().add_(config.eps)
        return mean.mul(self._correction(config.beta1, counts)).div_(root)

    def _scaled(self, utility: Tensor, corrected: Tensor) -> Tensor:
        """Utilities as multiples of the largest of the member, or of the norm along their last dimension."""
        if self.config.scope == "local":
            for slot in self.network.slots:
                own = slot.view(corrected)
                own.div_(vector_norm(own, dim=-1, keepdim=True).clamp_min(_LEAST_UTILITY))
            return corrected
        judged = corrected if self.config.maximum == "corrected" else utility
        num_members = self.network.num_members
        largest = [judged[slot.start : slot.stop].view(num_members, -1).amax(1) for slot in self.network.slots]
        maxima = torch.stack(largest).amax(0).clamp_min(_LEAST_UTILITY)
        return corrected.div_(maxima.index_select(0, self._member))

    def _noise(self, rngs: Sequence[np.random.Generator]) -> Tensor | float:
        """Flat; every member draws for its parameters in their order."""
        noise: Any = self.config.noise
        if not isinstance(noise, Tensor) and noise == 0:
            return 0.0
        assert len(rngs) == self.network.num_members, "draw_from comes before the first step"
        for slot in self.network.slots:
            size = (slot.stop - slot.start) // len(rngs)
            for member, rng in enumerate(rngs):
                begin = slot.start + member * size
                rng.standard_normal(out=self._buffer[begin : begin + size], dtype=np.float32)
        drawn = torch.from_numpy(self._buffer).to(self.network.flat.device, copy=True)
        return drawn.mul_(noise.index_select(0, self._member) if isinstance(noise, Tensor) else noise)
