"""TRAC: Adam whose way from the first weights is scaled anew at every step, by what its directions have been worth.

Source: Muppidi, Zhang, Yang, NeurIPS 2024, arXiv 2405.16642; ``clean`` is the authors' code
(github.com/ComputationalRobotics/TRAC). With d the way so far divided by its scale S, u Adam's step and h = <d, g> over
all parameters: ``v_j <- beta_j^2 v_j + h^2``, ``sigma_j <- beta_j sigma_j - h``,
``s_j = initial_scale erfi(sigma_j / (sqrt(2 v_j) + eps)) / erfi(1 / sqrt(2))``, S is the sum of the s_j or 0, and the
weights become ``reference + S (d + u)``.

The way is kept, and not the reference, so that what is too small to show in a weight is not lost to rounding. What
others do to weights moves the reference with them, and a parameter whose moments are cleared starts at its weights of
then. Only a whole network that starts anew gets a new S. The argument of erfi is held within 6, whose scale no training
reaches, where the published code overflows.

S is 0 while the sum of the s_j is not above it. Then the weights are the reference, d and h are 0, and a network stays
there until its sigma_j have faded: for good, as training goes. That is the published algorithm: in its authors' own log
of LunarLander (logs/trac_LunarLander-v2.text there) the sum is below 0 from update 20,419 to the last, 78,970. There
one tuner has policy and value together; here each network has its own, so with PPO an actor may stop while its critic
goes on, and ``trunk: shared`` has one for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plasticbench.learning.optimizer import BaseSettings, FlatParameters, completed
from plasticbench.learning.optimizers import adam
from plasticbench.learning.optimizers._members import by_member
from plasticbench.settings import HalfOpenFraction, NonNegativeFloat, PositiveFloat, Settings

_BETAS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
_LARGEST_ARGUMENT = 6.0
_TERMS = 160  # of erfi's series, all of one sign; the rest is below 1e-15 of the sum at the largest argument
_N = torch.arange(1, _TERMS, dtype=torch.float64)
_SERIES = (1 / _N, 1 / (2 * _N + 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """A learning rate, ``eps`` or weight decay that is left out is the agent's own.

    ``initial_scale``: of what the first step is worth; it multiplies every scale. ``tuner_eps`` guards the quotients.
    """

    can_capture: ClassVar[bool] = False
    initial_scale: PositiveFloat = 1e-8
    tuner_eps: PositiveFloat = 1e-8
    learning_rate: PositiveFloat | None = None
    beta1: HalfOpenFraction = 0.9
    beta2: HalfOpenFraction = 0.999
    eps: PositiveFloat | None = None
    weight_decay: NonNegativeFloat | None = None

    def build(self, network: FlatParameters, base: BaseSettings) -> PopulationTRAC:
        """The optimizer of all parameters."""
        return PopulationTRAC(network, self, completed(adam.Config.within(self), base))


COSTS = "1.3 to 1.6 times as long as with none, because of dot products over all weights"
PRESETS = {"clean": Config()}


def erfi(x: Tensor) -> Tensor:
    """The imaginary error function of float64 numbers within 6 by its series, which torch does not have."""
    divisors, weights = (numbers.to(x.device) for numbers in _SERIES)
    powers = (x.square().unsqueeze(-1) * divisors).cumprod(-1)  # x^2n / n!
    return (powers @ weights).add_(1).mul_(x).mul_(2 / math.sqrt(math.pi))


_UNIT = erfi(torch.tensor(1 / math.sqrt(2), dtype=torch.float64)).item()


class PopulationTRAC(adam.PopulationAdam):
    """Adam, and per member the sums ``[M, 6]`` and the scale ``[M]`` of its way, the moment ``way``."""

    is_capturable = False  # its series comes from the host

    def __init__(self, network: FlatParameters, config: Config, settings: adam.Config) -> None:
        super().__init__(network, settings)
        self._tuning = config
        self.moments["way"] = torch.zeros_like(network.flat)
        self._before, self._taken = torch.empty_like(network.flat), torch.empty_like(network.flat)
        device = network.flat.device
        self._betas = torch.tensor(_BETAS, dtype=torch.float64, device=device)
        self._squared_betas = self._betas.square()
        zeros = torch.zeros(network.num_members, len(_BETAS), dtype=torch.float64, device=device)
        self.member_state = {"variance": zeros, "sigma": zeros.clone(), "scale": zeros[:, 0].clone()}
        self.restart(slice(None))

    def restart(self, members: slice) -> None:
        """The tuner of these members becomes a new one; their moments are cleared as well."""
        start = {"variance": 0.0, "sigma": self._tuning.tuner_eps, "scale": self._tuning.initial_scale}
        for name, value in start.items():
            self.member_state[name][members] = value

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients in ``network.flat_grad``."""
        flat, way, before, taken = self.network.flat, self.moments["way"], self._before, self._taken
        before.copy_(flat)
        super().step()
        new = self._tuned(self.network.flat_grad, torch.sub(flat, before, out=taken), self.member_state)
        torch.add(before, torch.sub(new, way, out=flat), out=flat)
        way.copy_(new)

    @torch.no_grad()
    def ahead(self, gradients: Tensor) -> Tensor:
        """The weights (flat) that a step with these flat gradients would lead to; nothing is modified."""
        state = {name: value.clone() for name, value in self.member_state.items()}
        way = self._tuned(gradients, super().ahead(gradients) - self.network.flat, state)
        return self.network.flat + (way - self.moments["way"])

    def _tuned(self, gradients: Tensor, step: Tensor, state: dict[str, Tensor]) -> Tensor:
        """The way (flat) after Adam's ``step``, in the place of it; writes the tuner's ``state``."""
        eps = self._tuning.tuner_eps
        variance, sigma, scale = state["variance"], state["sigma"], state["scale"]
        before = scale + eps
        ways = by_member(self.network, self.moments["way"])
        products = map(_dot, ways, by_member(self.network, gradients))
        h = (torch.stack(list(products)).sum(0).double() / before).unsqueeze(1)
        variance.mul_(self._squared_betas).addcmul_(h, h)
        sigma.mul_(self._betas).sub_(h)
        arguments = (sigma / (math.sqrt(2) * variance.sqrt() + eps)).clamp(-_LARGEST_ARGUMENT, _LARGEST_ARGUMENT)
        worth = erfi(arguments).sum(1).mul_(self._tuning.initial_scale / _UNIT)
        scale.copy_(worth.clamp_min_(0.0))
        kept, taken = (scale / before).float().unsqueeze(1), scale.float().unsqueeze(1)
        for own, moved in zip(ways, by_member(self.network, step), strict=True):
            moved.mul_(taken).addcmul_(own, kept)
        return step


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Of each member's row ``[M, size]``, ``[M]``."""
    return torch.bmm(x.unsqueeze(1), y.unsqueeze(2)).flatten()
