"""InFeR: the features go on to know what random heads said of them at the start, at a larger scale.

Source: Lyle, Rowland & Dabney, ICLR 2022, arXiv 2204.09560: the loss plus strength times the mean squared difference
between what auxiliary linear heads say on the features, and ``scale`` times what the same heads said at initialisation
on the features of the first weights. Features that still tell inputs apart keep their rank. The heads are trained as
well: here by an Adam of their own, with a learning rate of its own, because the network's optimizer has no place for
them. They have no bias, and are drawn from the treatment's own stream. It needs a pass through the first weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, State
from plasticbench.learning.treatments._penalty import last_features
from plasticbench.settings import Ge, PerMember, PositiveFloat, PositiveInt, Settings

if TYPE_CHECKING:
    from torch import Tensor

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``strength`` of the penalty, ``heads`` that each say one number, and the ``scale`` of what they are asked for.

    ``head_learning_rate`` is that of the heads alone.
    """

    strength: Annotated[float, Ge(0), PerMember] = 0.1
    heads: PositiveInt = 10
    scale: PositiveFloat = 100.0
    head_learning_rate: PositiveFloat = 1e-3

    def build(self) -> Infer:
        """The treatment."""
        return Infer(self)


COSTS = "1.4 to 1.9 times as long as with none, because of a pass through the first weights"
PRESETS = {"clean": Config()}


class Infer:
    """The state, after the first update: ``first`` heads and those of now ``[m, heads, units]``, and their moments."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def init(self, net: NetworkState) -> State:
        """How many updates the heads had; their width is known when features are seen."""
        import torch

        weight = net.layers[0].weight.value
        return {"updates": weight.new_zeros(len(weight), dtype=torch.int64)}

    def on_backward(self, net: NetworkState, state: State, look: Look) -> Mapping[str, Tensor]:
        """The penalty's gradient; trains the heads one step."""
        from plasticbench.learning.members import column

        name, passed_on = last_features(look)
        features = passed_on.flatten(2)
        if "heads" not in state:
            self._begin(state, look, features)
        first, heads = state["first"], state["heads"]
        beginning = {key: parameter.original for key, parameter in net.parameters.items()}
        at_first = list(look.evaluate(beginning, look.inputs)[1].values())[-1].flatten(2)  # type: ignore[arg-type]
        error = features @ heads.mT - (at_first @ first.mT).mul_(self.config.scale)
        error.mul_(column(2 * self.config.strength / error[0].numel(), error))
        pull = (error @ heads).view_as(passed_on)
        self._train(state, error.mT @ features)
        return {name: pull}

    def _begin(self, state: State, look: Look, features: Tensor) -> None:
        """Draws the heads, each weight within one over the root of the number of features."""
        import numpy as np
        import torch

        members, _, units = features.shape
        bound, shape = units**-0.5, (self.config.heads, units)
        drawn = [look.rng(member).uniform(-bound, bound, shape).astype(np.float32) for member in range(members)]
        state["first"] = torch.from_numpy(np.stack(drawn)).to(features.device)
        state["heads"] = state["first"].clone()
        state["mean"], state["square"] = torch.zeros_like(state["first"]), torch.zeros_like(state["first"])

    def _train(self, state: State, gradient: Tensor) -> None:
        """Adam's step of the heads."""
        state["updates"] += 1
        count = state["updates"].view(-1, 1, 1).double()
        mean = state["mean"].lerp_(gradient, 1 - _BETA1)
        square = state["square"].mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        root = (square / (1 - _BETA2**count)).sqrt_().add_(_EPS)
        state["heads"] -= self.config.head_learning_rate * (mean / (1 - _BETA1**count) / root).to(mean.dtype)
