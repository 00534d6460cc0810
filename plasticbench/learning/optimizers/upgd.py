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
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from plasticbench.learning.optimizer import BaseSettings, FlatParameters, completed
from plasticbench.learning.optimizers._members import by_member, by_slot, multiply
from plasticbench.seeding import Streams
from plasticbench.settings import Ge, HalfOpenFraction, NonNegativeFloat, PerMember, PositiveFloat, Settings

_LEAST_UTILITY = 1e-30


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``noise`` is a standard deviation, of what is added to the gradient.

    A learning rate, ``eps`` or weight decay that is left out is the agent's own.

    ``scope``: utilities are divided by the member's largest, or by the norm of those along the last dimension of their
    tensor. ``gates``: utility holds back the whole step, or its noise alone. ``maximum`` is of corrected or uncorrected
    utilities; ``step_factor`` multiplies the learning rate, in the step but not in the decay.
    """

    can_capture: ClassVar[bool] = False
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
COSTS = "1.5 to 1.8 times as long as with none, because every weight gets a normal number"
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
        self._scratch = [torch.empty_like(network.flat) for _ in range(4 if config.form == "adam" else 2)]
        self._noise = torch.empty(network.flat.shape)
        self._generators = [torch.Generator() for _ in range(network.num_members)]
        self._streams: Sequence[Streams] = ()
        self._stream = ""
        self.rebuild()

    def draw_from(self, streams: Sequence[Streams], stream: str) -> None:
        """The noise of member m comes from ``streams[m][stream]``; must be called before the first step."""
        self._streams, self._stream = streams, stream

    def rebuild(self) -> None:
        """Takes up the steps; must follow every change of them from outside."""
        is_common = bool((self.steps == self.steps[:1]).all())
        self._parts = by_member if is_common else by_slot
        counts = self.steps[:1] if is_common else self.steps
        self._counts = counts.to(self.network.flat.device, torch.float64)

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
        utility = moments["utility"].mul_(config.utility_decay)
        utility.addcmul_(gradients, weights, value=config.utility_decay - 1)
        openness = self._scaled(utility, self._correction(config.utility_decay, counts)).sigmoid_()
        direction = self._direction(gradients, moments, counts)
        if config.gates == "step":
            change = self._with_noise(direction, rngs, None).mul_(openness)
        else:
            change = self._with_noise(direction, rngs, openness)
        if config.weight_decay:
            weights.mul_(1 - config.learning_rate * config.weight_decay)
        weights.sub_(change, alpha=config.step_factor * config.learning_rate)

    def _correction(self, decay: float, counts: Tensor) -> Tensor:
        """What makes up for a running mean's start at 0, ``[slots, M]``, or ``[1, M]`` if all slots have one count."""
        return (1 / (1 - decay**counts)).float()

    def _direction(self, gradients: Tensor, moments: Mapping[str, Tensor], counts: Tensor) -> Tensor:
        config: Any = self.config
        if config.form == "sgd":
            return gradients
        mean = moments["exp_avg"].lerp_(gradients, 1 - config.beta1)
        squares = moments["exp_avg_sq"].mul_(config.beta2).addcmul_(gradients, gradients, value=1 - config.beta2)
        root, direction = self._scratch[2:]
        self._times(squares, self._correction(config.beta2, counts), root).sqrt_().add_(config.eps)
        return self._times(mean, self._correction(config.beta1, counts), direction).div_(root)

    def _scaled(self, utility: Tensor, correction: Tensor) -> Tensor:
        """Utilities as negative multiples of the largest of the member, or of the norm along their last dimension."""
        if self.config.scope == "local":
            corrected = self._times(utility, -correction, self._scratch[0])
            for slot in self.network.slots:
                own = slot.view(corrected)
                own.div_(vector_norm(own, dim=-1, keepdim=True).clamp_min(_LEAST_UTILITY))
            return corrected
        each = torch.stack([own.amax(1) for own in self._parts(self.network, utility)])
        judged = each * correction if self.config.maximum == "corrected" else each
        largest = judged.amax(0).clamp_min(_LEAST_UTILITY)
        return self._times(utility, -correction / largest, self._scratch[0])

    def _times(self, flat: Tensor, factors: Tensor, out: Tensor) -> Tensor:
        """Into ``out``: every number times the factor, ``[slots or 1, M]``, of its slot and member."""
        parts, products = self._parts(self.network, flat), self._parts(self.network, out)
        multiply(parts, factors.expand(len(parts), -1).unbind(), products)
        return out

    def _with_noise(self, direction: Tensor, rngs: Sequence[np.random.Generator], gate: Tensor | None) -> Tensor:
        """Direction plus noise, each number of which is multiplied by the ``gate``; flat."""
        deviation, out = cast("Any", self.config).noise, self._scratch[1]
        if not isinstance(deviation, Tensor) and deviation == 0:
            return out.copy_(direction)
        drawn = self._drawn(rngs)
        if isinstance(deviation, Tensor):
            drawn, deviation = self._times(drawn, deviation.unsqueeze(0), out), 1.0
        return torch.add(direction, drawn if gate is None else drawn.mul_(gate), alpha=deviation, out=out)

    def _drawn(self, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Normal numbers, flat: those of a member are of a generator that its stream seeds, parameter after parameter.

        That takes a third of the time in which the stream itself would draw them.
        """
        assert len(rngs) == self.network.num_members, "draw_from comes before the first step"
        for generator, rng in zip(self._generators, rngs, strict=True):
            generator.manual_seed(int(rng.integers(2**63)))
        for own in by_slot(self.network, self._noise):
            for member, generator in enumerate(self._generators):
                own[member].normal_(generator=generator)
        return self._noise.to(self.network.flat.device)
