"""AdamO: Adam on the task, and beside it a step of its own towards weights that are isometries.

Source: Rosseau, Müller, Nowé, ICML 2026, arXiv 2606.09762: ``W <- W - lr Adam(task) - lr_iso strength dR/dW`` with
``R = ||G - scale I||_F^2``, G the smaller Gram matrix of W. Adam's moments never see R, whose gradient is that of the
weights before the step. (Not the AdamO of arXiv 2602.05136.) The author's code (github.com/Arosseau) takes half of R,
so its coefficients are twice ours. A convolution is the matrix ``out x (in kh kw)``; the paper's layout is unknown.

Near an isometry an error in a singular value shrinks by ``8 lr_iso strength scale`` of itself per update: by half in
87,000 updates at a learning rate of 1e-3 and the paper's strength.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.linalg import vector_norm

from plasticbench.learning.members import column
from plasticbench.learning.optimizer import BaseSettings, NetworkParameters, completed
from plasticbench.learning.optimizers import adam
from plasticbench.learning.optimizers._matrices import Layers, matrix_slots
from plasticbench.learning.treatments._isometry import isometry_gradient
from plasticbench.settings import Ge, HalfOpenFraction, NonNegativeFloat, PerMember, PositiveFloat, Settings

_NO_PULL = "strength 0 leaves plain Adam"
_LEAST_NORM = 1e-30  # a weight of zeros has a gradient of zeros, and the guard must make 0 of it, not 0/0


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``strength`` and ``scale`` are those of R.

    A learning rate, ``eps`` or weight decay that is left out is the agent's own.

    ``isometry_learning_rate``: by default the learning rate. ``scale``: squared singular values that are aimed at; 2
    is the author's choice for ReLU. ``layers``: by default not the outputs, whose size is that of the values or actions
    that they have to express: a single output would be held at a weight of norm ``sqrt(scale)``.
    """

    strength: Annotated[float, Ge(0), PerMember] = 1e-3
    isometry_learning_rate: NonNegativeFloat | None = None
    scale: PositiveFloat = 1.0
    layers: Layers = "hidden"
    learning_rate: PositiveFloat | None = None
    beta1: HalfOpenFraction = 0.9
    beta2: HalfOpenFraction = 0.999
    eps: PositiveFloat | None = None
    weight_decay: NonNegativeFloat | None = None

    def inert(self) -> dict[str, str]:
        """Settings without effect under the current values, and why."""
        return dict.fromkeys(("isometry_learning_rate", "scale", "layers"), _NO_PULL) if self.strength == 0 else {}

    def build(self, network: NetworkParameters, base: BaseSettings) -> AdamO:
        """The optimizer of all parameters."""
        return AdamO(network, self, completed(adam.Config.within(self), base))


COSTS = "1.5 to 2.3 times as long as with none, because of the Gram matrix of every layer"
PRESETS = {
    "clean": Config(),
    "rosseau": Config(strength=1e-3, learning_rate=1e-4, weight_decay=0.0),
    # Coefficients 0.1 in the fork for RL, 0.01 in the middle of the sweep for language models, on half of R.
    "rosseau_rl_code": Config(strength=0.05, weight_decay=0.0),
    "rosseau_language_code": Config(strength=0.005, scale=2.0, weight_decay=0.0),
}


class AdamO(adam.PopulationAdam):
    """Adam of all parameters, and the isometry step of the chosen layers' weights.

    That step multiplies each singular value s by ``1 - c (s^2 - scale)``, ``c = 4 lr_iso strength``: unguarded it turns
    s over where ``c (s^2 - scale) > 1`` and blows up beyond 2. So c is cut, for each member and layer, to what takes at
    most half of the largest s: ``s_max^2 - scale`` is at most ``sqrt(r) ||(G - scale I) W||_F / ||W||_F`` with r the
    smaller side of W, which costs two norms and is 0 for an isometry. ``c scale`` is cut to 1/2, a Newton-Schulz step.
    """

    def __init__(self, network: NetworkParameters, config: Config, settings: adam.Config) -> None:
        super().__init__(network, settings)
        rate = settings.learning_rate if config.isometry_learning_rate is None else config.isometry_learning_rate
        assert rate is not None
        wanted = torch.as_tensor(config.strength * rate, device=network.flat.device)
        self._rate = wanted.clamp_max(1 / (8 * config.scale))  # [M], or one for all
        self._scale = config.scale
        self._matrices = matrix_slots(network, config.layers)
        self._weights = [slot.view(network.flat) for slot in self._matrices]
        ranks = [[min(slot.shape[1], math.prod(slot.shape[2:]))] for slot in self._matrices]
        self._rank_roots = torch.tensor(ranks, device=network.flat.device).sqrt()  # [layers, 1]

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients in ``network.flat_grad``."""
        pulls = self._pulls()
        super().step()
        torch._foreach_sub_(self._weights, pulls)

    @torch.no_grad()
    def ahead(self, gradients: Tensor) -> Tensor:
        """The weights (flat) that a step with these flat gradients would lead to; nothing is modified."""
        weights = super().ahead(gradients)
        torch._foreach_sub_([slot.view(weights) for slot in self._matrices], self._pulls())
        return weights

    def _pulls(self) -> list[Tensor]:
        """What the isometry step takes from each matrix ``[M, out, in]`` or ``[M, out, in, kh, kw]``."""
        pulls = [isometry_gradient(weight, self._scale) for weight in self._weights]
        norms = [vector_norm(tensor, dim=tuple(range(1, tensor.ndim))) for tensor in (*pulls, *self._weights)]
        of_pulls, of_weights = torch.stack(norms).chunk(2)
        bounds = self._rank_roots * of_pulls / of_weights.clamp_min(_LEAST_NORM)  # [layers, M], of 4 (s_max^2 - scale)
        for pull, rate in zip(pulls, self._rate / (2 * self._rate * bounds).clamp_min(1.0), strict=True):
            pull.mul_(column(rate, pull))
        return pulls
