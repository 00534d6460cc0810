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
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from plasticbench.learning.optimizer import BaseSettings, FlatParameters, completed
from plasticbench.learning.optimizers import adam
from plasticbench.settings import HalfOpenFraction, NonNegativeFloat, PositiveFloat, Settings

_BETAS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
_LARGEST_ARGUMENT = 6.0
_TERMS = 160  # of erfi's series, all of one sign; the rest is below 1e-15 of the sum at the largest argument


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Adam's settings that are left out are the agent's own.

    ``initial_scale``: of what the first step is worth; it multiplies every scale. ``tuner_eps`` guards the quotients.
    """

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


PRESETS = {"clean": Config()}


def erfi(x: Tensor) -> Tensor:
    """The imaginary error function of float64 numbers within 6 by its series, which torch does not have."""
    n = torch.arange(_TERMS, dtype=torch.float64, device=x.device)
    logarithms = n * x.square().clamp_min(1e-300).log().unsqueeze(-1) - torch.lgamma(n + 1) - (2 * n + 1).log()
    return 2 / math.sqrt(math.pi) * x * logarithms.exp().sum(-1)


class PopulationTRAC(adam.PopulationAdam):
    """Adam, and per member the sums ``[M, 6]`` and the scale ``[M]`` of its way, the moment ``way``."""

    def __init__(self, network: FlatParameters, config: Config, settings: adam.Config) -> None:
        super().__init__(network, settings)
        self._tuning = config
        self.moments["way"] = torch.zeros_like(network.flat)
        device = network.flat.device
        self._betas = torch.tensor(_BETAS, dtype=torch.float64, device=device)
        zeros = torch.zeros(network.num_members, len(_BETAS), dtype=torch.float64, device=device)
        self.member_state = {"variance": zeros, "sigma": zeros.clone(), "scale": zeros[:, 0].clone()}
        sizes = torch.tensor([(slot.stop - slot.start) // network.num_members for slot in network.slots])
        owners = torch.arange(network.num_members).repeat(len(network.slots))
        self._owner = owners.repeat_interleave(sizes.repeat_interleave(network.num_members)).to(device)
        self.restart(slice(None))

    def restart(self, members: slice) -> None:
        """The tuner of these members becomes a new one; their moments are cleared as well."""
        start = {"variance": 0.0, "sigma": self._tuning.tuner_eps, "scale": self._tuning.initial_scale}
        for name, value in start.items():
            self.member_state[name][members] = value

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients in ``network.flat_grad``."""
        before = self.network.flat.clone()
        gradients = self.network.flat_grad.clone()
        super().step()
        way = self._tuned(gradients, self.network.flat - before, self.member_state)
        self.network.flat.copy_(before).add_(way - self.moments["way"])
        self.moments["way"].copy_(way)

    @torch.no_grad()
    def ahead(self, gradients: Tensor) -> Tensor:
        """The weights (flat) that a step with these flat gradients would lead to; nothing is modified."""
        state = {name: value.clone() for name, value in self.member_state.items()}
        way = self._tuned(gradients, super().ahead(gradients) - self.network.flat, state)
        return self.network.flat + (way - self.moments["way"])

    def _tuned(self, gradients: Tensor, step: Tensor, state: dict[str, Tensor]) -> Tensor:
        """The way (flat) after Adam's ``step``; writes the tuner's ``state``."""
        eps = self._tuning.tuner_eps
        variance, sigma, scale = state["variance"], state["sigma"], state["scale"]
        direction = self.moments["way"] / (scale + eps).float().index_select(0, self._owner)
        products = direction * gradients
        sums = [p.view(len(scale), -1).sum(1) for p in self._by_slot(products)]
        h = torch.stack(sums).sum(0).double().unsqueeze(1)
        variance.mul_(self._betas.square()).add_(h.square())
        sigma.mul_(self._betas).sub_(h)
        arguments = (sigma / (math.sqrt(2) * variance.sqrt() + eps)).clamp(-_LARGEST_ARGUMENT, _LARGEST_ARGUMENT)
        worth = self._tuning.initial_scale * erfi(arguments) / erfi(self._betas.new_tensor(1 / math.sqrt(2)))
        scale.copy_(worth.sum(1).clamp_min(0.0))
        return direction.add_(step).mul_(scale.float().index_select(0, self._owner))

    def _by_slot(self, flat: Tensor) -> list[Tensor]:
        return [flat[slot.start : slot.stop] for slot in self.network.slots]
